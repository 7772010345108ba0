"""Measure in Chromium how long each tab of a run's page takes from the click to its first drawn content, in a large runs folder.

    python -m benchmarks.tab_paint                        # 1,000 runs with 10 million alpha points; some minutes
    python -m benchmarks.tab_paint --folder DIR           # a folder that exists; the longest search is added to it

The page shows the longest search, after the server has read the whole folder. The time ends when the tab's first chart, cell,
image, table or log is painted; text and headings do not count. Before each click, the page waits until the tab shown before has
finished drawing. The first click on a tab is listed separately, because the server then fills caches that later clicks use.

The dashboard and the browser run on this machine and compete for its cores. Times are wall-clock times; on a busy machine, only
the CPU times of server and browser until the content was painted are meaningful. The table ends with the load average.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page

from benchmarks.idle_server import browser_processes, cpu_s, tab
from benchmarks.large_folder import LONG, write_longest_search, write_runs
from benchmarks.pages import dashboard, read_all
from tests.browser import chromium
from tests.browser.conftest import settle

TABS = ("Overview", "Alphas", "Genotype", "Objectives", "Trade-off", "Samples", "System", "Log", "Settings", "Lineage")
RESTING = {"Log": "Lineage"}  # tab that is open before a click; "Log", the lightest one, for all others
CLICKS = 5
WAIT_MS = 180_000
REST_MS = 1500
# Clicks on a tab, and answers how many milliseconds later the frame began that follows the one with the tab's first content.
CLICK = """(title) => new Promise((painted) => {
  const content = ".main-svg, .rp-cell svg, .rp-gallery img, table, .rp-log";
  const clicked = performance.now();
  const look = () => {
    const tab = document.querySelector("[role=tab][aria-selected=true]");
    const panel = tab?.innerText.trim() === title && document.getElementById(tab.getAttribute("aria-controls"));
    const found = panel && [...panel.querySelectorAll(content)].find((one) => one.getBoundingClientRect().height > 0);
    requestAnimationFrame(() => (found ? painted(performance.now() - clicked) : look()));
  };
  [...document.querySelectorAll("[role=tab]")].find((one) => one.innerText.trim() === title).click();
  look();
})"""


@dataclass(frozen=True)
class Paint:
    """What one click on a tab took until the content of the tab was painted.

    Attributes:
        clock_ms: wall-clock time in milliseconds.
        server_ms, browser_ms: CPU time of the server and of the browser in milliseconds.
    """

    clock_ms: float
    server_ms: float
    browser_ms: float


def click(page: Page, title: str, server: psutil.Process) -> Paint:
    """Click on a tab, and return what that took."""
    everything = browser_processes()
    before = cpu_s(server), cpu_s(*everything)
    clock_ms = float(page.evaluate(CLICK, title))
    after = cpu_s(server), cpu_s(*everything)
    of_server, of_browser = (1000 * (new - old) for old, new in zip(before, after, strict=True))
    return Paint(clock_ms, of_server, of_browser)


def rest(page: Page) -> None:
    """Wait until the page is drawn and the server has nothing to do for it."""
    settle(page)
    page.wait_for_timeout(REST_MS)


def measure(browser: Browser, root: Path, clicks: int) -> dict[str, list[Paint]]:
    """Return {title of a tab: what each click took}, for the search `LONG` in the runs folder `root`."""
    found: dict[str, list[Paint]] = {title: [] for title in TABS}
    with dashboard(root) as (server, process), tab(browser) as page:
        read_all(server.url, process)
        page.goto(f"{server.url}/run?id={LONG}&tab=log")
        page.wait_for_selector(".rp-log", timeout=WAIT_MS)
        rest(page)
        for _ in range(clicks):
            for title in TABS:
                click(page, RESTING.get(title, "Log"), process)
                rest(page)
                found[title].append(click(page, title, process))
                rest(page)
    return found


def main(arguments: list[str] | None = None) -> dict[str, list[Paint]]:
    """Generate a folder unless one is given, measure, print the table, and return what `measure` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="an existing runs folder")
    parser.add_argument("--runs", type=int, default=1000, help="number of runs of a generated folder")
    parser.add_argument("--points", type=int, default=10_000_000, help="number of alpha values of a generated folder")
    parser.add_argument("--clicks", type=int, default=CLICKS, help="number of clicks on each tab, from 2")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary, chromium.launched(parser) as browser:
        root = chosen.folder or Path(temporary)
        if not chosen.folder:
            write_runs(root, chosen.runs, chosen.points)
        elif not (root / LONG).exists():
            write_longest_search(root)
        found = measure(browser, root, chosen.clicks)
    report(found)
    return found


def report(found: dict[str, list[Paint]]) -> None:
    """Print milliseconds for each tab: the first click and its CPU time, then the further ones and the medians of theirs."""
    columns = ("first", "its CPU", "median", "longest", "server CPU", "browser CPU")
    print(f"{'milliseconds':14s}" + "".join(f"{title:>12s}" for title in columns))
    for title, (first, *again) in found.items():
        clocks, server, browser = ([getattr(one, name) for one in again] for name in ("clock_ms", "server_ms", "browser_ms"))
        numbers = (first.clock_ms, first.server_ms + first.browser_ms, statistics.median(clocks), max(clocks),
                   statistics.median(server), statistics.median(browser))
        print(f"{title:14s}" + "".join(f"{number:12,.0f}" for number in numbers))
    print(f"load average of the machine {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
