"""The supervisor, one small process per runs folder. It starts queued runs on free devices and records how workers end.

    python -m engine.run.supervisor --runs DIR

The supervisor can be killed at any moment, because everything that a new supervisor needs is on disk. The new supervisor takes
over living workers and writes exit.json for workers that have ended in the meantime. A supervisor exits after a minute with
nothing to do. Imports no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.errors import RunError
from engine.files import atomic_write_json
from engine.run import device
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.launcher import Launcher, LocalLauncher, Start
from engine.run.state import FRESH_HEARTBEAT_S, boot_id, compute, identity, is_alive, is_waiting, modified, outcome

POLL_S = 0.2
IDLE_S = 60.0
LAST_LINES = 20
RETRY_S = 5.0


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
        return "failed", f"Killed by signal {-code} ({name})."
    last = (folder.last_lines(1) or ["log.txt is empty"])[-1]
    return "failed", f"Exit code {code}: {last}"


class Supervisor:
    """A supervisor, which assigns devices to the queued runs of one folder. `run` calls `tick` repeatedly."""

    def __init__(self, runs: Path, *, launcher: Launcher | None = None, cpu_slots: int = device.CPU_SLOTS,
                 idle_s: float = IDLE_S) -> None:
        """Create a supervisor.

        Args:
            runs: folder of all runs.
            launcher: the launcher that starts the workers; None for a `LocalLauncher`.
            cpu_slots: number of runs that may use the CPU at the same time.
            idle_s: idle seconds before `run` returns.
        """
        self.runs = runs
        self.launcher = launcher or LocalLauncher()
        self.cpu_slots = cpu_slots
        self.idle_s = idle_s
        self.workers: dict[str, Worker] = {}
        self._over: set[str] = set()  # finished runs, whose files need not be read again
        self._order: list[str] | None = None
        self._not_before: dict[str, float] = {}  # per run, the earliest time of the next try after a failed start
        self._record = runs / "control" / "supervisor.json"

    def run(self) -> None:
        """Call `tick` every `POLL_S` seconds. Return when there has been nothing to do for `idle_s` seconds."""
        atomic_write_json(self._record, identity(os.getpid()))
        last_work = time.monotonic()
        while True:
            if self.tick() or self.workers:
                last_work = time.monotonic()
            elif time.monotonic() - last_work > self.idle_s:
                # A client writes its request first and then looks for a supervisor. Therefore one more tick after the record is
                # removed finds every request of a client that still saw this supervisor.
                self._record.unlink(missing_ok=True)
                if not self.tick():
                    return
                atomic_write_json(self._record, identity(os.getpid()))
                last_work = time.monotonic()
            time.sleep(POLL_S)

    def tick(self) -> bool:
        """Check every running worker once, and start waiting runs if possible. Return True if a worker ended or was started."""
        if not self.runs.is_dir():
            return False
        did = False
        for worker in list(self.workers.values()):
            with _trouble_is_logged(worker.folder.id):
                did |= self._watch(worker)
        waiting: list[tuple[float, RunFolder]] = []
        for run_id in run_ids(self.runs):
            if run_id not in self._over and run_id not in self.workers:
                with _trouble_is_logged(run_id):
                    waiting += self._look_at(RunFolder(self.runs, run_id))
        waiting.sort(key=lambda pair: (pair[0], pair[1].id))
        for _, folder in waiting:
            with _trouble_is_logged(folder.id):
                did |= self._start(folder)
        self._write_queue([folder.id for _, folder in waiting if folder.id not in self.workers])
        return did

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
        if code is None and (worker.child is not None or is_alive(worker.process)):
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
        atomic_write_json(folder.exit_json, {
            "attempt": process["attempt"], "code": code, "status": status, "cause": cause, "ended": time.time(),
            "last_lines": folder.last_lines(LAST_LINES)})
        if status == "stopped":
            # The request is fulfilled. `resume` also removes it, in case no supervisor was running.
            folder.request("force").unlink(missing_ok=True)

    def _look_at(self, folder: RunFolder) -> list[tuple[float, RunFolder]]:
        """Check a run whose worker this supervisor does not watch.

        If the worker is alive, begin to watch it. If the worker has ended and exit.json does not say so, write exit.json.

        Returns:
            [(time of the request to start, folder)] if the run waits to be started, and an empty list if it does not.
        """
        process = read_json(folder.process_json)
        if process is None or is_waiting(folder, process):
            return [self._asked_at(folder)] if folder.exists() and is_waiting(folder, process) else []
        ended = read_json(folder.exit_json) or {}
        if ended.get("attempt") == process.get("attempt"):
            if ended.get("status") == "finished":
                self._over.add(folder.id)
            return []
        if is_alive(process):
            self.workers[folder.id] = Worker(folder, process, None, oom_kills())
            return []
        foreign = process.get("boot_id") != boot_id()
        if not (foreign and time.time() - (modified(folder.heartbeat) or 0.0) < FRESH_HEARTBEAT_S):
            self._bury(folder, process, None, False)
        return []

    def _asked_at(self, folder: RunFolder) -> tuple[float, RunFolder]:
        asked = read_json(folder.request("resume"))
        return float(asked.get("at", 0.0) if asked else folder.read_run().get("created", 0.0)), folder

    def _start(self, folder: RunFolder) -> bool:
        """Start a waiting run if its parent has finished and a device is free. Return True if the run was started."""
        run, fixed = folder.read_run(), read_json(folder.environment_json) or {}
        parent = run.get("parent")
        if parent and (not (above := RunFolder(self.runs, parent)).exists()
                       or compute(above, with_parent=False).status != "finished"):
            return False
        busy = [str(worker.process.get("device")) for worker in self.workers.values()]
        wanted = str(run["config"].get("device", "auto"))
        if fixed.get("device"):  # results depend on the kind of device, so a run keeps it
            wanted = "cpu" if fixed["device"] == "cpu" else "cuda" if wanted == "auto" else wanted
        free = device.free_device(wanted, busy, self.cpu_slots)
        if free is None:
            return False
        threads = fixed.get("threads") or run["config"].get("threads") or (device.cores() if not self.workers else 1)
        process = read_json(folder.process_json)
        start = Start(1 if process is None else int(process["attempt"]) + 1, free, int(threads))
        if time.monotonic() < self._not_before.get(folder.id, 0.0):
            return False
        self._not_before[folder.id] = time.monotonic() + RETRY_S
        kills = oom_kills()
        child = self.launcher.start(folder, start)
        del self._not_before[folder.id]
        folder.request("resume").unlink(missing_ok=True)
        self.workers[folder.id] = Worker(folder, read_json(folder.process_json) or {}, child, kills)
        return True

    def _write_queue(self, order: list[str]) -> None:
        if order != self._order:
            with _trouble_is_logged("queue.json"):
                atomic_write_json(self.runs / "queue.json", {"order": order})
                self._order = order


class _trouble_is_logged:
    """A context manager that logs expected errors to supervisor.log and suppresses them.

    It keeps the supervisor alive if one run is broken or the disk is full, so that other runs can continue. An error that repeats
    is logged only once.
    """

    _said: dict[str, str] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, traceback: object) -> bool:
        if not isinstance(problem, (RunError, OSError, ValueError, KeyError, TypeError, psutil.Error)):
            return False
        # Messages are compared without the path, because the name of a temporary file changes each time.
        gist = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        if self._said.get(self.name) != gist:
            self._said[self.name] = gist
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.name}: {problem}", file=sys.stderr, flush=True)
        return True


def take_lock(runs: Path) -> int | None:
    """Take the lock of the folder `runs`. Only one supervisor can hold this lock at a time.

    Returns:
        The open file descriptor of the lock, or None if another supervisor holds the lock.
    """
    descriptor = os.open(runs / "control" / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line of the supervisor process, and run a supervisor unless the runs folder already has one."""
    parser = argparse.ArgumentParser(prog="python -m engine.run.supervisor", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--cpu-slots", type=int, default=int(os.environ.get("RAMPART_CPU_SLOTS", device.CPU_SLOTS)),
                        help="number of runs at a time on the CPU")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="exit after this many seconds with nothing to do")
    options = parser.parse_args(arguments)
    runs = options.runs.absolute()
    (runs / "control").mkdir(parents=True, exist_ok=True)
    lock = take_lock(runs)
    if lock is None:
        return
    Supervisor(runs, cpu_slots=options.cpu_slots, idle_s=options.idle).run()


if __name__ == "__main__":
    main()
