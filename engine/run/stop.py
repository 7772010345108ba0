"""Stop requests on the worker's side: a file checked between forward passes, or a termination signal."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from engine.errors import StopRequested

# A check costs a few microseconds, but attacks poll thousands of times a second.
LOOK_EVERY_S = 0.05


class StopPoll:
    """A poll that raises `StopRequested` once the request file exists or a signal has arrived."""

    def __init__(self, request: Path) -> None:
        """Watch the file `request`, the run's control/stop."""
        self._request = str(request)
        self._next_look = 0.0
        self._signal = ""
        self.requested = False

    def listen(self) -> None:
        """Treat SIGTERM and SIGINT as stop requests, so that a shutdown of the machine leaves a checkpoint."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> None:
        """Check for a request; called between forward passes.

        Raises:
            StopRequested: a stop was requested; raised on every call from then on.
        """
        now = time.monotonic()
        if not self.requested and now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self.requested = self.is_requested()
        if self.requested or self._signal:
            self.requested = True
            raise StopRequested

    def is_requested(self) -> bool:
        """Return True if a stop was requested, without waiting for the next check."""
        return bool(self._signal) or os.path.exists(self._request)  # noqa: PTH110 (a Path would cost more than the check)

    @property
    def cause(self) -> str:
        """The reason for the stop, as a sentence for the page."""
        return f"Stopped by {self._signal}." if self._signal else "Stopped on request."

    def _on_signal(self, number: int, frame: object) -> None:
        self._signal = signal.Signals(number).name
