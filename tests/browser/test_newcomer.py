"""The newcomer's story, clicked through: an empty studio, one click on Launch, a live page, cells and an attack table.

Chains that run to their end use `smoke`, well under a minute; `make quick` tells the story with the real demonstration.
"""

from __future__ import annotations

import re
import time

import psutil
from playwright.sync_api import Page, expect

from engine.command import program
from engine.log import RunLog
from engine.requests import supervisor_pid
from engine.run.folder import read_json
from tests.browser.conftest import Dashboard, start_dashboard
from tests.engine.run.processes import until

LOAD_MS = 30_000
CHAIN_MS = 240_000


def open_page(page: Page, url: str) -> None:
    """Goes to `url` and waits until Streamlit has drawn it."""
    page.goto(url)
    expect(page.locator("h1.rp-title")).to_be_visible(timeout=LOAD_MS)


def launch_smoke(page: Page, dashboard: Dashboard) -> str:
    """Launches the chain with preset `smoke`; returns the search's id once its page is open."""
    open_page(page, f"{dashboard.url}/launch?preset=smoke")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url(re.compile(r"/run\?id="), timeout=LOAD_MS)
    return re.search(r"id=([\w-]+)", page.url).group(1)


def assert_no_traceback(page: Page) -> None:
    """No page ever shows one."""
    assert page.get_by_text("Traceback").count() == 0
    assert page.locator('[data-testid="stException"]').count() == 0


def test_from_empty_studio_to_attack_table(page: Page, dashboard: Dashboard):
    open_page(page, dashboard.url)
    # A worker waits while a page is open from which a newcomer launches.
    supervisor = psutil.Process(until(lambda: supervisor_pid(dashboard.runs), "a supervisor"))
    (first_spare,) = until(supervisor.children, "a spare worker")
    page.get_by_role("button", name="Set up the first search").click()
    launch = page.get_by_role("button", name="Launch", exact=True)
    expect(launch).to_be_enabled(timeout=LOAD_MS)
    # The defaults are the demonstration, and it says so.
    expect(page.get_by_text("A demonstration in minutes on two CPU cores")).to_be_visible()
    expect(page.get_by_text(f"{program()} search")).to_be_visible()

    (spare,) = supervisor.children()
    assert spare == first_spare  # it suits the launch

    # One click, and within seconds a measured quantity moves.
    launch.click()
    clicked = time.monotonic()
    page.wait_for_url(re.compile(r"/run\?id="), timeout=LOAD_MS)
    counter = page.locator("[data-measured]").first
    expect(counter).to_be_visible(timeout=LOAD_MS)
    before = counter.get_attribute("data-measured")
    print(f"the first measured number stood on the page {time.monotonic() - clicked:.1f} s after the click")
    (record,) = dashboard.runs.glob(f"{page.url.rpartition('id=')[2]}/process.json")
    assert read_json(record)["pid"] == spare.pid
    expect(counter).not_to_have_attribute("data-measured", before, timeout=LOAD_MS)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("Stopped on request.").first).to_be_visible(timeout=LOAD_MS)

    run = launch_smoke(page, dashboard)
    # When the chain ends, the same page shows cells and attack table.
    expect(page.get_by_text("PGD-20").first).to_be_visible(timeout=CHAIN_MS)
    for cell in ("Accurate cell", "Reduction cell", "Robust cell"):
        expect(page.get_by_role("img", name=re.compile(f"^{cell}: .* to ")).first).to_be_visible(timeout=LOAD_MS)
    assert f"id={run}" in page.url
    assert_no_traceback(page)

    for name in ("runs", "pareto", "robustness"):
        open_page(page, f"{dashboard.url}/{name}")
        assert_no_traceback(page)
    log = RunLog.open(dashboard.runs)
    log.ingest()
    runs = log.runs()
    assert sorted(runs[runs["preset"] == "smoke"]["status"]) == ["finished"] * 3
    assert len(log.evaluations()) == 1


def test_double_click_launches_one_chain_and_a_killed_dashboard_changes_nothing(page: Page, dashboard: Dashboard):
    open_page(page, f"{dashboard.url}/launch?preset=smoke")
    page.get_by_role("button", name="Launch", exact=True).dblclick()
    page.wait_for_url(re.compile(r"/run\?id="), timeout=LOAD_MS)
    search = re.search(r"id=([\w-]+)", page.url).group(1)
    folders = [path.name for path in dashboard.runs.iterdir() if (path / "run.json").exists()]
    assert len(folders) == 3, folders

    process = wait_for_file(dashboard.runs / search / "process.json")
    port = int(dashboard.url.rsplit(":", 1)[1])
    dashboard.kill()
    assert psutil.pid_exists(process["pid"])
    again = start_dashboard(dashboard.runs, port)
    dashboard.process = again.process
    # A reload loses nothing.
    page.reload()
    expect(page.locator("h1.rp-title")).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text("PGD-20").first).to_be_visible(timeout=CHAIN_MS)
    assert_no_traceback(page)


def test_killed_worker_shows_as_failed_with_its_cause_and_resumes(page: Page, dashboard: Dashboard):
    run = launch_smoke(page, dashboard)
    process = wait_for_file(dashboard.runs / run / "process.json")
    psutil.Process(process["pid"]).kill()
    killed = time.monotonic()
    expect(page.get_by_text(re.compile("killed by signal 9", re.I)).first).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text("Failed").first).to_be_visible(timeout=LOAD_MS)
    print(f"the killed worker stood as failed on the page after {time.monotonic() - killed:.1f} s")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("PGD-20").first).to_be_visible(timeout=CHAIN_MS)
    assert_no_traceback(page)


def wait_for_file(path, timeout_s: float = 30.0) -> dict:
    """Contents of a JSON file, as soon as it is there."""
    import json

    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.05)
    return json.loads(path.read_text())
