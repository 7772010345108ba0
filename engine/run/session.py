"""The session of a worker. The loop of a run uses it to write events, to report progress and to check for stop requests.

Imports no torch, so that the worker can write its first progress event before torch is loaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import RunError
from engine.run.event import Event, Level
from engine.run.event_kinds import Alert, CheckpointWritten, Progress, Resumed
from engine.run.events import EventWriter, Extent
from engine.run.folder import RunFolder
from engine.run.locks import Lock
from engine.run.peers import Peers
from engine.run.stop import StopPoll
from engine.run.telemetry import AFTER_S, EVERY_S, Telemeter

PROGRESS_EVERY_S = 0.4
CHECKPOINT_EVERY_S = 10.0
# Size of a file that is deleted when a run fails. On a full disk, this makes room for the last alert and results/ended.json.
RESERVE_BYTES = 64 * 1024
GONE = "The folder of run {} was deleted, moved or replaced, so its worker has ended and writes nothing more."


class Session:
    """The session of one attempt (start of the worker) of a run, with counters of progress.

    Attributes:
        folder: folder of the run.
        run: content of run.json.
        attempt: number of this attempt, from 1.
        device: device of this attempt, as torch knows it.
        device_name: names of the devices among the launcher's, separated by ", ", by which measurements of the machine are
            recorded.
        threads: number of CPU threads of this attempt, of all its processes together.
        lock: lock of the folder, which this process holds; None without a lock.
        ticket: text by which process.json names this worker, if it is a job of a cluster; "" otherwise.
        processes: number of processes that compute the run together.
        peers: the other processes; None without others.
        stop: check for stop requests. Calling it raises StopRequested if a stop has been requested.
        step: number of completed steps.
        epoch: epoch of the last completed step, from 1; 0 before the first step.
        passes: number of forward passes so far, including the passes of the step in progress.
        total: length of the whole run, in units of `unit`.
        unit: unit in which progress is counted, such as "steps".
        activity: description of the current activity, for the progress line.
        describe: function that returns a description of the current activity during a step; None to use `activity`.
        measure: function that returns how much of `total` is done; None to use the number of completed steps.
        finished_early: why an early-stop rule ended the run, as a sentence; "" if none did.
        begun: threading event that is set once everything is loaded. Until then, a stop request ends the process at once.
        gate: lock that must be held to set `begun`.
        passes_at_start_of_step: value to which `passes` is reset if the step in progress is abandoned.
    """

    def __init__(self, folder: RunFolder, run: Mapping[str, Any], *, attempt: int, device: str, threads: int,
                 lock: Lock | None = None, device_name: str = "", ticket: str = "", processes: int = 1) -> None:
        self.folder, self.run, self.attempt, self.lock = folder, run, attempt, lock
        self.device, self.threads, self.device_name = device, threads, device_name or device
        self.ticket, self.processes = ticket, processes
        self.peers: Peers | None = None
        self.kind = str(run["kind"])
        self.stop = StopPoll(folder.request("stop"))
        self.step = self.epoch = self.passes = 0
        self.total, self.unit, self.activity = 1, "steps", "starting"
        self.describe: Callable[[], str] | None = None
        self.measure: Callable[[], float] | None = None
        self.passes_at_start_of_step, self._expected = 0, 0
        self.finished_early = ""
        self._warnings: set[str] = set()
        self.begun = threading.Event()
        self.gate = threading.Lock()
        self._events: EventWriter | None = None
        self._next_progress = 0.0
        self._telemeter: Telemeter | None = None
        self._next_telemetry = time.monotonic() + AFTER_S
        self._next_checkpoint = time.monotonic() + CHECKPOINT_EVERY_S

    @property
    def threads_each(self) -> int:
        """CPU threads of each process of the run."""
        return max(1, self.threads // self.processes)

    def open_events(self, from_step: int | None = None) -> None:
        """Open events.jsonl.

        Args:
            from_step: number of completed steps at the checkpoint from which this attempt continues; None for the first attempt.
                The number is recorded in the first event of this attempt. Events that earlier attempts wrote for later steps no
                longer count.
        """
        self._events = EventWriter(self.folder.events, self.folder.id, self.attempt)
        if from_step is not None:
            self._events.write(Resumed(from_step=from_step), step=from_step, epoch=self.epoch)

    def begin(self) -> None:
        """Record that everything is loaded.

        From now on, a stop request no longer ends the process at once. Instead, `poll` raises StopRequested, and the loop writes
        a checkpoint.
        """
        with self.gate:
            self.begun.set()

    @property
    def folder_is_gone(self) -> bool:
        """True if the folder of the run has been deleted, moved or replaced since this attempt began."""
        return self.lock is not None and not self.lock.is_in_place()

    def check_folder(self) -> None:
        """Check that the run's folder is still the one in which this attempt began, so that nothing is written into another.

        Raises:
            RunError: the folder has been deleted, moved or replaced.
        """
        if self.folder_is_gone:
            raise RunError(GONE.format(self.folder.id))

    @property
    def has_events(self) -> bool:
        """True once events.jsonl is open."""
        return self._events is not None

    def write(self, event: Event, *, step: int | None = None, epoch: int | None = None) -> None:
        """Append one event to events.jsonl.

        Args:
            event: the event.
            step, epoch: the step and the epoch to stamp it with, both from 1; None for the current ones.

        Raises:
            RunError: `open_events` has not been called.
            OSError: the disk is full.
        """
        if self._events is None:
            raise RunError("Events can be written only after open_events.")
        self._events.write(event, step=self.step if step is None else step, epoch=self.epoch if epoch is None else epoch)

    def sync_events(self) -> Extent:
        """Flush events.jsonl to disk, and return its state. A checkpoint may be written only after its events.

        Raises:
            RunError: `open_events` has not been called.
        """
        if self._events is None:
            raise RunError("Events can be flushed only after open_events.")
        return self._events.sync()

    def alert(self, level: Level, text: str) -> None:
        """Write an alert event for the user, and print its text, which goes to log.txt."""
        print(f"{level}: {text}", flush=True)
        self.write(Alert(level=level, text=text))

    def warn_once(self, text: str) -> None:
        """Write a warning for the user, unless `text` is empty or this attempt of the run has already written it."""
        if text and text not in self._warnings:
            self._warnings.add(text)
            self.alert("warning", text)

    def begin_step(self, expected_passes: int, activity: str = "") -> None:
        """Start a step.

        Args:
            expected_passes: approximate number of forward passes in the step.
            activity: description of the step for the progress line; empty to keep the current description.
        """
        self.passes_at_start_of_step, self._expected = self.passes, max(expected_passes, 1)
        self.activity = activity or self.activity

    def poll(self) -> None:
        """Count a forward pass, report progress if a report is due, and check for a stop request.

        The loop calls this before each forward pass.

        Raises:
            StopRequested: a stop is requested. The step in progress has to be abandoned.
            RunError: another process of the run has ended.
        """
        self.stop()
        if self.peers is not None:
            self.peers.check()
        self.passes += 1
        # The first pass is reported at once, because the user who launched the run waits for a sign of life.
        self.progress(force=self.passes == 1)

    def end_step(self, *, epoch: int, passes: int | None = None) -> None:
        """Count the step in progress as completed.

        Args:
            epoch: epoch of the step, from 1.
            passes: exact number of forward passes in the step; None to use the number of calls of `poll`.
        """
        self.step, self.epoch = self.step + 1, epoch
        if passes is not None:
            self.passes = self.passes_at_start_of_step + passes
        self.passes_at_start_of_step, self._expected = self.passes, 0
        self.activity = f"{self.unit.removesuffix('s')} {self.step} done"

    def progress(self, *, force: bool = False) -> None:
        """Write a progress event if at least `PROGRESS_EVERY_S` seconds have passed since the last one.

        Args:
            force: True to write the event in any case.
        """
        now = time.monotonic()
        if not force and now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_EVERY_S
        inside = min((self.passes - self.passes_at_start_of_step) / self._expected, 0.99) if self._expected else 0.0
        reached = self.measure() if self.measure else round(self.step + inside, 4)
        done = min(reached, self.total)  # passes of a measurement after the last step add no progress
        detail = self.describe() if self.describe and self._expected else self.activity
        self.write(Progress(phase=self.kind, done=done, total=self.total, unit=self.unit, passes=self.passes, detail=detail))
        if now >= self._next_telemetry:
            self._next_telemetry = now + EVERY_S
            self._measure_machine(done)

    def _measure_machine(self, done: float) -> None:
        """Write the load of the machine since the last call. The first call only begins to measure."""
        if self._telemeter is None:
            self._telemeter = Telemeter(self.folder.path, self.device, name=self.device_name, done=done, passes=self.passes,
                                       others=self.peers.pids if self.peers else ())
            return
        for event in self._telemeter.measure(done=done, passes=self.passes, unit=self.unit):
            self.write(event)

    def checkpoint_due(self) -> bool:
        """Return True if at least `CHECKPOINT_EVERY_S` seconds have passed since the last checkpoint or the start."""
        return time.monotonic() >= self._next_checkpoint

    def checkpoint_written(self) -> None:
        """Write an event that records a written checkpoint, and schedule the next checkpoint."""
        self._next_checkpoint = time.monotonic() + CHECKPOINT_EVERY_S
        self.write(CheckpointWritten(path="last"))

    def close(self) -> None:
        """Close events.jsonl. A second call does nothing."""
        if self._events is not None:
            self._events.close()
