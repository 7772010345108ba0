"""The alerts that all pages show. They are cached for a few seconds, and are also sent to a webhook if there is one."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from app.webhook import Webhook
from engine.insight.alerts import READ, Alert, Bell
from engine.log import RunLog

# Alerts are computed again after the first of these times in seconds if events have been read that can change them, otherwise
# after the second, because a worker can fall silent and a disk can fill up without an event.
SOON_S, LATE_S = 5.0, 15.0
MOVING = ("stalled", "disk")  # kinds whose sentence counts seconds or bytes; pages follow them once a minute


@dataclass(frozen=True)
class Look:
    """The alerts at one moment.

    Attributes:
        at: value of `time.monotonic()` at this moment.
        revision: revision of the run log at this moment (`RunLog.revision`).
        alerts: the alerts, worst first.
    """

    at: float
    revision: int
    alerts: tuple[Alert, ...]


class Alerts:
    """The alerts about a runs folder: about runs that are active or ended within the last day, and about the disk."""

    def __init__(self, log: RunLog) -> None:
        """Create an object for the alerts about the runs in a run log."""
        self._log, self._bell, self._lock = log, Bell(log), threading.Lock()
        self._look = Look(-math.inf, -1, ())
        self._webhook: Webhook | None = None

    def send_to(self, webhook: Webhook) -> None:
        """Send alerts to a webhook from now on. If the runs folder had no webhook before, the present alerts are not sent."""
        webhook.begin(self.now())
        self._webhook = webhook

    def now(self) -> tuple[Alert, ...]:
        """Return the alerts, worst first. They are at most `LATE_S` seconds old."""
        with self._lock:
            revision, waited = self._log.revision(READ), time.monotonic() - self._look.at
            if waited >= LATE_S or (waited >= SOON_S and revision != self._look.revision):
                self._look = Look(time.monotonic(), revision, tuple(self._bell.alerts()))
                if self._webhook is not None:
                    self._webhook.offer(self._look.alerts)
            return self._look.alerts

    def work(self) -> None:
        """Update the alerts if there is a webhook, which must get them even while no page is open."""
        if self._webhook is not None:
            self.now()

    def facts(self, run: str) -> object:
        """Return values that change whenever the alerts about a run change; if `run` is "", whenever any alert changes."""
        minute = int(time.time() // 60)
        return [(one.level, one.kind, one.run, minute if one.kind in MOVING else one.sentence)
                for one in self.now() if run in ("", one.run)]
