"""The supervisor, one small process per runs folder. It starts queued runs on free devices and records how workers end.

The program is `engine.background`. It can be killed at any moment, because everything that a new supervisor needs is on disk.
The new supervisor takes over living workers and writes exit.json for workers that have ended in the meantime. A supervisor exits
after a minute with nothing to do. Imports no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.files import LEAST_FREE_BYTES, atomic_write_json, free_bytes, sync
from engine.run import device, locks
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.launcher import Launcher, LocalLauncher, Start
from engine.run.queue import Queue, read_queue
from engine.run.state import (
    FRESH_HEARTBEAT_S,
    KILLED_BY,
    boot_id,
    compute,
    identity,
    is_alive,
    is_waiting,
    is_working,
    modified,
    outcome,
)
from engine.run.waiting import Waiting, as_waiting, changed, cpu_slots_for, in_order, trouble_above

POLL_S = 0.2
# With many waiting runs a tick takes longer. The pause after it is then longer too, so that ticks take at most 1 % of a core.
PAUSE_PER_TICK, LONGEST_PAUSE_S = 100, 2.0
# A click on Launch starts the supervisor before the run is written. It looks more often until it has started the run.
EAGER_S, EAGER_PAUSE_S = 3.0, 0.02
IDLE_S = 60.0
LAST_LINES = 20
RETRY_S = 5.0
OLD_NS = 1_000_000_000  # a file written right after a time stamp was read may have the same time stamp
FAILED_TO_START = "It could not be started and is tried again every few seconds; supervisor.log has the reason."


@dataclass
class Worker:
    """A worker process that this supervisor watches.

    Attributes:
        folder: folder of the run.
        process: content of process.json, which describes the worker.
        child: the worker as a child process; None if an earlier supervisor started the worker.
        oom_kills: result of the function `oom_kills` when this supervisor began to watch the worker. A higher result after the
            worker's end means that memory ran out.
    """

    folder: RunFolder
    process: dict[str, Any]
    child: subprocess.Popen[bytes] | None
    oom_kills: int


def oom_kills() -> int:
    """Return the number of processes that the kernel has killed in this process's control group because memory ran out.

    Return 0 if the number cannot be read.
    """
    try:
        lines = Path("/sys/fs/cgroup/memory.events").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0


def pause_after(tick_s: float) -> float:
    """Return the seconds to wait after a tick that took `tick_s` seconds of CPU time."""
    return min(LONGEST_PAUSE_S, max(POLL_S, PAUSE_PER_TICK * tick_s))


def cause_of(code: int | None, folder: RunFolder, ran_out_of_memory: bool) -> tuple[str, str]:
    """Infer from the exit code why a worker has ended. This is needed if the worker has not written ended.json.

    Args:
        code: exit code of the worker; -N if signal N ended it. None if unknown.
        folder: folder of the run.
        ran_out_of_memory: True if the kernel killed a process for lack of memory while the worker ran.

    Returns:
        The status of the run.
        The cause, as a sentence.
    """
    if folder.request("force").exists():
        return "stopped", "Stopped by force: the process group was killed."
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        if -code == signal.SIGKILL and ran_out_of_memory:
            return "failed", "Out of memory: the kernel killed the worker (signal 9). Use fewer channels or smaller batches."
        return "failed", f"{KILLED_BY} {-code} ({name})."
    last = (folder.last_lines(1) or ["log.txt is empty"])[-1]
    return "failed", f"Exit code {code}: {last}"


class Supervisor:
    """A supervisor, which assigns devices to the queued runs of one folder. `run` calls `tick` repeatedly."""

    def __init__(self, runs: Path, *, lock: locks.Lock | None = None, launcher: Launcher | None = None,
                 cpu_slots: int = device.CPU_SLOTS, idle_s: float = IDLE_S,
                 after_tick: Callable[[bool], bool] = lambda changed: False) -> None:
        """Create a supervisor.

        Args:
            runs: folder of all runs.
            lock: the lock of the folder. `run` returns when the folder is replaced by another. None to run without a lock.
            launcher: the launcher that starts the workers; None for a `LocalLauncher`.
            cpu_slots: number of runs that may use the CPU at the same time, unless the user has chosen another number. Runs of
                studies that use a single thread may use as many CPU cores as there are.
            idle_s: idle seconds before `run` returns.
            after_tick: function that is called after every tick with the result of the tick. It returns True if it did something.
        """
        self.runs, self.lock = runs, lock
        self.after_tick = after_tick
        self.launcher = launcher or LocalLauncher()
        self.cpu_slots = cpu_slots
        self.idle_s = idle_s
        self.workers: dict[str, Worker] = {}
        self._over: set[str] = set()  # finished runs, whose files need not be read again
        self._seen: dict[str, tuple[tuple[int, int], Waiting | None]] = {}  # what is known of a run until its folder changes
        self._above: dict[str, tuple[tuple[int, int], str]] = {}  # status of a parent until its folder changes
        self._queue = Queue()
        self._why: dict[str, str] | None = None
        self._order: list[str] = []
        self._not_before: dict[str, float] = {}  # per run, the earliest time of the next try after a failed start
        self._record = runs / "control" / "supervisor.json"

    def run(self) -> None:
        """Call `tick` about every `POLL_S` seconds. Return when there has been nothing to do for `idle_s` seconds.

        Return at once if the runs folder has been deleted or replaced by another, which this supervisor's lock does not protect.
        """
        last_work = time.monotonic()
        eager_until = last_work + EAGER_S
        self._unregister()  # the record is that of an earlier supervisor
        while self.lock is None or self.lock.is_in_place():
            started = time.process_time()
            self._register()
            did = self._work()
            pause = pause_after(time.process_time() - started)
            if did or self.workers:
                last_work = time.monotonic()
            elif time.monotonic() - last_work > self.idle_s:
                # A client writes its request first and then looks for a supervisor. Therefore one more tick after the record is
                # removed finds every request of a client that still saw this supervisor.
                self._unregister()
                if not self._work(True):
                    return
                last_work = time.monotonic()
            is_eager = not self.workers and time.monotonic() < eager_until
            time.sleep(EAGER_PAUSE_S if is_eager else pause)

    def _register(self) -> None:
        """Write the record by which clients find this supervisor, unless it exists. A full disk does not end the supervisor."""
        if not self._record.exists():
            with trouble_is_logged("supervisor.json"):
                atomic_write_json(self._record, identity(os.getpid()))

    def _unregister(self) -> None:
        with trouble_is_logged("supervisor.json"):
            self._record.unlink(missing_ok=True)

    def _work(self, changed: bool = False) -> bool:
        """Call `tick` and `after_tick`, and return True if one of them did something. Errors are logged and do not propagate."""
        did = more = False
        with trouble_is_logged("supervisor"):
            did = self.tick()
        with trouble_is_logged("studies"):
            more = self.after_tick(did or changed)
        return did or more

    def tick(self) -> bool:
        """Check every running worker once, and start waiting runs if possible. Return True if a worker ended or was started."""
        if not self.runs.is_dir():
            return False
        did = False
        for worker in list(self.workers.values()):
            with trouble_is_logged(worker.folder.id):
                did |= self._watch(worker)
        waiting: list[Waiting] = []
        for run_id in run_ids(self.runs):
            if run_id not in self._over and run_id not in self.workers:
                with trouble_is_logged(run_id):
                    waiting += self._waiting(run_id)
        with trouble_is_logged("control/queue.json"):
            self._queue = read_queue(self.runs)
        waiting = in_order(waiting, self._queue)
        held = {run.folder.id for run in waiting} | self.workers.keys()  # no run starts before these have finished
        why: dict[str, str] = {}
        for run in waiting:
            reason = trouble_above(run.kind, "queued") if run.parent in held else FAILED_TO_START
            if run.parent not in held:
                with trouble_is_logged(run.folder.id):
                    reason = self._start(run)
            if reason:
                why[run.folder.id] = reason
            did |= not reason
        self._write_queue(why)
        return did

    def _waiting(self, run_id: str) -> list[Waiting]:
        """Return [run] if the run waits to be started, else []. The files of a run are read only if its folder has changed."""
        path = f"{self.runs}/{run_id}"  # hundreds of runs may wait, and text is faster than Path
        stamp = changed(path), changed(f"{path}/control")
        seen = self._seen.get(run_id)
        if seen is None or seen[0] != stamp:
            folder = RunFolder(self.runs, run_id)
            known = self._look_at(folder)
            # A file written right after the stamp may have the same time, so the answer is kept only if the stamp is old.
            is_old = time.time_ns() - max(stamp) > OLD_NS
            if is_old and run_id not in self.workers and (known is not None or _has_ended(folder)):
                self._seen[run_id] = (stamp, known)
        else:
            known = seen[1]
        return [] if known is None else [known]

    def _watch(self, worker: Worker) -> bool:
        """Check one worker. Kill it if the user has requested a forced stop, and write exit.json once it has ended.

        Returns:
            True if the worker has ended.
        """
        force = read_json(worker.folder.request("force"))
        if force is not None and force.get("attempt") == worker.process["attempt"] and is_alive(worker.process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(worker.process["pid"]), signal.SIGKILL)
        code = worker.child.poll() if worker.child is not None else None
        if code is None and (worker.child is not None or is_working(worker.folder, worker.process)):
            return False
        if worker.folder.path.is_dir():  # if the user has deleted the run, only its device is freed
            self._bury(worker.folder, worker.process, code, oom_kills() > worker.oom_kills)
        del self.workers[worker.folder.id]
        return True

    def _bury(self, folder: RunFolder, process: dict[str, Any], code: int | None, ran_out_of_memory: bool) -> None:
        """Write exit.json with the status and the cause of a worker's end.

        The status and the cause come from ended.json if the worker has written this file. Otherwise they are inferred from the
        exit code or, without an exit code, from other files of the run.

        Args:
            folder: folder of the run.
            process: content of process.json.
            code: exit code of the worker; None if unknown.
            ran_out_of_memory: True if the kernel killed a process for lack of memory while the worker ran.
        """
        words = read_json(folder.ended_json) or {}
        if words.get("attempt") == process["attempt"]:
            status, cause = str(words.get("status")), str(words.get("cause") or "")
        elif code is not None:
            status, cause = cause_of(code, folder, ran_out_of_memory)
        else:
            status, cause, _ = outcome(folder, process, None)
        with contextlib.suppress(OSError):
            sync(folder.events)  # a killed worker has not done so
        folder.write_json(folder.exit_json, {
            "attempt": process["attempt"], "code": code, "status": status, "cause": cause, "ended": time.time(),
            "last_lines": folder.last_lines(LAST_LINES)})
        if status == "stopped":
            # The request is fulfilled. `resume` also removes it, in case no supervisor was running.
            folder.request("force").unlink(missing_ok=True)

    def _look_at(self, folder: RunFolder) -> Waiting | None:
        """Check a run whose worker this supervisor does not watch.

        If the worker is alive, begin to watch it. If the worker has ended and exit.json does not say so, write exit.json.

        Returns:
            The run if it waits to be started, None if it does not.
        """
        process = read_json(folder.process_json)
        if process is None or is_waiting(folder, process):
            return as_waiting(folder) if folder.exists() and is_waiting(folder, process) else None
        ended = read_json(folder.exit_json) or {}
        if ended.get("attempt") == process.get("attempt"):
            if ended.get("status") == "finished":
                self._over.add(folder.id)
            return None
        if is_working(folder, process):
            self.workers[folder.id] = Worker(folder, process, None, oom_kills())
            return None
        foreign = process.get("boot_id") != boot_id()
        if not (foreign and time.time() - (modified(folder.heartbeat) or 0.0) < FRESH_HEARTBEAT_S):
            self._bury(folder, process, None, False)
        return None

    def _start(self, run: Waiting) -> str:
        """Start a waiting run if nothing stands in its way. Return why it still waits, as a sentence; "" if it was started."""
        folder, free = run.folder, self._free_device(run)
        if reason := self._why_not(run, free):
            return reason
        threads = run.threads or (device.cores() if not self.workers else 1)
        process = read_json(folder.process_json)
        start = Start(1 if process is None else int(process["attempt"]) + 1, free or "", threads)
        self._not_before[folder.id] = time.monotonic() + RETRY_S
        kills = oom_kills()
        child = self.launcher.start(folder, start)
        del self._not_before[folder.id]
        folder.request("resume").unlink(missing_ok=True)
        self.workers[folder.id] = Worker(folder, read_json(folder.process_json) or {}, child, kills)
        return ""

    def _why_not(self, run: Waiting, free: str | None) -> str:
        """Return why a run cannot start now, as a sentence; "" if it can.

        Args:
            run: a run whose parent neither waits nor runs.
            free: device that the run may use; None if there is none.
        """
        if reason := self._trouble_above(run) or self._queue.hold(run.folder.id):
            return reason
        if free is None:
            return self._taken(run)
        if time.monotonic() < self._not_before.get(run.folder.id, 0.0):
            return FAILED_TO_START
        if locks.is_held(run.folder.lock):
            return "Its last worker has not ended yet."
        try:
            run.folder.check_files()
        except RunError as problem:
            return str(problem)
        space = free_bytes(self.runs)
        return "" if space >= LEAST_FREE_BYTES else (
            f"The disk has only {space / 2**20:.0f} MB free. Runs start when it has {LEAST_FREE_BYTES // 2**20} MB.")

    def _trouble_above(self, run: Waiting) -> str:
        """Return a sentence if the parent of a run failed, was stopped or is missing; "" if it has finished.

        The files of an unfinished parent are read only if its folder has changed.
        """
        if run.parent is None or run.parent in self._over:
            return ""
        path = f"{self.runs}/{run.parent}"
        stamp = changed(path), changed(f"{path}/control")
        seen = self._above.get(run.parent)
        if seen is None or seen[0] != stamp:
            above = RunFolder(self.runs, run.parent)
            status = compute(above, with_parent=False).status if above.exists() else "missing"
            seen = (stamp, status)
            if time.time_ns() - max(stamp) > OLD_NS:
                self._above[run.parent] = seen
        return trouble_above(run.kind, seen[1])

    def _free_device(self, run: Waiting) -> str | None:
        """Return the device that a run may use now, or None if it has to wait."""
        busy = [str(worker.process.get("device")) for worker in self.workers.values()]
        return device.free_device(run.device, busy, self._cpu_slots_for(run), self._runs_per_gpu)

    def _taken(self, run: Waiting) -> str:
        """Return a sentence that says which slots are taken, so that a run has to wait."""
        if device.uses_cpu(run.device):
            slots = self._cpu_slots_for(run)
            return "The CPU slot is taken." if slots == 1 else f"All {slots} CPU slots are taken."
        if run.device.startswith("cuda:"):
            return f"{run.device} is taken."
        return "The GPU is taken." if len(device.gpus()) == 1 else "All GPUs are taken."

    @property
    def _runs_per_gpu(self) -> int:
        return self._queue.runs_per_gpu or device.RUNS_PER_GPU

    def _cpu_slots_for(self, run: Waiting) -> int:
        """Return the number of runs that may use the CPU together with a run (see `cpu_slots_for`)."""
        others = (worker.process.get("threads") for worker in self.workers.values() if worker.process.get("device") == "cpu")
        return cpu_slots_for(run.in_study and run.threads == 1, others, self._queue.cpu_slots, self.cpu_slots)

    def _write_queue(self, why: dict[str, str]) -> None:
        """Write queue.json if it has changed: the waiting runs in the order in which they start, and why each of them waits."""
        if why != self._why or list(why) != self._order:
            with trouble_is_logged("queue.json"):
                atomic_write_json(self.runs / "queue.json", {"order": list(why), "why": why})
                self._why, self._order = why, list(why)


def _has_ended(folder: RunFolder) -> bool:
    """Return True if exit.json describes the latest attempt of a run."""
    process, ended = read_json(folder.process_json), read_json(folder.exit_json)
    return process is not None and ended is not None and process.get("attempt") == ended.get("attempt")


class trouble_is_logged:
    """A context manager that logs errors to supervisor.log and suppresses them, so that only a signal ends the supervisor.

    If one run is broken or the disk is full, other runs can continue. An error that repeats is logged only once.
    """

    _said: dict[str, str] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, traceback: object) -> bool:
        if not isinstance(problem, Exception):
            return False
        # Messages are compared without the path, because the name of a temporary file changes each time.
        gist = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        if self._said.get(self.name) != gist:
            with contextlib.suppress(OSError, ValueError):  # the log is on the full disk as well
                print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.name}: {problem}", file=sys.stderr, flush=True)
                self._said[self.name] = gist
        return True


def take_lock(runs: Path) -> locks.Lock | None:
    """Take the lock of the folder `runs`, or return None if another supervisor holds it. Only one supervisor can hold it."""
    return locks.take(runs / "control" / "supervisor.lock", patience_s=0.0)


def main(arguments: list[str] | None = None,
         after_tick: Callable[[Path], Callable[[bool], bool]] = lambda runs: lambda changed: False) -> None:
    """Parse the command line of the supervisor process, and run a supervisor unless the runs folder already has one.

    Args:
        arguments: words of the command line; None for those of this process.
        after_tick: function that is called with the runs folder and returns the `after_tick` of the `Supervisor`.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--cpu-slots", type=int, default=int(os.environ.get("RAMPART_CPU_SLOTS", device.CPU_SLOTS)),
                        help="number of runs at a time on the CPU")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="exit after this many seconds with nothing to do")
    options = parser.parse_args(arguments)
    runs = options.runs.absolute()
    (runs / "control").mkdir(parents=True, exist_ok=True)
    while (runs / "control").is_dir() and (lock := take_lock(runs)) is not None:
        Supervisor(runs, lock=lock, cpu_slots=options.cpu_slots, idle_s=options.idle, after_tick=after_tick(runs)).run()
        if lock.is_in_place():
            return
        lock.close()  # the runs folder has been replaced: begin again on the new one

