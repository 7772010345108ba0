"""axe over every page, 1024 px wide, and what a page says when the dashboard stops, in one Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from engine.study.archive import open_example
from tests import sample_runs
from tests.browser.conftest import Dashboard, settle, start_dashboard

CHAIN = "20261118-0906-{}-digits-7f3{}"
SEARCH, ATTACK = CHAIN.format("arnas", "a"), CHAIN.format("attack", "c")
FULL = ("launch", "runs", "queue", "datasets", "sql", f"run?id={SEARCH}", f"run?id={ATTACK}",
        "run?id=20261118-0911-arnas-digits-0a02", "architectures",
        "architectures?show=083c03c325f4,cee20e3271cf&swap=robust.2.skip_connect", "pareto",
        f"compare?runs={SEARCH},20261118-0912-arnas-digits-0a03", "robustness", "import", "nowhere")
EMPTY = ("runs", "studies", "study")
# The drawings of charts hold thousands of elements and nothing that can be used; their colours have tests of their own. The rows
# of a long table look alike. Neither is drawn by React, so they can be removed to save time.
PLAIN = "document.querySelectorAll('.main-svg, tbody tr:nth-child(n+9)').forEach((one) => one.remove())"
# A theme changes colours only, and the rules of contrast take axe as long as all others together.
FINDINGS = """async (rules) => (await axe.run(document, { resultTypes: ["violations"], runOnly: rules })).violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target} ${node.html.slice(0, 160)} ${node.any[0]?.message}`))"""
# Elements that scroll by themselves, such as wide tables, may be wider than the page.
TOO_WIDE = """() => [document.documentElement, document.querySelector("[data-testid=stMain]")]
    .filter((one) => one.scrollWidth > one.clientWidth).map((one) => `${one.scrollWidth - one.clientWidth} px too wide`)"""
ALL = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard over an empty folder, which the tests fill: a start costs seconds."""
    runs = tmp_path_factory.mktemp("accessible") / "runs"
    runs.mkdir()
    server = start_dashboard(runs)
    yield server
    if server.process.poll() is None:
        server.process.terminate()
        server.process.wait(timeout=20)


def write_runs(server: Dashboard) -> None:
    """Write runs in every state, unless an earlier test has."""
    if not (server.runs / SEARCH).exists():
        sample_runs.write_sample_runs(server.runs)


def findings(page: Page, address: str) -> list[str]:
    """Open a page, and return how far it scrolls sideways, and axe's serious and critical findings in light and dark theme."""
    page.emulate_media(color_scheme="light")
    page.goto(address)
    settle(page)
    wide = page.evaluate(TOO_WIDE)
    page.evaluate(PLAIN)
    found = page.evaluate(FINDINGS, ALL)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("getComputedStyle(document.querySelector('.stApp')).colorScheme === 'dark'")
    assert page.locator("h1").count() == 1, f"{address} has no title in the dark theme"
    return wide + found + [f"dark: {one}" for one in page.evaluate(FINDINGS, ["color-contrast"])]


def test_no_page_has_a_serious_finding_or_scrolls_sideways_at_1024_px(page: Page, server: Dashboard) -> None:
    """One tab sees all pages: without runs, with runs in every state, and the page of the example study."""
    page.add_init_script(Axe().axe_script)
    page.set_viewport_size({"width": 1024, "height": 900})
    found = {f"empty {path}": findings(page, f"{server.url}/{path}") for path in EMPTY}
    write_runs(server)
    found |= {path: findings(page, f"{server.url}/{path}") for path in FULL}
    (study, *_) = open_example(server.runs)
    found["example study"] = findings(page, f"{server.url}/study?id={study}")
    assert not {path: words for path, words in found.items() if words}


def test_chart_data_and_downloads_by_keyboard_and_the_notice_of_a_stopped_dashboard(page: Page, server: Dashboard) -> None:
    write_runs(server)
    page.goto(f"{server.url}/run?id={SEARCH}")
    table = page.locator(".st-key-rp-chartdata-run_trade_off")
    table.locator("summary").press("Enter")
    expect(table.get_by_role("columnheader").first).to_be_visible(timeout=30_000)
    assert table.locator("thead").inner_text().strip().split("\t") == ["Series", "Quantity", "step", "Value"]
    assert "natural\taccuracy (%)\t10\t19.74" in table.locator("tbody").inner_text()
    export = page.locator(".st-key-rp-exportof-run_trade_off")
    export.locator("summary").press("Enter")
    with page.expect_download(timeout=30_000) as download:
        export.get_by_role("link", name="CSV").press("Enter")
    assert download.value.suggested_filename == f"{SEARCH}-run-trade-off.csv"
    assert download.value.path().read_text(encoding="utf-8").startswith("name,step,t,value")
    page.get_by_role("link", name="Weights (.pt)").click()
    failed = page.locator(".rp-filenote.rp-bad")
    expect(failed).to_contain_text("could not be made. ", timeout=60_000)
    assert "wait for it or resume it" in failed.inner_text()
    server.kill()
    expect(page.locator(".rp-offline")).to_contain_text("runs go on. Start it again with rampart ui --port", timeout=30_000)
    expect(page.get_by_role("dialog")).to_have_count(0)
