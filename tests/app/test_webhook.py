"""The webhook, with a real server on this machine."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from app import webhook
from app.alerts import Alerts
from app.webhook import Webhook, checked
from engine.errors import ConfigError
from engine.insight.alerts import Alert
from engine.log import snapshot
from tests.app.test_alerts import NOW, write_search

ROOT = Path(__file__).resolve().parents[2]
WARNING = Alert("warning", "collapse", "some-run", 30, 3, "The robust cell has collapsed.", 1.5)


class Receiver(HTTPServer):
    """A server that answers requests with the given codes, then with 204, and keeps what it was sent."""

    def __init__(self, *codes: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.codes, self.inbox = list(codes), queue.Queue[dict[str, Any]]()
        self.url = f"http://127.0.0.1:{self.server_port}/alerts"
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.inbox.put(content | {"type": self.headers["Content-Type"]})
        self.send_response(self.server.codes.pop(0) if self.server.codes else 204)
        self.send_header("Location", "file:///etc/hostname")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "RETRY_S", 0.0)


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A server that first answers with the codes of the test's parameter."""
    server = Receiver(*getattr(request, "param", ()))
    yield server
    server.shutdown()
    server.server_close()


def used(receiver: Receiver, runs: Path) -> Webhook:
    """Return a webhook that has been used in the runs folder before."""
    hook = Webhook(receiver.url, runs)
    hook.begin([])
    return hook


def test_a_warning_is_posted_once_even_after_a_restart(receiver: Receiver, tmp_path: Path) -> None:
    hook = used(receiver, tmp_path)
    for _ in range(2):
        hook.offer([WARNING, replace(WARNING, level="info", kind="entropy floor")])
    assert receiver.inbox.get(timeout=10) == {
        "type": "application/json", "text": "Rampart warning: some-run: The robust cell has collapsed.", "level": "warning",
        "kind": "collapse", "run": "some-run", "sentence": "The robust cell has collapsed.", "step": 30, "epoch": 3, "t": 1.5}
    again = Webhook(receiver.url, tmp_path)
    again.begin([])
    again.offer([replace(WARNING, sentence="The same finding with other numbers."), replace(WARNING, run="other-run")])
    assert receiver.inbox.get(timeout=10)["run"] == "other-run" and receiver.inbox.empty()


@pytest.mark.parametrize(("receiver", "is_logged"), [((500,), False), ((500, 503), True), ((302, 302), True)],
                         indirect=["receiver"])
def test_a_failure_is_retried_once_and_a_redirect_is_one(receiver: Receiver, is_logged: bool, tmp_path: Path,
                                                         caplog: pytest.LogCaptureFixture) -> None:
    hook = used(receiver, tmp_path)
    hook.offer([WARNING])
    hook.offer([replace(WARNING, kind="robust overfitting")])
    kinds = [receiver.inbox.get(timeout=10)["kind"] for _ in range(3)]
    assert kinds == ["collapse", "collapse", "robust overfitting"] and receiver.inbox.empty()
    assert ("could not be sent to 127.0.0.1" in caplog.text) == is_logged and "/alerts" not in caplog.text


def test_alerts_from_before_the_first_use_are_not_sent(receiver: Receiver, tmp_path: Path) -> None:
    write_search(tmp_path, NOW, ("warning", "An old one."))
    with snapshot(tmp_path) as log:
        alerts = Alerts(log)
        alerts.send_to(Webhook(receiver.url, tmp_path))
        new = NOW.replace("0a01", "0a02")
        write_search(tmp_path, new, ("error", "A new one."))
        log.ingest()
        alerts._look = replace(alerts._look, at=0.0)  # as if it were long ago
        alerts.work()
        sent = [receiver.inbox.get(timeout=10) for _ in range(2)]  # both are queued before the first is sent
        assert {(one["run"], one["sentence"]) for one in sent} == {(new, "A new one."), (new, "Out of memory.")}
        with pytest.raises(queue.Empty):
            receiver.inbox.get(timeout=0.2)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "hooks.example.org", "http://", "http://host:port/"])
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be an http or https address"):
        checked(url)
    with pytest.raises(ConfigError):
        Webhook(url, tmp_path)


@pytest.mark.parametrize(("arguments", "variable"), [(["--webhook", "file:///x"], ""), ([], "file:///x")])
def test_the_dashboard_refuses_the_address_with_a_sentence(arguments: list[str], variable: str) -> None:
    ended = subprocess.run([sys.executable, str(ROOT / "app"), *arguments], capture_output=True, text=True, timeout=60,
                           env=os.environ | {"RAMPART_WEBHOOK": variable}, check=False)
    assert ended.returncode == 2 and ended.stderr.startswith("A webhook must be an http or https address, got 'file:///x'")
