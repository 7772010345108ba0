"""A study launched by clicking: a pasted text, a page that fills in by itself, and an answer at the end."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from engine.study.folder import study_ids
from engine.study.overview import read_overview
from tests.browser.conftest import Dashboard
from tests.browser.test_newcomer import LOAD_MS, assert_no_traceback, open_page

STUDY_MS = 300_000
TEXT = """\
question: Do wider networks withstand more?
dataset: digits
preset: smoke
search_seeds: 2
arms:
  - {name: Narrow, method: arnas, attack: {attacks: [fgsm], images: 64}}
  - {name: Wide, method: arnas, search: {width_ratio: "1:2:4"}, attack: {attacks: [fgsm], images: 64}}
"""


def test_a_study_from_its_text_to_its_answer(page: Page, dashboard: Dashboard):
    """Two arms and two seeds are launched from the editor; the study's page shows its answer without a reload."""
    open_page(page, f"{dashboard.url}/studies")
    expect(page.get_by_text("Does the space with accurate cells first beat the conventional one?")).to_be_visible(timeout=LOAD_MS)
    page.get_by_role("radio", name="Your own study").click()
    page.get_by_role("radio", name="Text", exact=True).click()
    field = page.get_by_role("textbox", name=re.compile("Study in YAML or JSON"))
    expect(field).to_have_value(re.compile("question:"), timeout=LOAD_MS)
    field.fill(TEXT)
    field.press("Control+Enter")
    expect(page.get_by_text("12 runs in 4 cells: 2 arms × 2 search seeds")).to_be_visible(timeout=LOAD_MS)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url(re.compile(r"/study\?id="), timeout=LOAD_MS)

    answer = page.get_by_role("region", name="Answer")
    expect(answer.get_by_text("Provisional")).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text("4 of 4 cells")).to_be_visible(timeout=STUDY_MS)
    expect(answer.get_by_text("Provisional")).to_have_count(0, timeout=LOAD_MS)
    expect(answer.get_by_text("Demonstration, no claim")).to_be_visible()
    expect(answer.get_by_text(re.compile(r"Narrow minus Wide is −?\d+\.\d points"))).to_be_visible()
    (study_id,) = study_ids(dashboard.runs)
    overview = read_overview(dashboard.runs, study_id)
    assert overview.status == "finished" and overview.results.done == 4
    for arm in ("Narrow", "Wide"):
        for seed in (0, 1):
            expect(page.get_by_role("link", name=re.compile(f"^{arm}, seed {seed}: finished, "))).to_be_visible(timeout=LOAD_MS)
    assert_no_traceback(page)

    open_page(page, f"{dashboard.url}/studies")
    expect(page.get_by_role("link", name="Do wider networks withstand more?")).to_be_visible(timeout=LOAD_MS)
    assert_no_traceback(page)
