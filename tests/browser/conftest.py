"""A real dashboard on a free loopback port over an empty `runs/` folder, and a real Chromium that uses it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.browser import chromium

ROOT = Path(__file__).resolve().parents[2]
SETTLED = "document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]') && document.querySelector('h1')"
DRAWN = "[...document.querySelectorAll('.rp-plot')].every((plot) => plot.querySelector('.main-svg'))"


@dataclass
class Dashboard:
    """A running dashboard: its address, its `runs/` folder and its process."""

    url: str
    runs: Path
    process: subprocess.Popen

    def kill(self) -> None:
        """Kills the server the hard way; runs must not notice."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)


def free_port() -> int:
    """A loopback port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_dashboard(runs: Path, port: int | None = None, checkout: Path = ROOT, access: str = "open") -> Dashboard:
    """Starts `python -m app` of the code in `checkout` over `runs` and waits until it answers.

    Everybody may open it, unless `access` is "token" or "login".

    Raises:
        RuntimeError: it did not answer within a minute; carries what it printed.
    """
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", str(port)], cwd=checkout,
        env=os.environ | {"RAMPART_RUNS": str(runs), "RAMPART_ACCESS": access},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return Dashboard(f"http://127.0.0.1:{port}", runs, process)
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"the dashboard did not start: {process.communicate()[0]}")


def settle(page: Page) -> None:
    """Waits until the page's script has ended and its charts are drawn."""
    page.wait_for_function(f"{SETTLED} && {DRAWN}", timeout=60_000)


def end_processes_of(runs: Path) -> None:
    """Ends every engine process that works on `runs` (supervisor and workers), by pid."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if str(runs) in command and any(part.startswith("engine") for part in command):
            process.kill()


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard over an empty folder; it and everything it started end with the test."""
    runs = tmp_path / "runs"
    runs.mkdir()
    server = start_dashboard(runs)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(timeout=20)
        end_processes_of(runs)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard that tests share where neither what ran before nor what is running matters: a start costs seconds."""
    runs = tmp_path_factory.mktemp("studio") / "runs"
    runs.mkdir()
    server = start_dashboard(runs)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)
        end_processes_of(runs)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright, of which a process can run only one."""
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """One Chromium for the session."""
    path = chromium.executable()
    assert path, "no Chromium: run 'make setup'"
    instance = playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
    yield instance
    instance.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh tab of 1440 x 900. It fails the test when it, or another tab of its context, asks anybody but the loopback
    interface."""
    # Playwright waits for conditions by evaluating text, which the dashboard's policy forbids. `test_access` keeps the policy.
    context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
    foreign: list[str] = []
    context.on("request", lambda request: None if request.url.startswith(("http://127.0.0.1", "data:", "blob:"))
           else foreign.append(request.url))
    yield context.new_page()
    context.close()
    assert not foreign, f"the page asked other machines: {foreign}"
