"""Work in the background of a page: measuring batches for a forecast, fetching a dataset, or measuring inherited accuracies.

Batches and accuracies are measured by separate processes. The thread here only waits for them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.errors import RampartError

_LOGGER = logging.getLogger(__name__)


@dataclass
class Task:
    """A function that runs in a thread.

    Attributes:
        work: the function. It gets the method `report` as its argument, and may call `report` with the current activity, the
            amount done and the total amount.
        started: value of `time.monotonic()` at the start.
        what, done, total: activity, amount done and total amount of the last report; "", 0 and 0 before the first report.
        problem: one sentence that says why the work failed, or "".
    """

    work: Callable[[Callable[[str, int, int], None]], object]
    started: float = field(default_factory=time.monotonic)
    what: str = ""
    done: int = 0
    total: int = 0
    problem: str = ""
    _stopped: bool = False

    def __post_init__(self) -> None:
        # A daemon thread lets the server exit at once.
        self._thread = threading.Thread(target=self._run, name="rampart-launch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """True until the function has returned."""
        return self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def stop(self) -> None:
        """Ask the function to stop. Its next call of `report` raises StoppedByUser."""
        self._stopped = True

    def wait(self, seconds: float) -> None:
        """Wait until the function has returned, at most `seconds` seconds."""
        self._thread.join(seconds)

    def report(self, what: str, done: int, total: int) -> None:
        """Record the progress of the function.

        Raises:
            StoppedByUser: the user has stopped the work.
        """
        if self._stopped:
            raise StoppedByUser("Stopped. What was downloaded is kept, and the next fetch goes on from there.")
        self.what, self.done, self.total = what, done, total

    def _run(self) -> None:
        try:
            self.work(self.report)
        except RampartError as refusal:
            self.problem = str(refusal)
        except Exception:  # noqa: BLE001 - the page must learn that the thread has ended
            _LOGGER.exception("The work of the Launch page failed")
            self.problem = "It failed unexpectedly; see the server's log for the cause."


class StoppedByUser(RampartError):
    """An error that ends a task because the user has stopped it."""
