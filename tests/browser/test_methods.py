"""Each registered method, launched by clicking: its search runs to its end and its cells stand on the page."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from app.theme import cell_title
from engine.architecture.genotype import Genotype
from engine.search.methods.registry import METHODS
from tests.browser.conftest import Dashboard
from tests.browser.test_newcomer import LOAD_MS, assert_no_traceback, open_page

SEARCH_MS = 120_000


@pytest.mark.parametrize("method", list(METHODS))
def test_a_method_is_launched_from_the_page_and_its_cells_appear(page: Page, studio: Dashboard, method: str):
    entry = METHODS[method]
    open_page(page, f"{studio.url}/launch?preset=smoke")
    page.get_by_role("combobox", name="Method", exact=True).click()
    page.get_by_role("option", name=re.compile(rf"^{re.escape(entry.title)}( ·|$)")).click()
    expect(page.get_by_text(f"search --method {method} ")).to_be_visible(timeout=LOAD_MS)
    page.get_by_text("Nothing more").click()  # the search is what differs
    expect(page.get_by_text("--then")).to_have_count(0, timeout=LOAD_MS)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url(re.compile(r"/run\?id="), timeout=LOAD_MS)
    expect(page.locator("h1.rp-title")).to_have_text(re.compile(f"^{re.escape(entry.title)}"), timeout=LOAD_MS)

    expect(page.locator(".rp-chip", has_text="Finished").first).to_be_visible(timeout=SEARCH_MS)
    run = re.search(r"id=([\w-]+)", page.url).group(1)
    found = Genotype.from_dict(json.loads((studio.runs / run / "results" / "genotype.json").read_text()))
    for kind in found.kinds:
        drawn = page.get_by_role("img", name=re.compile(f"^{cell_title(kind)}: .* to "))
        expect(drawn.first).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text(f"hash {found.hash}").first).to_be_visible(timeout=LOAD_MS)
    assert_no_traceback(page)
