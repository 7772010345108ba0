"""The Architectures page: zoom, click an edge, swap its operation, see size and accuracy, and send it to retrain."""

from __future__ import annotations

import re
import time

import psutil
from playwright.sync_api import Page, expect

from benchmarks.page_client import cpu_s
from engine.architecture.canonical import canonical
from engine.architecture.genotype import Genotype
from engine.run.lineage import found_genotype
from tests.app.pages import pretend_supervisor
from tests.browser.conftest import Dashboard, settle
from tests.browser.test_newcomer import LOAD_MS, assert_no_traceback
from tests.engine.whatif.searches import real_search

MEASURED_MS = 60_000  # 4 s of computing, on a machine that may be busy
WITHIN_S = 10.0
SCALES = """() => [...document.querySelectorAll(".rp-cell.rp-pickable > svg")].map((svg) => [
    svg.getBoundingClientRect().width / svg.viewBox.baseVal.width,
    parseFloat(getComputedStyle(svg.querySelector(".rp-edge-label")).fontSize)])"""


def computing_s(dashboard: Dashboard) -> float:
    """CPU time that the server and its workers have used so far, in seconds."""
    server = psutil.Process(dashboard.process.pid)
    return sum(cpu_s(one) for one in [server, *server.children(recursive=True)])


def test_take_a_cell_swap_an_operation_and_send_it_to_retrain(page: Page, dashboard: Dashboard) -> None:
    pretend_supervisor(dashboard.runs)  # the search runs in this process
    search = real_search(dashboard.runs)
    found = found_genotype(dashboard.runs, search)
    page.set_viewport_size({"width": 1024, "height": 900})
    page.goto(f"{dashboard.url}/architectures?show={canonical(found).hash}")
    settle(page)
    expect(page).to_have_title("Architectures · Rampart")
    robust = page.get_by_role("figure").filter(has_text="Robust cell")
    expect(robust).to_be_visible(timeout=LOAD_MS)
    scales = page.evaluate(SCALES)
    assert len(scales) == 3 and all(abs(scale - scales[0][0]) < 0.01 and scale * font >= 11 for scale, font in scales)
    drawn = robust.locator("svg")
    whole = drawn.get_attribute("viewBox")
    robust.hover()
    robust.get_by_role("button", name="Zoom in: Robust cell").click()
    assert drawn.get_attribute("viewBox") != whole
    robust.get_by_role("button", name="Show all of it: Robust cell").click()
    assert [float(one) for one in drawn.get_attribute("viewBox").split()] == [float(one) for one in whole.split()]

    page.get_by_role("radio", name="Accurate", exact=True).click()
    page.wait_for_url("**target=accurate**", timeout=LOAD_MS)
    settle(page)
    drawn.click(position={"x": 3, "y": 3})  # the cell, beside its edges
    page.wait_for_url(re.compile(r"part=\w+\.robust(:|%3A)accurate"), timeout=LOAD_MS)
    page.get_by_role("button", name="Undo all changes").click()
    expect(page.get_by_text("Nothing is changed yet.")).to_be_visible(timeout=LOAD_MS)

    robust.locator("text[data-edge='3']").click()
    page.wait_for_url(re.compile(r"edge=robust\.3"), timeout=LOAD_MS)
    settle(page)
    other = "Skip connection" if found.cell("robust").edges[3][0] != "skip_connect" else "Max pooling 3×3"
    operation = page.get_by_role("combobox", name="Operation")
    operation.focus()  # the rest by keyboard
    page.keyboard.type(other[:8])
    expect(page.get_by_role("option")).to_have_text([other])  # Enter takes the first of the list, so wait until it is filtered
    page.keyboard.press("Enter")
    swapped, computed = time.monotonic(), computing_s(dashboard)
    sizes = page.get_by_role("table", name="Size before and after the change")
    expect(sizes).to_contain_text("Parameters", timeout=LOAD_MS)
    expect(sizes).to_contain_text(re.compile(r"[+−][\d.,]+ (thousand |million )?\([+−][\d.]+%\)|unchanged"))
    accuracy = page.get_by_role("table", name="Accuracy with inherited weights")
    expect(accuracy).to_contain_text("Inherited weights, not a result: 64 images of the select split", timeout=MEASURED_MS)
    computed = computing_s(dashboard) - computed
    print(f"the accuracy came {time.monotonic() - swapped:.1f} s after the swap, of which the server computed {computed:.1f} s")
    assert computed < WITHIN_S  # so long takes the swap on a machine that does nothing else
    assert len(re.findall(r"\d to [\d.]+ %", accuracy.inner_text())) == 4
    assert_no_traceback(page)

    page.get_by_role("button", name="Send to retrain").click()
    page.wait_for_url("**/launch?**", timeout=LOAD_MS)
    pasted = page.get_by_role("textbox", name="Genotype as JSON")
    expect(pasted).to_be_visible(timeout=LOAD_MS)
    expect(pasted).not_to_have_value("", timeout=LOAD_MS)  # the field is drawn a moment before its text
    changed = Genotype.from_json(pasted.input_value())
    name = {"Skip connection": "skip_connect", "Max pooling 3×3": "max_pool_3x3"}[other]
    assert changed == found.with_operation("robust", 3, name)
