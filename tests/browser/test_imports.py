"""The Import page in a real browser: a file is dropped, its size is let through, and its run stands on the page."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from engine.architecture.catalogue import find_genotype
from tests.browser.conftest import Dashboard
from tests.browser.test_newcomer import LOAD_MS, assert_no_traceback, open_page
from tests.engine.exchange.public_files import search_log

PADDING = "11/20 09:15:09 AM train 000 2.309853e+00 9.375000 50.000000\n" * 40_000  # a log of 2.4 MB


def test_a_dropped_log_becomes_a_run(page: Page, studio: Dashboard, tmp_path: Path):
    line = [find_genotype("RACL"), find_genotype("DARTS_V2")]
    path = tmp_path / "log.txt"
    path.write_text(search_log(line) + PADDING)
    open_page(page, f"{studio.url}/import")
    page.set_input_files("input[type=file]", str(path))
    go = page.get_by_role("button", name="Import", exact=True)
    expect(go).to_be_enabled(timeout=LOAD_MS)
    go.click()
    expect(page.get_by_text("the genotype changed once,")).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_role("img", name=re.compile("^Normal cell: .* to ")).first).to_be_visible(timeout=LOAD_MS)
    assert_no_traceback(page)
    page.get_by_role("link", name="Open the run").click()
    expect(page.locator("h1.rp-title")).to_have_text("search of log.txt, imported", timeout=LOAD_MS)
    assert_no_traceback(page)
