"""The supervisor, one small process per runs folder. It starts queued runs on free devices and records how workers end.

The program is `engine.background`. It can be killed at any moment, because everything that a new supervisor needs is on disk.
The new supervisor takes over living workers and writes exit.json for workers that have ended in the meantime. A supervisor exits
after a minute with nothing to do. Imports no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.files import LEAST_FREE_BYTES, atomic_write_json, free_bytes
from engine.run import bell, locks
from engine.run.device import CPU_SLOTS, RUNS_PER_GPU, RUNS_PER_SHARED_GPU, devices_of
from engine.run.ends import Worker, bury
from engine.run.folder import RunFolder, read_json
from engine.run.folder_watch import FolderWatch
from engine.run.launchers.contract import Launcher, ReadyLauncher, Start, start_all
from engine.run.launchers.local import LocalLauncher
from engine.run.launchers.registry import DEFAULT, Choice, launcher_of, load, read_choice
from engine.run.queue import Queue, read_queue
from engine.run.state import compute, identity, is_copy, is_waiting
from engine.run.supervision import record_of
from engine.run.trouble import trouble_is_logged
from engine.run.waiting import Waiting, as_waiting, cpu_slots_for, in_order, no_device, trouble_above

POLL_S = 0.2
# A tick that takes longer is followed by a longer pause, so that ticks take at most 1 % of a core.
PAUSE_PER_TICK, LONGEST_PAUSE_S = 100, 2.0
# The queue is gone through after every change, and otherwise after this many times the CPU time of the last time: free disk
# space, a lock or a failed start may then allow a run that had to wait.
REST_PER_ROUND = 300
# With many runs the first look of a supervisor takes seconds. A supervisor lives for this many times its CPU time at least.
LIFE_PER_LOOK = 500
AT_ONCE = 50  # runs that one look compares with what is known of them, besides those whose requests rang the bell
AGAIN_AT_ONCE = 5  # runs of unclear state that are looked at again, at most, in one tick
# A click on Launch starts the supervisor before the run is written. It looks more often until it has started the run, and while a
# launch is expected.
EAGER_S, EAGER_PAUSE_S = 3.0, 0.02
MEASURED_AT_ONCE = 20  # runs whose measured memory is looked up in one round, which takes some milliseconds each
IDLE_S = 60.0
RETRY_S = 5.0
COARSE_NS = 1_000_000_000  # the modification times of some file systems are whole seconds
FAILED_TO_START = "It could not be started and is tried again every few seconds; supervisor.log has the reason."


def pause_after(tick_s: float, shortest_s: float = POLL_S) -> float:
    """Return the seconds to wait after a tick (one check of all work) that took `tick_s` seconds of CPU time."""
    return min(LONGEST_PAUSE_S, max(shortest_s, PAUSE_PER_TICK * tick_s))


class Supervisor:
    """A supervisor, which assigns devices to the queued runs of one folder.

    `run` calls `tick` repeatedly. A tick is one check of workers and waiting runs.
    """

    def __init__(self, runs: Path, *, lock: locks.Lock | None = None, launcher: Launcher | None = None,
                 cpu_slots: int = CPU_SLOTS, idle_s: float = IDLE_S,
                 after_tick: Callable[[bool], bool] = lambda changed: False,
                 memory_of: Callable[[RunFolder], int] = lambda folder: 0) -> None:
        """Create a supervisor.

        Args:
            runs: folder of all runs.
            lock: the lock of the folder. `run` returns when the folder is replaced by another. None to run without a lock.
            launcher: the launcher that starts the workers; None for the one that the user has chosen for the folder.
            cpu_slots: number of runs that may use the CPU at the same time, unless the user has chosen another number. If all
                runs on the CPU are single-threaded and the next one belongs to a study, the limit is at least the number of
                cores.
            idle_s: idle seconds before `run` returns.
            after_tick: function that is called after every tick with the result of the tick. It returns True if it did something.
            memory_of: function that returns the measured bytes of a run on a GPU; 0 if unknown. It is called if runs share GPUs.
        """
        self.runs, self.lock = runs, lock
        self.after_tick, self.memory_of = after_tick, memory_of
        self.launcher = launcher or LocalLauncher()
        self._choice = None if launcher else Choice()  # what the user has chosen, unless the caller has
        self._no_launcher = ""  # why no run can be started, as a sentence
        self.cpu_slots = cpu_slots
        self.idle_s = idle_s
        self.workers: dict[str, Worker] = {}
        # What is known of a run until its folder changes: that it waits, that it has finished, or the status of a parent.
        self._waiting: dict[str, Waiting] = {}
        self._over: set[str] = set()
        self._above: dict[str, str] = {}
        self._again: dict[str, float] = {}  # runs of unclear state, with the time of the next look at each
        self._watch = FolderWatch(runs, ("", "/control"), coarse_ns=COARSE_NS, at_once=AT_ONCE)
        self._queue = Queue()
        self._is_due, self._next_round = True, 0.0  # whether, or else when, the queue is gone through again
        self._memory: dict[str, int] = {}  # measured bytes of waiting and running runs on a GPU
        self._may_measure = 0  # runs whose measurement may still be looked up in this round
        self._chosen: list[tuple[RunFolder, Start]] = []  # runs that start at the end of this round
        # Runs that use devices of the launcher, or will at the end of this round, each with the content of its process.json.
        self._neighbours: list[tuple[RunFolder, dict[str, Any]]] = []
        self._why: dict[str, str] | None = None
        # Per run whose start failed, the earliest time of the next try, and why it failed.
        self._not_before: dict[str, tuple[float, str]] = {}
        self._record = record_of(runs)

    def run(self) -> None:
        """Call `tick` about every `POLL_S` seconds, and more often while a launch is expected.

        Return when there has been nothing to do for `idle_s` seconds, and no launch was expected.
        Return at once if the runs folder has been deleted or replaced by another, which this supervisor's lock does not protect.
        """
        last_work = time.monotonic()
        eager_until = last_work + EAGER_S
        self._unregister()  # the record is that of an earlier supervisor
        idle_s = self.idle_s
        while self.lock is None or self.lock.is_in_place():
            started = time.process_time()
            self._register()
            did = self._work()
            took = time.process_time() - started
            idle_s = max(idle_s, LIFE_PER_LOOK * took)
            expected = None if self.workers else bell.expected_threads(self.runs)
            is_ready = self._get_ready(expected)
            if did or self.workers or expected is not None:
                last_work = time.monotonic()
            elif time.monotonic() - last_work > idle_s:
                # A client writes its request first and then looks for a supervisor. Therefore one more tick after the record is
                # removed finds every request of a client that still saw this supervisor.
                self._unregister()
                if not self._work(last=True) and bell.expected_threads(self.runs) is None:
                    return
                last_work = time.monotonic()
            is_eager = not self.workers and time.monotonic() < eager_until
            time.sleep(EAGER_PAUSE_S if is_eager else pause_after(took, EAGER_PAUSE_S if is_ready else POLL_S))

    def _get_ready(self, threads: int | None) -> bool:
        """Let the launcher get ready for a run with `threads` threads, None if none is expected. Return True if it is ready."""
        is_ready = False
        with trouble_is_logged("spare worker"):
            is_ready = isinstance(self.launcher, ReadyLauncher) and self.launcher.expect(threads)
        return is_ready

    def _register(self) -> None:
        """Write the record by which clients find this supervisor, unless it exists. A full disk does not end the supervisor."""
        if not self._record.exists():
            with trouble_is_logged("supervisor.json"):
                file = {} if self.lock is None else {"lock": locks.identity_of(os.lstat(self.lock.path))}
                atomic_write_json(self._record, identity(os.getpid()) | file)

    def _unregister(self) -> None:
        with trouble_is_logged("supervisor.json"):
            self._record.unlink(missing_ok=True)

    def _work(self, *, last: bool = False) -> bool:
        """Call `tick` and `after_tick`, and return True if one of them did something. Errors are logged and do not propagate."""
        did = more = False
        with trouble_is_logged("supervisor"):
            did = self.tick(everything=last)
        with trouble_is_logged("studies"):
            more = self.after_tick(did or last)
        return did or more

    def tick(self, *, everything: bool = False) -> bool:
        """Check every running worker once, and start waiting runs if possible. Return True if a worker ended or was started.

        Args:
            everything: True to look at the folders of all runs. Otherwise, check new runs, runs with requests and `AT_ONCE`
                others, because checking thousands takes a tenth of a second.
        """
        if not self.runs.is_dir():
            return False
        ended = self._watch_workers()
        self._look(ended, everything)
        with trouble_is_logged("control/queue.json"):
            queue = read_queue(self.runs)
            self._is_due |= queue != self._queue
            self._queue = queue
        self._choose_launcher()
        if not self._is_due and time.monotonic() < self._next_round:
            return bool(ended)
        before = time.process_time()
        started = self._start_waiting()
        self._next_round = time.monotonic() + REST_PER_ROUND * (time.process_time() - before)
        return bool(ended) or started

    def _choose_launcher(self) -> None:
        """Use the launcher that the user has chosen, if the choice has changed. Workers of the last launcher go on."""
        if self._choice is None:
            return
        try:
            choice = read_choice(self.runs)
            if choice == self._choice and not self._no_launcher:
                return
            self.launcher, self._choice, self._no_launcher = load(choice, self.runs), choice, ""
        except RunError as problem:
            if self._no_launcher == str(problem):
                return
            self._no_launcher = str(problem)
        self._is_due = True

    def _watch_workers(self) -> list[str]:
        """Check every running worker once, and return the ids of the runs whose workers have ended."""
        ended = []
        for run_id, worker in list(self.workers.items()):
            with trouble_is_logged(run_id):
                if self._has_ended(worker):
                    ended.append(run_id)
        return ended

    def _look(self, ended: Collection[str], everything: bool) -> None:
        """Call `_look_at` for each run that is new, has changed, has a request, or is in `ended`.

        A run for which the last call failed or was not clear is looked at again after `RETRY_S` seconds.

        Args:
            ended: ids of the runs whose workers have just ended.
            everything: True to check all runs for changes. Otherwise, only `AT_ONCE` of them are checked, in turn.
        """
        now = time.monotonic()
        unclear = [run_id for run_id, at in islice(self._again.items(), AGAIN_AT_ONCE) if at <= now]
        asked = bell.rung(self.runs)
        for run_id in sorted({*asked, *ended, *unclear, *self._watch.look(asked, everything=everything)}):
            self._again.pop(run_id, None)
            is_clear = False
            with trouble_is_logged(run_id):
                is_clear = self._look_at(RunFolder(self.runs, run_id))
            if not is_clear:
                self._again[run_id] = now + RETRY_S
        self._is_due |= bool(ended)

    def _look_at(self, folder: RunFolder) -> bool:
        """Find out whether the run in `folder` waits, runs or has ended, and update this supervisor's records of the run.

        If this may change which runs can start, the current tick then tries to start the waiting runs. If a worker has ended
        without an exit.json, the file is written.

        Returns:
            False if it is not clear whether the worker is alive on another machine, so that the caller has to look again later.
        """
        was = self._waiting.pop(folder.id, None), self._above.pop(folder.id, None)
        self._over.discard(folder.id)
        self._is_due |= was != (None, None)
        if folder.id in self.workers:
            return True
        process = read_json(folder.process_json)
        if process is None or is_waiting(folder, process):
            if folder.exists() and is_waiting(folder, process):
                self._waiting[folder.id] = as_waiting(folder)
                self._is_due = True
            return True
        ended = read_json(folder.exit_json) or {}
        if ended.get("attempt") == process.get("attempt") or is_copy(folder, process):
            if ended.get("status") == "finished":
                self._over.add(folder.id)
            return True
        self._is_due = True
        attempt = launcher_of(process, self.launcher, self.runs).reconnect(folder, process)
        if attempt is None:
            return False
        worker = Worker(folder, process, attempt)
        if self._has_ended(worker):
            return self._look_at(folder)
        self.workers[folder.id] = worker
        return True

    def _start_waiting(self) -> bool:
        """Start the waiting runs for which a device is free, in the order of the queue. Return True if a run was started."""
        held = self._waiting.keys() | self.workers.keys()  # no run starts before these have finished
        why: dict[str, str] = {}
        taken: dict[tuple[str, bool, str, int, int], str] = {}
        self._chosen = []
        self._neighbours = [(one.folder, one.process) for one in self.workers.values()
                            if one.process.get("launcher", DEFAULT) == self.launcher.name]
        self._memory = {run_id: memory for run_id, memory in self._memory.items() if memory and run_id in held}
        self._may_measure = MEASURED_AT_ONCE
        for run in in_order(self._waiting.values(), self._queue):
            reason = trouble_above(run.kind, "queued") if run.parent in held else FAILED_TO_START
            if run.parent not in held:
                with trouble_is_logged(run.folder.id):
                    reason = self._choose(run, taken)
            why[run.folder.id] = reason
        failed = self._start_chosen()
        why = {run_id: reason for run_id, reason in (why | failed).items() if reason}
        started = len(why) < len(self._waiting)
        self._is_due = started or bool(failed)  # a run that failed has left its device to others
        self._waiting = {run_id: run for run_id, run in self._waiting.items() if run_id in why}
        self._write_queue(why)
        return started

    def _has_ended(self, worker: Worker) -> bool:
        """Return True if a worker has ended, after writing exit.json. Kill it if the user has requested that."""
        folder, end = worker.folder, worker.attempt.end()
        if end is None:
            self._note_start(worker)  # first, because a worker that has begun can stop by itself
            force, process = read_json(folder.request("force")) or {}, worker.process
            if force.get("attempt") == process["attempt"] or (process.get("waits") and folder.request("stop").exists()):
                worker.attempt.kill()
                worker.is_killed = True
                end = worker.attempt.end()
        if end is None:
            return False
        if folder.path.is_dir():  # if the user has deleted the run, only its device is freed
            bury(worker, end)
        self.workers.pop(folder.id, None)
        return True

    def _note_start(self, worker: Worker) -> None:
        """Record in process.json what a worker that has not started waits for, and that it has started."""
        waits = worker.attempt.waits()
        if waits != worker.process.get("waits", ""):
            process = {name: value for name, value in worker.process.items() if name != "waits"}
            worker.process = process | ({"waits": waits} if waits else {})
            worker.folder.write_json(worker.folder.process_json, worker.process)

    def _choose(self, run: Waiting, taken: dict[tuple[str, bool, str, int, int], str]) -> str:
        """Choose a device for a waiting run. Return why it still waits, as a sentence; "" if it starts at the end of the round.

        Args:
            run: a run whose parent neither waits nor runs.
            taken: {(device, is_single, model, memory to share, processes): why no device is free for such runs}. `is_single` is
                True for a single-threaded run of a study. An entry is added if this run finds no free device.
        """
        folder = run.folder
        reason = self._trouble_above(run) or self._queue.hold(folder.id) or self._no_launcher
        needs = 0 if reason else self._memory_to_share(run)
        wanted = run.device, run.in_study and run.threads == 1, run.model, needs, run.processes
        reason = reason or taken.get(wanted, "")
        free = () if reason else self._free_devices(run, needs)
        if not reason and not free:
            reason = taken[wanted] = no_device(run, self.launcher.resources(), self._cpu_slots_for(run), needs,
                                               self._queue.share_gpus)
        if reason:
            return reason
        process = read_json(folder.process_json)
        if reason := self._why_not(folder, process):
            return reason
        resources = self.launcher.resources()
        threads = run.threads or (resources.threads if not (resources.is_one_machine and self._neighbours) else 1)
        start = Start(1 if process is None else int(process["attempt"]) + 1, free[0], max(threads, run.processes), run.processes,
                      free[1:])
        self._chosen.append((folder, start))
        self._neighbours.append((folder, start.record(self.launcher.name)))
        return ""

    def _start_chosen(self) -> dict[str, str]:
        """Start the chosen runs. Return {id: why it could not be started, as a sentence} for those that fail."""
        failed: dict[str, str] = {}
        for (folder, _), outcome in zip(self._chosen, start_all(self.launcher, self._chosen), strict=True):
            failed[folder.id] = FAILED_TO_START
            with trouble_is_logged(folder.id):
                if isinstance(outcome, Exception):
                    failed[folder.id] = str(outcome) if isinstance(outcome, RunError) else FAILED_TO_START
                    raise outcome
                self.workers[folder.id] = Worker(folder, read_json(folder.process_json) or {}, outcome)
                del failed[folder.id]
                folder.request("resume").unlink(missing_ok=True)
        self._not_before |= {run_id: (time.monotonic() + RETRY_S, reason) for run_id, reason in failed.items()}
        return failed

    def _why_not(self, folder: RunFolder, process: dict[str, Any] | None) -> str:
        """Return why a run for which a device is free cannot start now, as a sentence; "" if it can.

        Args:
            folder: folder of the run.
            process: content of process.json, which describes the latest attempt; None if the run was never started.
        """
        if time.monotonic() < (failure := self._not_before.get(folder.id, (0.0, "")))[0]:
            return failure[1]
        if not is_waiting(folder, process):
            return "It has just been stopped."
        if locks.is_held(folder.lock):
            return "Its last worker has not ended yet."
        try:
            folder.check_files()
        except RunError as problem:
            return str(problem)
        space = free_bytes(self.runs)
        return "" if space >= LEAST_FREE_BYTES else (
            f"The disk has only {space / 2**20:.0f} MB free. Runs start when it has {LEAST_FREE_BYTES // 2**20} MB.")

    def _trouble_above(self, run: Waiting) -> str:
        """Return a sentence that says that a run's parent failed, was stopped or is missing; "" if the parent has finished."""
        if run.parent is None or run.parent in self._over:
            return ""
        status = self._above.get(run.parent)
        if status is None:
            above = RunFolder(self.runs, run.parent)
            state = compute(above, with_parent=False) if above.exists() else None
            status = state.status if state else "missing"
            if state is None or state.is_over:
                self._above[run.parent] = status
        return trouble_above(run.kind, status)

    def _memory_to_share(self, run: Waiting) -> int:
        """Return the measured bytes of a run on a GPU; 0 if unknown, on a CPU, or if runs do not share GPUs."""
        if not self._queue.share_gpus or run.processes > 1 or self.launcher.resources().uses_cpu(run.device):
            return 0
        return self._measured(run.folder)

    def _measured(self, folder: RunFolder) -> int:
        """Return the measured bytes of a run on a GPU; 0 if unknown. Only some runs are looked up in one round."""
        if folder.id not in self._memory and self._may_measure:
            self._may_measure -= 1
            self._memory[folder.id] = self.memory_of(folder)
        return self._memory.get(folder.id, 0)

    def _free_devices(self, run: Waiting, needs: int) -> tuple[str, ...]:
        """Return the devices that a run may use now; empty if it has to wait. `needs` is its measured memory on a GPU."""
        resources, slots = self.launcher.resources(), self._cpu_slots_for(run)
        busy = [(name, folder) for folder, process in self._neighbours for name in devices_of(process)]
        most = RUNS_PER_GPU if self._queue.share_gpus else self._queue.runs_per_gpu or RUNS_PER_GPU
        free = resources.free_devices(run.device, [name for name, _ in busy], run.processes, slots, most, run.model)
        if not free and needs:
            there = [(name, self._measured(folder)) for name, folder in busy]
            shared = resources.gpu_to_share(run.device, there, needs, self._queue.runs_per_gpu or RUNS_PER_SHARED_GPU, run.model)
            return () if shared is None else (shared,)
        return free

    def _cpu_slots_for(self, run: Waiting) -> int:
        """Return the number of runs, including `run`, that may use the CPU at the same time if `run` is started now."""
        others = (process.get("threads") for _, process in self._neighbours if process.get("device") == "cpu")
        return cpu_slots_for(run.in_study and run.threads == 1, others, self._queue.cpu_slots, self.cpu_slots)

    def _write_queue(self, why: dict[str, str]) -> None:
        """Write queue.json if it has changed: the waiting runs in the order in which they start, and why each of them waits."""
        if self._why is None or list(why.items()) != list(self._why.items()):
            with trouble_is_logged("queue.json"):
                atomic_write_json(self.runs / "queue.json", {"order": list(why), "why": why})
                self._why = why
