"""One attempt of a run as its loop sees it: events, progress, checkpoints and stop requests.

Imports no torch, so that the first progress event does not wait for it.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import RunError
from engine.run.event_kinds import Alert, CheckpointWritten, Event, Level, Progress, Resumed
from engine.run.events import EventWriter
from engine.run.folder import RunFolder
from engine.run.stop import StopPoll

PROGRESS_EVERY_S = 0.4
CHECKPOINT_EVERY_S = 10.0
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Freed when the disk is full, to make room for the last alert and results/ended.json.
RESERVE_BYTES = 64 * 1024


class Session:
    """One attempt of one run.

    Attributes:
        folder, run: the run's folder and the content of run.json.
        attempt: number of this start of the worker, from 1.
        device, threads: device and number of CPU threads of this attempt.
        stop: raises StopRequested once a stop was requested.
        step, epoch: steps completed, and the epoch (from 1) of the step in progress; 0 before the first step.
        passes: forward passes so far, including those of the step in progress.
        total, unit: length of the run and its unit, such as "steps".
        activity: current activity in words, for the progress line.
        describe: returns the activity inside a step; None to use `activity`.
        begun, gate: `begun` is set under the lock `gate` once everything is loaded; before that a stop ends the process at once.
        passes_at_start_of_step: value of `passes` to restore when the step is abandoned.
    """

    def __init__(self, folder: RunFolder, run: Mapping[str, Any], *, attempt: int, device: str, threads: int) -> None:
        self.folder, self.run, self.attempt = folder, run, attempt
        self.device, self.threads = device, threads
        self.kind = str(run["kind"])
        self.stop = StopPoll(folder.request("stop"))
        self.step = self.epoch = self.passes = 0
        self.total, self.unit, self.activity = 1, "steps", "starting"
        self.describe: Callable[[], str] | None = None
        self.passes_at_start_of_step, self._expected = 0, 0
        self.begun = threading.Event()
        self.gate = threading.Lock()
        self._events: EventWriter | None = None
        self._next_progress = 0.0
        self._next_checkpoint = time.monotonic() + CHECKPOINT_EVERY_S

    def open_events(self, from_step: int | None = None) -> None:
        """Open events.jsonl.

        Args:
            from_step: step of the checkpoint that a later attempt continues from. It is written first, because it supersedes
                the events after it.
        """
        self._events = EventWriter(self.folder.events, self.folder.id, self.attempt)
        if from_step is not None:
            self._events.write(Resumed(from_step=from_step), step=from_step, epoch=self.epoch)

    def begin(self) -> None:
        """Mark everything as loaded: from now on `poll` handles stop requests, and the loop writes a checkpoint."""
        with self.gate:
            self.begun.set()

    @property
    def has_events(self) -> bool:
        """True once events.jsonl is open."""
        return self._events is not None

    def write(self, event: Event) -> None:
        """Append one event, stamped with the current step and epoch.

        Raises:
            RunError: `open_events` was not called.
            OSError: the disk is full.
        """
        if self._events is None:
            raise RunError("Events can be written only after open_events.")
        self._events.write(event, step=self.step, epoch=self.epoch)

    def alert(self, level: Level, text: str) -> None:
        """Write an alert, and print it into log.txt."""
        print(f"{level}: {text}", flush=True)
        self.write(Alert(level=level, text=text))

    def begin_step(self, expected_passes: int, activity: str = "") -> None:
        """Start a step.

        Args:
            expected_passes: about how many forward passes it takes.
            activity: in words, for the progress line; empty to keep the current one.
        """
        self.passes_at_start_of_step, self._expected = self.passes, max(expected_passes, 1)
        self.activity = activity or self.activity

    def poll(self) -> None:
        """Count a forward pass and report progress now and then. Call before each forward pass.

        Raises:
            StopRequested: a stop was requested; abandon the step in progress.
        """
        self.stop()
        self.passes += 1
        # Report the first pass at once: the user who launched the run waits for a sign of life.
        self.progress(force=self.passes == 1)

    def end_step(self, *, epoch: int, passes: int | None = None) -> None:
        """Complete the step.

        Args:
            epoch: epoch of the completed step.
            passes: exact number of forward passes it took; None for the number of polls.
        """
        self.step, self.epoch = self.step + 1, epoch
        if passes is not None:
            self.passes = self.passes_at_start_of_step + passes
        self.passes_at_start_of_step, self._expected = self.passes, 0
        self.activity = f"{self.unit.removesuffix('s')} {self.step} done"

    def progress(self, *, force: bool = False) -> None:
        """Write a progress event, at most one per `PROGRESS_EVERY_S` seconds unless `force` is True."""
        now = time.monotonic()
        if not force and now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_EVERY_S
        inside = min((self.passes - self.passes_at_start_of_step) / self._expected, 0.99) if self._expected else 0.0
        done = min(round(self.step + inside, 4), self.total)  # measurements after the last step add nothing
        detail = self.describe() if self.describe and self._expected else self.activity
        self.write(Progress(phase=self.kind, done=done, total=self.total, unit=self.unit, passes=self.passes, detail=detail))

    def checkpoint_due(self) -> bool:
        """Return True if the last checkpoint is at least `CHECKPOINT_EVERY_S` seconds old."""
        return time.monotonic() >= self._next_checkpoint

    def checkpoint_written(self) -> None:
        """Write the event of a checkpoint and restart the clock for the next."""
        self._next_checkpoint = time.monotonic() + CHECKPOINT_EVERY_S
        self.write(CheckpointWritten(path="last"))

    def close(self) -> None:
        """Close events.jsonl; a second call does nothing."""
        if self._events is not None:
            self._events.close()


def is_disk_full(problem: BaseException) -> bool:
    """Return True for the errors of a full disk, an exhausted quota and a file size limit."""
    return isinstance(problem, OSError) and problem.errno in DISK_FULL
