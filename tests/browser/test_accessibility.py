"""axe over every page, and what a page says when the dashboard stops, in one Chromium."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from engine.study.archive import open_example
from engine.study.folder import study_ids
from tests import sample_runs
from tests.browser.conftest import Dashboard, settle, start_dashboard

CHAIN = "20261118-0906-{}-digits-7f3{}"
SEARCH, ATTACK = CHAIN.format("arnas", "a"), CHAIN.format("attack", "c")
FULL = ("launch", "runs", "queue", f"run?id={SEARCH}", f"run?id={ATTACK}", "run?id=20261118-0911-arnas-digits-0a02",
        "pareto", f"compare?runs={SEARCH},20261118-0912-arnas-digits-0a03", "robustness", "import", "nowhere")
EMPTY = ("runs", "studies", "study")
# The drawings of charts hold hundreds of texts and nothing that can be used; their colours have tests of their own.
# A theme changes colours only. The rules of contrast take axe as long as all others together.
FINDINGS = """async (rules) => (await axe.run({ exclude: [".main-svg"] }, { resultTypes: ["violations"], runOnly: rules }))
    .violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target} ${node.html.slice(0, 160)} ${node.any[0]?.message}`))"""
ALL = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard over an empty folder, which `full` and `example` fill later: a start costs seconds."""
    runs = tmp_path_factory.mktemp("accessible") / "runs"
    runs.mkdir()
    server = start_dashboard(runs)
    yield server
    if server.process.poll() is None:
        server.process.terminate()
        server.process.wait(timeout=20)


@pytest.fixture(scope="module")
def full(server: Dashboard) -> Dashboard:
    """The same dashboard over runs in every state."""
    sample_runs.write_sample_runs(server.runs)
    return server


@pytest.fixture(scope="module")
def example(full: Dashboard) -> Dashboard:
    """The same dashboard, with the example study and its runs as well."""
    open_example(full.runs)
    return full


def findings(page: Page, addresses: Sequence[str]) -> dict[str, list[str]]:
    """Return {address: serious and critical findings of axe in the light and in the dark theme} of pages with findings.

    While axe looks at a page, the next one loads in another tab.
    """
    page.context.add_init_script(Axe().axe_script)
    found: dict[str, list[str]] = {}
    coming = _opened(page, addresses[0])
    for address, following in zip(addresses, (*addresses[1:], None), strict=True):
        tab, coming = coming, _opened(page, following) if following else page
        settle(tab)
        words = tab.evaluate(FINDINGS, ALL)
        tab.emulate_media(color_scheme="dark")
        tab.wait_for_function("getComputedStyle(document.querySelector('.stApp')).colorScheme === 'dark'")
        if words := words + [f"dark: {one}" for one in tab.evaluate(FINDINGS, ["color-contrast"])]:
            found[address] = words
        tab.close()
    return found


def _opened(page: Page, address: str) -> Page:
    """Return a new tab that begins to load a page in the light theme."""
    tab = page.context.new_page()
    tab.emulate_media(color_scheme="light")
    tab.goto(address, wait_until="commit")
    return tab


def test_no_page_without_runs_has_a_serious_finding(page: Page, server: Dashboard) -> None:
    assert not findings(page, [f"{server.url}/{path}" for path in EMPTY])


def test_no_page_has_a_serious_finding(page: Page, full: Dashboard) -> None:
    assert not findings(page, [f"{full.url}/{path}" for path in FULL])


def test_the_page_of_a_whole_study_has_no_serious_finding(page: Page, example: Dashboard) -> None:
    address = f"{example.url}/study?id={study_ids(example.runs)[0]}"
    assert not findings(page, [address])


def test_chart_data_by_keyboard_and_the_notice_of_a_stopped_dashboard(page: Page, full: Dashboard) -> None:
    page.goto(f"{full.url}/run?id={SEARCH}")
    table = page.locator(".st-key-rp-chartdata-run_trade_off")
    table.locator("summary").press("Enter")
    expect(table.get_by_role("columnheader").first).to_be_visible(timeout=30_000)
    assert table.locator("thead").inner_text().strip().split("\t") == ["Series", "Quantity", "step", "Value"]
    assert "natural\taccuracy\t10\t0.19744" in table.locator("tbody").inner_text()
    full.kill()
    expect(page.locator(".rp-offline")).to_contain_text("runs go on. Start it again with rampart ui --port", timeout=30_000)
    expect(page.get_by_role("dialog")).to_have_count(0)
