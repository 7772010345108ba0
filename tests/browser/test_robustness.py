"""The Robustness page, clicked through: seeds share a table, a network is attacked from the page, compared and taken away."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from engine import api
from engine.log import RunLog
from tests.browser.conftest import Dashboard
from tests.browser.test_newcomer import CHAIN_MS, LOAD_MS, assert_no_traceback, open_page
from tests.engine.report.test_latex import balanced

SMALL = {"images": 64, "attacks": ("fgsm", "pgd-20")}


def chain(dashboard: Dashboard, seed: int, then: tuple[str, ...]) -> list[str]:
    """Launch a small chain with this seed and wait until it has ended."""
    changes = {"attack": SMALL} if "attack" in then else {}
    ids = api.launch("search", runs=dashboard.runs, method="arnas", preset="smoke", changes={"seed": seed}, then=then,
                     then_changes=changes)
    states = api.wait(ids, runs=dashboard.runs)
    assert {state.status for state in states.values()} == {"finished"}
    return ids


def test_attack_watch_compare_and_take_away(page: Page, dashboard: Dashboard):
    """Two chains of different seeds land in one table. A third network is attacked from the page and joins them."""
    chain(dashboard, 1, ("retrain", "attack"))
    chain(dashboard, 2, ("retrain", "attack"))
    third = chain(dashboard, 3, ("retrain",))[1]

    open_page(page, f"{dashboard.url}/robustness")
    table = page.get_by_role("table", name=re.compile("Networks attacked under protocol"))
    expect(table).to_have_count(1, timeout=LOAD_MS)
    for seed in (1, 2):
        expect(table.get_by_text(f"ARNAS, seed {seed}", exact=True)).to_be_visible(timeout=LOAD_MS)

    page.get_by_text("Attack another network under this protocol").click()
    expect(page.get_by_role("combobox", name="Retrained network")).to_have_value(re.compile(third), timeout=LOAD_MS)
    page.get_by_role("button", name="Attack", exact=True).click()
    expect(table.get_by_text("ARNAS: 3 networks", exact=True)).to_be_visible(timeout=CHAIN_MS)
    log = RunLog.open(dashboard.runs, in_memory=True)
    log.ingest()
    assert log.evaluations()["protocol"].nunique() == 1 and set(log.evaluations()["retrain_seed"]) == {1, 2, 3}

    for seed, compared in ((1, 1), (3, 2)):
        page.get_by_role("checkbox", name=re.compile(f"Compare ARNAS, seed {seed}$")).check()
        expect(page).to_have_url(re.compile(r"compare=[^&,]+" + "(%2C|,)[^&,]+" * (compared - 1)), timeout=LOAD_MS)
    expect(page.get_by_text(re.compile("cannot be told apart|is more accurate")).first).to_be_visible(timeout=LOAD_MS)
    table.get_by_role("button", name=re.compile("Parameters")).click()
    expect(page).to_have_url(re.compile("sort=-size"), timeout=LOAD_MS)
    expect(table.get_by_role("columnheader", name=re.compile("Parameters"))).to_have_attribute("aria-sort", "descending")
    page.locator("details.rp-export:has(a[download$='.tex']) summary").click()
    with page.expect_download(timeout=LOAD_MS) as download:
        page.locator("a[download$='.tex']").click()
    source = download.value.path().read_text(encoding="utf-8")
    assert balanced(source) and source.count("ARNAS") >= 3 and "\\toprule" in source
    assert_no_traceback(page)
