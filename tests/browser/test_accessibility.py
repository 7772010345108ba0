"""axe over every page, and what a page says when the dashboard stops, in one Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests import sample_runs
from tests.browser.conftest import Dashboard, start_dashboard

CHAIN = "20261118-0906-{}-digits-7f3{}"
SEARCH, ATTACK = CHAIN.format("arnas", "a"), CHAIN.format("attack", "c")
FULL = ("launch", "runs", "queue", f"run?id={SEARCH}", f"run?id={ATTACK}", "run?id=20261118-0911-arnas-digits-0a02",
        "pareto", f"compare?runs={SEARCH},20261118-0912-arnas-digits-0a03", "robustness", "import", "nowhere")
EMPTY = ("runs", "studies", "study")
SETTLED = "document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]') && document.querySelector('h1')"
DRAWN = "[...document.querySelectorAll('.rp-plot')].every((plot) => plot.querySelector('.main-svg'))"
# The drawings of charts hold hundreds of texts and nothing that can be used; their colours have tests of their own.
# A theme changes colours only. The rules of contrast take axe as long as all others together.
FINDINGS = """async (rules) => (await axe.run({ exclude: [".main-svg"] }, { resultTypes: ["violations"], runOnly: rules }))
    .violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target} ${node.html.slice(0, 160)} ${node.any[0]?.message}`))"""
ALL = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard over runs in every state."""
    runs = tmp_path_factory.mktemp("accessible") / "runs"
    runs.mkdir()
    sample_runs.write_sample_runs(runs)
    server = start_dashboard(runs)
    yield server
    if server.process.poll() is None:
        server.process.terminate()
        server.process.wait(timeout=20)


def findings(page: Page, address: str) -> list[str]:
    """Open a page, and return the serious and critical findings of axe in the light and in the dark theme."""
    page.emulate_media(color_scheme="light")
    page.goto(address)
    page.wait_for_function(f"{SETTLED} && {DRAWN}", timeout=60_000)
    found = page.evaluate(FINDINGS, ALL)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("getComputedStyle(document.querySelector('.stApp')).colorScheme === 'dark'")
    return found + [f"dark: {one}" for one in page.evaluate(FINDINGS, ["color-contrast"])]


def test_no_page_has_a_serious_finding(page: Page, full: Dashboard, studio: Dashboard) -> None:
    page.add_init_script(Axe().axe_script)
    found = {path: findings(page, f"{full.url}/{path}") for path in FULL}
    found |= {f"empty {path}": findings(page, f"{studio.url}/{path}") for path in EMPTY}
    assert not {path: words for path, words in found.items() if words}


def test_chart_data_and_downloads_by_keyboard_and_the_notice_of_a_stopped_dashboard(page: Page, full: Dashboard) -> None:
    page.goto(f"{full.url}/run?id={SEARCH}")
    table = page.locator(".st-key-rp-chartdata-run_trade_off")
    table.locator("summary").press("Enter")
    expect(table.get_by_role("columnheader").first).to_be_visible(timeout=30_000)
    assert table.locator("thead").inner_text().strip().split("\t") == ["Series", "Quantity", "step", "Value"]
    assert "natural\taccuracy\t10\t0.19744" in table.locator("tbody").inner_text()
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
    full.kill()
    expect(page.locator(".rp-offline")).to_contain_text("runs go on. Start it again with rampart ui --port", timeout=30_000)
    expect(page.get_by_role("dialog")).to_have_count(0)
