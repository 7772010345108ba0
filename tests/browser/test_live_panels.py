"""Live panels in a real browser: nothing is touched while nothing changes, news arrives within three seconds, the chart
keeps its node and the reader's zoom."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from playwright.sync_api import Locator, Page, expect

from tests import sample_runs
from tests.browser.conftest import Dashboard, start_dashboard

OBSERVE = """() => {
  window.mutations = [];
  const words = (one) => `${one.type} ${one.target.nodeName} ${one.attributeName ?? ""}`;
  const note = (list) => list.forEach((one) => window.mutations.push(words(one)));
  new MutationObserver(note).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
}"""
POINTS = "() => [...document.querySelectorAll('.rp-plot')].slice(0, 2).map((plot) => plot.data.map(({ x, y }) => ({ x, y })))"
TEXTS = "() => [...document.querySelectorAll('.rp-progress, .rp-figures')].map((one) => one.innerText)"
RANGE = "() => document.querySelector('.rp-plot').layout.xaxis.range"
LAST_STEP = "() => Math.max(...document.querySelector('.rp-plot').data.flatMap((trace) => trace.x))"


class Writer:
    """A search whose worker is this test: alive, and writing when told to."""

    def __init__(self, runs: Path) -> None:
        self.run = "20261118-0910-arnas-digits-0a01"
        folder = sample_runs.write_run_json(runs, self.run, "search", created=time.time())
        self.events = sample_runs.EventsFile(folder, t=time.time())
        me = psutil.Process(os.getpid())
        sample_runs.write_process(folder, self.events, pid=me.pid, started=me.create_time())
        sample_runs.write_search_steps(self.events, 5)

    def step(self) -> None:
        """One more step of the search, now."""
        self.events.t = time.time()
        sample_runs.write_search_steps(self.events, 1)

    def finish(self) -> None:
        """Ends the search, as its supervisor would."""
        sample_runs.write_exit(self.events.path.parent, self.events, code=0, status="finished", cause="")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Dashboard, Writer]]:
    """A dashboard over one running search."""
    runs = tmp_path / "runs"
    runs.mkdir()
    writer = Writer(runs)
    server = start_dashboard(runs)
    try:
        yield server, writer
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)


def test_idle_page_is_left_alone_and_a_live_chart_keeps_node_and_zoom(page: Page, live: tuple[Dashboard, Writer]):
    dashboard, writer = live
    page.goto(f"{dashboard.url}/run?id={writer.run}")
    expect(page.locator(".rp-plot .main-svg").first).to_be_visible(timeout=30_000)
    page.wait_for_timeout(4_000)  # everything is drawn
    page.evaluate(OBSERVE)
    page.wait_for_timeout(5_000)
    assert page.evaluate("window.mutations") == []

    page.evaluate("""() => { window.node = document.querySelector(".rp-plot");
        return Plotly.relayout(window.node, { "xaxis.range": [1, 3] }); }""")
    lags = []
    for _ in range(4):
        writer.step()
        written = time.monotonic()
        page.wait_for_function(f"({LAST_STEP})() >= {writer.events.step}", timeout=20_000)
        lags.append(time.monotonic() - written)
    print("a new step was on the chart after", ", ".join(f"{lag:.1f} s" for lag in lags))
    # Panels are drawn one after the other: the counter may come after the chart.
    expect(page.locator("[data-measured]").first).to_have_attribute("data-measured", str(42 * writer.events.step), timeout=20_000)
    assert page.evaluate("window.node.isConnected && window.node === document.querySelector('.rp-plot')")
    assert page.evaluate("window.node.layout.xaxis.range") == [1, 3]

    page.wait_for_timeout(4_000)  # the remaining panels follow
    page.evaluate("window.mutations.length = 0")
    page.wait_for_timeout(4_000)
    assert page.evaluate("window.mutations") == []


def zoom(page: Page, plot: Locator) -> list[float]:
    """Zoom into the middle of a chart's first panel with the mouse, and return the steps between which the chart now ends."""
    before, box = page.evaluate(RANGE), plot.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=3)  # level: only the steps are zoomed
    page.mouse.up()
    page.wait_for_function(f"(before) => ({RANGE})()[0] > before[0]", arg=before)
    return page.evaluate(RANGE)


