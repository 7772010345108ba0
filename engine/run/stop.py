"""Stop requests as the worker sees them: a file that is looked for between forward passes, or a polite signal."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from engine.errors import StopRequested

# A look costs a few microseconds; attacks poll thousands of times a second.
LOOK_EVERY_S = 0.05


class StopPoll:
    """Raises `StopRequested` once the request file is there or a signal came."""

    def __init__(self, request: Path) -> None:
        """request: the run's control/stop."""
        self._request = str(request)
        self._next_look = 0.0
        self._signal = ""
        self.requested = False

    def listen(self) -> None:
        """Makes SIGTERM and SIGINT a stop request, so that a shutdown of the machine leaves a checkpoint."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> None:
        """Call between forward passes.

        Raises:
            StopRequested: each time from the first sight of the request on.
        """
        now = time.monotonic()
        if not self.requested and now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self.requested = self.is_requested()
        if self.requested or self._signal:
            self.requested = True
            raise StopRequested

    def is_requested(self) -> bool:
        """Looks now."""
        return bool(self._signal) or os.path.exists(self._request)  # noqa: PTH110 (a Path would cost more than the look)

    @property
    def cause(self) -> str:
        """Who asked, as a sentence for the page."""
        return f"Asked to end by {self._signal}." if self._signal else "Stopped on request."

    def _on_signal(self, number: int, frame: object) -> None:
        self._signal = signal.Signals(number).name
