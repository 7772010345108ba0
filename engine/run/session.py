"""One attempt of a run as its loop sees it: where events, progress, checkpoints and stop requests come together.

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
# Freed when the disk is full, so that the last words can still be written.
RESERVE_BYTES = 64 * 1024


class Session:
    """What a loop is given.

    Attributes:
        folder, run: the run's folder and the content of run.json.
        device, threads: what this attempt computes with.
        step, epoch: steps completed, and the epoch (from 1) of the step in progress; 0 before the first.
        passes: forward passes so far, those of a step in progress included.
        activity: what is being done, in words, for the progress line.
        describe: inside a step, asked for the words instead, if given.
        begun, gate: set under the lock when everything is loaded; until then a stop ends the process on the spot.
        passes_at_start_of_step: what `passes` goes back to when the step is abandoned.
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
        """Opens events.jsonl. A later attempt says first where it goes on, since that supersedes what came after."""
        self._events = EventWriter(self.folder.events, self.folder.id, self.attempt)
        if from_step is not None:
            self._events.write(Resumed(from_step=from_step), step=from_step, epoch=self.epoch)

    def begin(self) -> None:
        """Everything is loaded: from now on a stop request is honoured by `poll`, with a checkpoint."""
        with self.gate:
            self.begun.set()

    @property
    def has_events(self) -> bool:
        """True once events can be written."""
        return self._events is not None

    def write(self, event: Event) -> None:
        """Append one event, stamped with the current step and epoch."""
        if self._events is None:
            raise RunError("Events were written before the session was opened.")
        self._events.write(event, step=self.step, epoch=self.epoch)

    def alert(self, level: Level, text: str) -> None:
        """An event of level "info", "warning" or "error", and the same line in log.txt."""
        print(f"{level}: {text}", flush=True)
        self.write(Alert(level=level, text=text))

    def begin_step(self, expected_passes: int, activity: str = "") -> None:
        """A step starts that takes about so many forward passes."""
        self.passes_at_start_of_step, self._expected = self.passes, max(expected_passes, 1)
        self.activity = activity or self.activity

    def poll(self) -> None:
        """Call before each forward pass: counts it, reports progress now and then, honours a stop request.

        Raises:
            StopRequested: the step in progress is to be abandoned.
        """
        self.stop()
        self.passes += 1
        # The very first pass is told at once: whoever launched the run waits for a sign of life.
        self.progress(force=self.passes == 1)

    def end_step(self, *, epoch: int, passes: int | None = None) -> None:
        """The step is done. passes: the exact number it took, when that is known better than by counting polls."""
        self.step, self.epoch = self.step + 1, epoch
        if passes is not None:
            self.passes = self.passes_at_start_of_step + passes
        self.passes_at_start_of_step, self._expected = self.passes, 0
        self.activity = f"{self.unit.removesuffix('s')} {self.step} done"

    def progress(self, *, force: bool = False) -> None:
        """Writes a progress event, at most about two a second unless `force`."""
        now = time.monotonic()
        if not force and now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_EVERY_S
        inside = min((self.passes - self.passes_at_start_of_step) / self._expected, 0.99) if self._expected else 0.0
        done = min(round(self.step + inside, 4), self.total)  # a measurement behind the last step is none
        detail = self.describe() if self.describe and self._expected else self.activity
        self.write(Progress(phase=self.kind, done=done, total=self.total, unit=self.unit, passes=self.passes, detail=detail))

    def checkpoint_due(self) -> bool:
        """True about every ten seconds."""
        return time.monotonic() >= self._next_checkpoint

    def checkpoint_written(self) -> None:
        """Says so in the events and starts the clock of the next."""
        self._next_checkpoint = time.monotonic() + CHECKPOINT_EVERY_S
        self.write(CheckpointWritten(path="last"))

    def close(self) -> None:
        """Closes events.jsonl; may be called twice."""
        if self._events is not None:
            self._events.close()


def is_disk_full(problem: BaseException) -> bool:
    """True for the errors of a full disk, a used-up quota and a file size limit."""
    return isinstance(problem, OSError) and problem.errno in DISK_FULL
