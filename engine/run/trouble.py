"""The handling of errors that must not end the supervisor: they are logged. Imports no torch."""

from __future__ import annotations

import contextlib
import sys
import time


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
