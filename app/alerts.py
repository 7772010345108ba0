"""The alerts that all pages show, kept until something changes, and handed to a webhook."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from app.webhook import Webhook
from engine.insight.alerts import READ, Alert, Bell
from engine.log import RunLog

# Alerts are computed again this many seconds after events that decide about them, and without such events after the longer time,
# because a worker falls silent and a disk fills up without an event.
SOON_S, LATE_S = 5.0, 15.0
MOVING = ("stalled", "disk")  # kinds whose sentence counts seconds or bytes; pages follow them once a minute


@dataclass(frozen=True)
class Look:
    """The alerts at one time.

    Attributes:
        at: time on the monotonic clock.
        revision: state of the run log.
        alerts: the alerts, worst first.
    """

    at: float
    revision: int
    alerts: tuple[Alert, ...]


class Alerts:
    """The alerts of a runs folder: of its runs that are active or have ended within the last day, and of its disk."""

    def __init__(self, log: RunLog) -> None:
        """Watch the runs of a log."""
        self._log, self._bell, self._lock = log, Bell(log), threading.Lock()
        self._look = Look(-math.inf, -1, ())
        self._webhook: Webhook | None = None

    def send_to(self, webhook: Webhook) -> None:
        """Send alerts to a webhook from now on. If it has never been used, those that exist already are not sent."""
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
        """Look for alerts if they are sent to a webhook, because then they are needed while no page is open."""
        if self._webhook is not None:
            self.now()

    def facts(self, run: str) -> object:
        """Return what changes with the alerts of a run, or with all alerts if `run` is ""."""
        minute = int(time.time() // 60)
        return [(one.level, one.kind, one.run, minute if one.kind in MOVING else one.sentence)
                for one in self.now() if run in ("", one.run)]
