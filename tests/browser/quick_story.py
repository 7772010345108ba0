"""`make quick`: the newcomer's story with the real `quick` preset in a real browser, timed. Not part of `make test`: it takes
minutes."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from engine.log import RunLog
from engine.report.robustness import robustness_tables
from tests.browser.conftest import Dashboard
from tests.browser.test_newcomer import LOAD_MS, assert_no_traceback, open_page

CHAIN_MS = 20 * 60_000


def test_quick_from_click_to_attack_table(page: Page, dashboard: Dashboard):
    open_page(page, dashboard.url)
    page.get_by_role("button", name="Set up the first search").click()
    page.get_by_role("button", name="Launch", exact=True).click()
    clicked = time.monotonic()
    page.wait_for_url(re.compile(r"/run\?id="), timeout=LOAD_MS)
    expect(page.locator("[data-measured]").first).to_be_visible(timeout=LOAD_MS)
    print(f"first measured number on the page: {time.monotonic() - clicked:.1f} s after the click")
    run = re.search(r"id=([\w-]+)", page.url).group(1)
    expect(page.get_by_role("rowheader", name="Worst case", exact=True).first).to_be_visible(timeout=CHAIN_MS)
    minutes = (time.monotonic() - clicked) / 60
    assert_no_traceback(page)
    log = RunLog.open(dashboard.runs, in_memory=True)
    log.ingest()
    (table,) = robustness_tables(log)
    result = table.rows[0].results
    steps = log.progress(run)["total"]
    print(f"click to attack table: {minutes:.1f} min; {steps:.0f} alpha steps; natural {result['natural'].accuracy:.3f}, "
          f"AutoAttack {result['autoattack'].accuracy:.3f} on {result['autoattack'].images} images")
    assert steps >= 40
    assert result["natural"].accuracy >= 0.95
