"""The inside of a search, clicked through: the time machine plays, scrubs and keeps its epoch, cells glide and keep their zoom,
and an edge of the river opens at full size."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard, settle
from tests.browser.test_live_panels import Writer
from tests.browser.test_newcomer import LOAD_MS, assert_no_traceback

COUNT_GLIDES = """() => {
  const frame = document.querySelector(".rp-machineframe");
  const gliding = () => frame.getAnimations({ subtree: true }).filter((one) => !one.animationName).length;
  window.glides = 0;
  new MutationObserver(() => (window.glides = Math.max(window.glides, gliding()))).observe(frame, { childList: true });
}"""
# An epoch is shown for 0.7 s, which a busy machine may let pass between two looks of Playwright.
RECORD_PLAY = """() => {
  const record = (node, texts) => new MutationObserver(() => texts.push(node.textContent)).observe(node, { childList: true });
  record(document.querySelector(".rp-machinebar output"), (window.played = []));
  record(document.querySelector(".rp-machineplay"), (window.buttons = []));
}"""
VIEW = ".rp-machineframe .rp-cell:first-child > svg"


def test_the_genotypes_of_a_search_are_played_and_an_edge_is_opened(page: Page, studio: Dashboard) -> None:
    search = Writer(studio.runs)
    for _ in range(30):
        search.step()
    search.finish()
    page.goto(f"{studio.url}/run?id={search.run}&tab=genotype")
    settle(page)
    expect(page).to_have_title("ARNAS, 0a01 · Rampart")
    words = page.locator(".rp-machinebar output")
    expect(words).to_contain_text("Epoch 3 of 3", timeout=LOAD_MS)
    page.evaluate(RECORD_PLAY)
    page.get_by_role("button", name="Play").click()  # from the first epoch to the last
    page.wait_for_function("window.played.length === 4", timeout=LOAD_MS)
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(words).to_contain_text("Epoch 3 of 3")
    played = page.evaluate("window.played")
    assert played[0].startswith("Epoch 0 of 3: the first genotype.")
    assert [text.split(" of ")[0] for text in played] == [f"Epoch {epoch}" for epoch in range(4)]
    assert page.evaluate("window.buttons") == ["Pause", "Play"]

    page.get_by_role("slider", name="Epoch").fill("2")  # scrub
    expect(words).to_contain_text("Epoch 2 of 3")
    page.locator(".rp-machineframe .rp-cell").first.hover()
    page.get_by_role("button", name="Zoom in").first.click()
    near = page.locator(VIEW).get_attribute("viewBox")
    page.evaluate(COUNT_GLIDES)
    page.keyboard.press("h")
    expect(words).to_contain_text("Epoch 1 of 3")
    assert page.evaluate("window.glides") > 0
    assert page.locator(VIEW).get_attribute("viewBox").split()[:2] == near.split()[:2]
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("window.glides = 0")
    page.keyboard.press("h")
    expect(words).to_contain_text("Epoch 0 of 3")
    assert page.evaluate("window.glides") == 0
    page.wait_for_url("**epoch=0**", timeout=LOAD_MS)
    page.reload()
    expect(page.locator(".rp-machinebar output")).to_contain_text("Epoch 0 of 3", timeout=LOAD_MS)
    page.locator(".rp-machineframe .rp-cell").first.hover()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as SVG").first.click()
    text = saved.value.path().read_text(encoding="utf-8")
    assert saved.value.suggested_filename == "accurate-cell.svg" and "xmlns" in text and "fill:" in text

    page.get_by_role("tab", name="Alphas").click()
    settle(page)
    river = page.locator(".rp-plot[data-name=run_river_accurate]")
    expect(river.locator(".main-svg").first).to_be_visible(timeout=LOAD_MS)
    page.evaluate("""() => { const plot = document.querySelector(".rp-plot[data-name=run_river_accurate]");
        const edge = plot.data.findIndex((trace) => trace.meta === "5");
        plot.emit("plotly_click", { points: [{ data: plot.data[edge] }] }); }""")
    page.wait_for_url(re.compile(r"edge=5"), timeout=LOAD_MS)
    large = page.locator(".rp-plot[data-name=run_edge_accurate_5]")
    expect(large.locator(".main-svg").first).to_be_visible(timeout=LOAD_MS)
    assert large.bounding_box()["width"] > 900
    assert_no_traceback(page)
