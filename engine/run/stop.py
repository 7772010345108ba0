"""The worker's check for stop requests, made between forward passes. A stop request is a file or a termination signal."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from engine.errors import StopRequested

# Looking for the file takes a few microseconds, which adds up because attacks poll thousands of times a second.
LOOK_EVERY_S = 0.05


class StopPoll:
    """A check that raises `StopRequested` once the run's file control/stop exists or a termination signal has arrived."""

    def __init__(self, request: Path) -> None:
        """Create the check for stop requests.

        Args:
            request: file whose existence requests a stop: control/stop in the run's folder.
        """
        self._request = str(request)
        self._next_look = 0.0
        self._signal = ""
        self.requested = False

    def listen(self) -> None:
        """Treat SIGTERM and SIGINT as stop requests, so that the run writes a checkpoint when the machine shuts down."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> None:
        """Check for a stop request. The worker calls this between forward passes.

        The file that requests a stop is looked for at most every `LOOK_EVERY_S` seconds.

        Raises:
            StopRequested: a stop has been requested. Every later call raises the exception again.
        """
        now = time.monotonic()
        if not self.requested and now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self.requested = self.is_requested()
        if self.requested or self._signal:
            self.requested = True
            raise StopRequested

    def is_requested(self) -> bool:
        """Return True if a stop has been requested. The file is always looked for, even shortly after the last check."""
        return bool(self._signal) or os.path.exists(self._request)  # noqa: PTH110 (a Path would cost more than the check)

    @property
    def cause(self) -> str:
        """The reason for the stop, as a sentence for the run page."""
        return f"Stopped by {self._signal}." if self._signal else "Stopped on request."

    def _on_signal(self, number: int, frame: object) -> None:
        self._signal = signal.Signals(number).name
