"""Alerts as JSON for another program: each new warning and error is posted once to an address that the user chose.

A separate thread posts the alerts, so an address that does not answer delays nothing. `docs/alerts.md` describes the message.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from engine.errors import ConfigError
from engine.files import atomic_write_json

if TYPE_CHECKING:
    from engine.insight.alerts import Alert

VARIABLE = "RAMPART_WEBHOOK"
TOLD = "webhook.json"  # file below control/ that names the alerts that were sent
TIMEOUT_S, RETRY_S = 10.0, 5.0
MOST_TOLD = 2000
_LOGGER = logging.getLogger(__name__)


def checked(url: str) -> str:
    """Return `url`, the address of a webhook, if it can be used.

    Raises:
        ConfigError: `url` is not an http or https address with a host.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        fits = False
    if not fits:
        raise ConfigError(f"A webhook must be an http or https address, got {url!r}; for example https://hooks.example.org/alerts.")
    return url


class _NoRedirect(HTTPRedirectHandler):
    """A handler that follows no redirects, because a redirect may lead to another scheme or host."""

    def redirect_request(self, *_: Any) -> None:
        """Return None, which makes a redirect an error."""


class Webhook:
    """An address to which new warnings and errors are posted. A file records the sent alerts, so a restart repeats none."""

    def __init__(self, url: str, runs: Path) -> None:
        """Create a webhook for the alerts of a runs folder.

        Raises:
            ConfigError: the address cannot be used.
        """
        self._url, self._path = checked(url), runs / "control" / TOLD
        self._told = self._read()
        self._waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._opener = build_opener(_NoRedirect)
        threading.Thread(target=self._work, name="rampart-webhook", daemon=True).start()

    def begin(self, alerts: Iterable[Alert]) -> None:
        """Record existing alerts as sent, unless a webhook was used in this runs folder before."""
        if not self._path.exists():
            self._remember([identity(alert) for alert in alerts])

    def offer(self, alerts: Iterable[Alert]) -> None:
        """Send those warnings and errors among the alerts that were not sent before.

        They are recorded as sent before they are posted, so that a restart repeats none.
        """
        new = {identity(alert): alert for alert in alerts if alert.level != "info" and identity(alert) not in self._told}
        if new:
            self._remember(list(new))
            for alert in new.values():
                self._waiting.put(message(alert))

    def _read(self) -> dict[str, None]:
        try:
            return dict.fromkeys(map(str, json.loads(self._path.read_text(encoding="utf-8"))["told"]))
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _remember(self, identities: list[str]) -> None:
        told = [*self._told, *identities][-MOST_TOLD:]
        self._told = dict.fromkeys(told)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_json(self._path, {"told": told})
        except OSError as problem:
            _LOGGER.warning("%s cannot be written (%s): alerts may be sent again after a restart.", self._path, problem)

    def _work(self) -> None:
        """Post one message after another, for as long as the process lives."""
        while True:
            content = self._waiting.get()
            if (problem := self._post(content)) is not None:
                time.sleep(RETRY_S)
                problem = self._post(content)
            if problem is not None:
                host = urlsplit(self._url).hostname  # the rest of the address may be a secret
                _LOGGER.warning("An alert could not be sent to %s (%s): %s", host, problem, content["text"])

    def _post(self, content: dict[str, Any]) -> Exception | None:
        """Post a message. Return the error, or None if the message was posted."""
        request = Request(self._url, json.dumps(content).encode(), {"Content-Type": "application/json", "User-Agent": "rampart"})
        try:
            with self._opener.open(request, timeout=TIMEOUT_S):
                return None
        except (OSError, HTTPException) as problem:
            return problem


def identity(alert: Alert) -> str:
    """Return a hash by which the webhook recognises an alert that it has already sent.

    Two alerts have the same hash if their level, kind and run are equal. For some kinds, one more thing must be equal: the text
    of a message from the worker, the time of a failure, the step at which a worker fell silent, or the day of an alert about the
    disk.
    """
    about = {"run": alert.sentence, "failed": str(alert.t),
             "stalled": str(alert.step), "disk": time.strftime("%Y-%m-%d")}.get(alert.kind, "")
    return hashlib.blake2b("\n".join((alert.level, alert.kind, alert.run, about)).encode(), digest_size=10).hexdigest()


def message(alert: Alert) -> dict[str, Any]:
    """Return the message about an alert. Slack, Mattermost and others show its `text`."""
    where = f"{alert.run}: " if alert.run else ""
    return {"text": f"Rampart {alert.level}: {where}{alert.sentence}", "level": alert.level, "kind": alert.kind, "run": alert.run,
            "sentence": alert.sentence, "step": alert.step, "epoch": alert.epoch, "t": alert.t}
