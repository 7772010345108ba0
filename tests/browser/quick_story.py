"""`make quick`: the newcomer's story with the real `quick` preset in a real browser, timed. Not part of `make test`: it takes
minutes. Writes the pictures of the README to docs/ (live.png while the search runs, finished.png at the end)."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from engine.log import RunLog
from engine.report.robustness import robustness_tables
from tests.browser.conftest import ROOT, Dashboard
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
    log = RunLog.open(dashboard.runs, in_memory=True)
    run = re.search(r"id=([\w-]+)", page.url).group(1)
    while len(log.genotypes(run)) < 4:
        time.sleep(1)
        log.ingest()
    picture(page, "live")

    expect(page.get_by_role("rowheader", name="Worst case", exact=True).first).to_be_visible(timeout=CHAIN_MS)
    minutes = (time.monotonic() - clicked) / 60
    picture(page, "finished")
    assert_no_traceback(page)
    log.ingest()
    (table,) = robustness_tables(log)
    result = table.rows[0].results
    steps = log.progress(run)["total"]
    print(f"click to attack table: {minutes:.1f} min; {steps:.0f} alpha steps; natural {result['natural'].accuracy:.3f}, "
          f"AutoAttack {result['autoattack'].accuracy:.3f} on {result['autoattack'].images} images")
    assert steps >= 40
    assert result["natural"].accuracy >= 0.95


def picture(page: Page, name: str) -> None:
    """The top of the page as docs/<name>.png."""
    page.set_viewport_size({"width": 1440, "height": 1500})
    page.wait_for_timeout(2_000)
    page.screenshot(path=ROOT / "docs" / f"{name}.png")
