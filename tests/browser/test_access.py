"""Strangers in a real browser: a foreign name, a page without the token, and another site that frames the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Playwright

from engine import accounts
from engine.cli.verbs import main
from engine.run.bell import expected_threads
from tests.browser import chromium
from tests.browser.conftest import Dashboard, end_processes_of, start_dashboard

PAGES = ("launch", "runs", "architectures", "pareto", "sql", "import")  # they hold every kind of chart, table and control
# Says whether a socket opens. The token's cookie goes with it if the browser has it.
OPENS = """(address) => new Promise((done) => {
  const socket = new WebSocket(address, ["streamlit"]);
  socket.onopen = () => done(true);
  socket.onerror = () => done(false);
})"""

# Adds HTML to the page, as text of a foreign run might, and says which part of the policy it violates.
VIOLATED = """(html) => new Promise((done) => {
  document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective), { once: true });
  document.body.insertAdjacentHTML("beforeend", html);
})"""


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard that asks for its token, over the runs of the example."""
    runs = tmp_path / "runs"
    assert main(["study", "example", "--runs", str(runs)]) == 0
    server = start_dashboard(runs, access="token")
    yield server
    server.process.terminate()
    server.process.wait(timeout=20)
    end_processes_of(runs)


@pytest.fixture
def rebound(playwright: Playwright) -> Iterator[Browser]:
    """A Chromium for which evil.example is this machine, as after DNS rebinding."""
    browser = playwright.chromium.launch(executable_path=chromium.executable(), args=[
        *chromium.FLAGS, "--disable-gpu", "--host-resolver-rules=MAP *.example 127.0.0.1"])
    yield browser
    browser.close()


def test_only_the_owner_of_the_token_gets_in(locked: Dashboard, rebound: Browser) -> None:
    page = rebound.new_page()
    refused_by_policy: list[str] = []
    page.on("console", lambda message: refused_by_policy.append(message.text) if "Content Security" in message.text else None)
    port, token = urlsplit(locked.url).port, (locked.runs / "control" / "token").read_text().strip()

    page.goto(f"{locked.url}/runs")
    assert page.get_by_role("heading").inner_text() == "Rampart asks for its token"
    assert not page.evaluate(OPENS, f"ws://127.0.0.1:{port}/_stcore/stream")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Open").click()
    for name in PAGES:
        settled(page, f"{locked.url}/{name}")
    assert not refused_by_policy
    assert page.evaluate(VIOLATED, '<img src="http://site.example/x.png">') == "img-src"
    assert page.evaluate(VIOLATED, '<img src="/x" onerror="alert()">') == "script-src-attr"
    assert page.evaluate(OPENS, f"ws://127.0.0.1:{port}/_stcore/stream")
    settled(page, f"{locked.url}/runs?token={token}")
    assert page.url == f"{locked.url}/runs"

    page.goto(f"http://evil.example:{port}/runs")
    assert page.get_by_role("heading").inner_text() == "This name is not allowed"
    assert not page.evaluate(OPENS, f"ws://evil.example:{port}/_stcore/stream")
    assert not page.evaluate(OPENS, f"ws://127.0.0.1:{port}/_stcore/stream")

    # Another site may link to the dashboard, but not frame it.
    page.route("http://site.example/", lambda route: route.fulfill(content_type="text/html", body=(
        f'<a href="{locked.url}/pareto">Pareto</a><iframe src="{locked.url}/runs"></iframe>')))
    page.goto("http://site.example/")
    assert page.frames[1].url.startswith("chrome-error:")
    page.get_by_text("Pareto").click()
    settled(page)
    assert page.url == f"{locked.url}/pareto"


def test_a_viewer_cannot_launch_and_is_gone_after_logging_out(tmp_path: Path, page: Page) -> None:
    accounts.add(tmp_path, "ada", "viewer", "correct horse battery")
    server = start_dashboard(tmp_path, access="login")
    try:
        page.goto(f"{server.url}/launch")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Log in").click()
        settled(page)
        page.goto(f"{server.url}/runs")  # the welcome page
        settled(page)
        page.goto(f"{server.url}/launch")
        settled(page)
        launch = page.get_by_test_id("stMain").get_by_role("button", name="Launch", exact=True)
        assert launch.is_disabled()
        assert page.get_by_text("This needs the role runner, and ada is viewer").is_visible()
        assert expected_threads(tmp_path) is None  # so no worker is made ready
        page.get_by_role("link", name="Log out").click()
        page.get_by_role("button", name="Log out").click()
        assert page.get_by_role("heading").inner_text() == "Log in to Rampart"
        page.goto(f"{server.url}/launch")
        assert page.get_by_label("Password").is_visible()
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)


def settled(page: Page, address: str = "") -> None:
    """Open an address if one is given, and wait until the page has been drawn."""
    if address:
        page.goto(address)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning] h1").wait_for(timeout=60_000)
