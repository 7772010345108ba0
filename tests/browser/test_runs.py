"""The list of runs, clicked through: quick ticks, a range, tags by keyboard, the trash and back, and 1024 px of width."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from engine.run.folder import RunFolder, run_ids
from engine.run.marks import read_marks
from tests.browser.conftest import Dashboard
from tests.browser.test_newcomer import LOAD_MS, assert_no_traceback, open_page
from tests.sample_runs import write_sample_runs


def test_select_tag_trash_and_restore(page: Page, dashboard: Dashboard):
    """No click is lost although the reader is faster than the page, and the keyboard selects, marks and opens."""
    ids = write_sample_runs(dashboard.runs)
    page.set_viewport_size({"width": 1024, "height": 900})
    open_page(page, f"{dashboard.url}/runs")
    boxes = page.get_by_role("table", name="Runs").get_by_role("checkbox", name="Select ARNAS")
    expect(boxes).to_have_count(7, timeout=LOAD_MS)
    assert page.evaluate("[document.documentElement, document.querySelector('.rp-data')]"
                         ".every((one) => one.scrollWidth <= one.clientWidth)")
    for number in range(4):
        boxes.nth(number).click()
    expect(page.get_by_text("4 runs selected")).to_be_visible(timeout=LOAD_MS)
    boxes.nth(6).click(modifiers=["Shift"])
    expect(page.get_by_text("7 runs selected")).to_be_visible(timeout=LOAD_MS)
    page.get_by_role("checkbox", name="Select all rows of this page").click()
    expect(page.get_by_text("No run selected")).to_be_visible(timeout=LOAD_MS)

    row = page.get_by_role("row", name="Out of memory")
    row.focus()
    page.keyboard.press("Space")
    expect(row.get_by_role("checkbox")).to_be_checked()
    page.get_by_role("button", name="Mark").click()
    page.get_by_role("textbox", name="Tags").fill("big")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Tagged: 1 run")).to_be_visible(timeout=LOAD_MS)
    assert read_marks(RunFolder(dashboard.runs, ids["failed"])).tags == ("big",)
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Trash", exact=True).click()
    expect(row).to_have_count(0, timeout=LOAD_MS)
    assert ids["failed"] not in run_ids(dashboard.runs)
    page.get_by_role("button", name="Undo").click()
    expect(row).to_have_count(1, timeout=LOAD_MS)
    row.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/run?id={ids['failed']}", timeout=LOAD_MS)
    assert_no_traceback(page)