def test_a_chart_keeps_what_the_reader_did_and_ends_as_on_a_fresh_page(page: Page, live: tuple[Dashboard, Writer]):
    dashboard, writer = live
    page.goto(f"{dashboard.url}/run?id={writer.run}&tab=objectives")
    expect(page.locator(".rp-plot .main-svg").first).to_be_visible(timeout=30_000)
    plot = page.locator(".rp-plot").first
    plot.locator(".legendtoggle").first.click()
    page.wait_for_function("document.querySelector('.rp-plot').data.some((trace) => trace.visible === 'legendonly')")
    running = zoom(page, plot)
    label = plot.locator(".hoverlayer > *").first  # this chart has a point at each step
    plot.locator(".nsewdrag").first.hover()
    expect(label).to_be_attached(timeout=10_000)
    page.evaluate("window.drawings = []; document.querySelector('.rp-plot').on('plotly_react', () => window.drawings.push(1))")

    def follow() -> None:
        writer.step()
        page.wait_for_function(f"({LAST_STEP})() >= {writer.events.step}", timeout=20_000)

    follow()
    follow()
    assert page.evaluate("window.drawings.length") >= 2
    assert page.evaluate("document.querySelector('.rp-plot').data.some((trace) => trace.visible === 'legendonly')")
    assert page.evaluate(RANGE) == running
    expect(label).to_be_attached(timeout=2_000)
    button = page.get_by_role("button", name="Pause: ").first
    button.focus()
    page.keyboard.press("Enter")
    paused, shown = page.locator(".rp-pause").first, page.evaluate(LAST_STEP)
    expect(paused).to_contain_text("Paused, no new points")
    while_paused = zoom(page, plot)
    paused.get_by_role("button", name="Resume: ").focus()
    writer.step()
    writer.step()
    expect(paused).to_contain_text(re.compile(r"Paused, \d+ points wait"), timeout=20_000)
    assert page.evaluate(LAST_STEP) == shown and page.evaluate(RANGE) == while_paused
    assert page.evaluate("document.activeElement.textContent") == "Resume"
    page.keyboard.press("Enter")
    page.wait_for_function(f"({LAST_STEP})() >= {writer.events.step}", timeout=20_000)
    expect(paused).not_to_contain_text("Paused")
    assert page.evaluate(RANGE) == while_paused
    assert page.evaluate("document.querySelector('.rp-plot').data.some((trace) => trace.visible === 'legendonly')")
    page.evaluate("window.__rampartLive.socket.close()")  # the connection is lost, and comes back
    follow()

    page.locator("h1").scroll_into_view_if_needed()  # the button is below, and what is off the screen waits
    writer.finish()
    expect(page.locator("[data-status=finished]").first).to_be_visible(timeout=20_000)
    expect(page.locator(".rp-progress")).to_have_count(0, timeout=20_000)
    page.wait_for_timeout(4_000)  # every panel is drawn
    points, texts = page.evaluate(POINTS), page.evaluate(TEXTS)
    page.reload()
    expect(page.locator(".rp-plot .main-svg").first).to_be_visible(timeout=30_000)
    assert page.evaluate(POINTS) == points and page.evaluate(TEXTS) == texts


RIVER = "document.querySelector('.rp-plot[data-name=run_river_accurate]')"
WRITTEN = f"() => [...{RIVER}.querySelectorAll('.annotation-text')].map((note) => note.textContent)"
# The paths of the lines as lists of points, in the order of the traces.
LINES = f"() => [...{RIVER}.querySelectorAll('.js-line')].map((path) => path.getAttribute('d').slice(1).split('L')" \
        ".map((point) => point.split(',').map(Number)))"


def farthest(drawn: list[list[list[float]]], other: list[list[list[float]]]) -> float:
    """The largest vertical distance, in pixels, of a point of `drawn` from the line of `other` at the same place."""
    assert len(drawn) == len(other)
    lines = [(np.transpose(line), np.transpose(points)) for line, points in zip(drawn, other, strict=True)]
    return max(float(np.abs(np.interp(x, *points) - y).max()) for (x, y), points in lines)


def test_the_lines_of_a_river_move_as_plotly_would_draw_them(page: Page, live: tuple[Dashboard, Writer]):
    dashboard, writer = live
    for _ in range(28):
        writer.step()
    page.goto(f"{dashboard.url}/run?id={writer.run}&tab=alphas&cell=accurate")
    page.locator(".rp-plot[data-name=run_river_accurate] .main-svg").first.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_timeout(4_000)
    page.evaluate(f"""() => {{ window.drawings = []; const react = Plotly.react;
        Plotly.react = (node, ...rest) => {{ node === {RIVER} && window.drawings.push(1); return react(node, ...rest); }}; }}""")
    page.evaluate(f"{RIVER}.on('plotly_react', () => (window.last = Math.max(...{RIVER}.data.map(({{ x, y }}) =>"
                  " x.findLast((_, place) => y[place] !== null)))))")
    before = page.evaluate(WRITTEN)
    writer.step()
    page.wait_for_function("(step) => window.last >= step", arg=writer.events.step, timeout=20_000)
    assert page.evaluate("window.drawings.length") == 0
    moved, written = page.evaluate(LINES), page.evaluate(WRITTEN)
    assert written != before
    page.locator(".rp-plot[data-name=run_river_accurate] .nsewdrag").first.hover()  # the reader comes, and Plotly draws
    page.wait_for_function("window.drawings.length === 1")
    computed = page.evaluate(f"Math.max(...{RIVER}.calcdata.flat().filter(({{ y }}) => y !== undefined).map(({{ x }}) => x))")
    assert computed == writer.events.step  # the point that the label below the pointer is about
    drawn = page.evaluate(LINES)
    assert farthest(drawn, moved) < 0.6 and page.evaluate(WRITTEN) == written
    ends = [(line[0][0], line[-1][0]) for line in drawn]
    assert np.allclose(ends, [(line[0][0], line[-1][0]) for line in moved], atol=0.02)
    writer.step()
    page.wait_for_function("(step) => window.last >= step", arg=writer.events.step, timeout=20_000)
    assert page.evaluate("window.drawings.length") == 2  # below the pointer, Plotly draws each step
