"""Measure the time from the click on Launch to the first measured number on the page of the run, and where it goes.

    python -m benchmarks.first_number                                  # this checkout, five launches; about two minutes
    python -m benchmarks.first_number --checkout ../old --checkout .   # two versions in turn, in one table

Each launch is that of a newcomer: a new dashboard on an empty runs folder, the preset `quick` with its defaults, one click in
Chromium. The first measured number is the counter of forward passes. The times come from the browser (click, change of page,
number drawn), from the files of the run, and from its events. They are wall-clock times, so they need a quiet machine; the table
ends with the CPU time that each process has used when the number is on the page, and with the load average.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page

from benchmarks.idle_server import browser_processes, cpu_s, dashboard, tab
from engine.run.events import read_events
from engine.run.folder import RunFolder, read_json
from tests.browser import chromium
from tests.browser.conftest import Dashboard, end_processes_of, settle

ROOT = Path(__file__).resolve().parents[1]
WAIT_MS = 60_000
READING_MS = 3000  # a reader looks at the page before the click
# Notes the times of what happens in the browser, in seconds since 1970.
WATCH = """
window.firstNumber = {};
const note = (name) => (window.firstNumber[name] ??= Date.now() / 1000);
addEventListener("click", () => (window.firstNumber = { click: Date.now() / 1000 }), true);
new MutationObserver(() => {
  if (!window.firstNumber.click || !location.search.includes("id=")) return;
  if (document.querySelector(".rp-progress")) note("page");
  if (document.querySelector("[data-measured]")) requestAnimationFrame(() => note("number"));
}).observe(document, { childList: true, subtree: true, characterData: true });
"""
# (what ends with a moment, name of the moment)
STAGES = (("the run is checked and written", "written"), ("the supervisor starts the worker", "started"),
          ("Python and the engine's light parts", "worker"), ("torch and the loop, images and splits", "loaded"),
          ("supernet, first checkpoint", "built"), ("first forward pass", "pass"), ("server and browser show it", "number"))


def get_ready(page: Page, server: Dashboard) -> None:
    """Open the Launch page as a newcomer does."""
    page.add_init_script(WATCH)
    page.goto(server.url)
    page.get_by_role("button", name="Set up the first search").click(timeout=WAIT_MS)
    page.get_by_role("button", name="Launch", exact=True).wait_for(timeout=WAIT_MS)
    settle(page)
    page.wait_for_timeout(READING_MS)


def launch(page: Page) -> dict[str, float]:
    """Click on Launch, and return the moments of the browser in seconds since 1970."""
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_function("window.firstNumber.number", timeout=WAIT_MS)
    return dict(page.evaluate("window.firstNumber"))


def moments_of(folder: RunFolder) -> dict[str, float]:
    """Return the moments of a run up to its first forward pass, in seconds since 1970, from its files and events."""
    events, _ = read_events(folder.events)
    progress = [event for event in events if event["event"] == "progress"]
    return {"written": folder.path.joinpath("run.json").stat().st_mtime,
            "started": float(read_json(folder.process_json)["started"]), "worker": progress[0]["t"],
            "loaded": next(event["t"] for event in events if event["event"] == "alpha"),
            "built": next(event["t"] for event in events if event["event"] == "checkpoint"),
            "pass": next(event["t"] for event in progress if event["passes"])}


def table_of(moments: dict[str, float]) -> dict[str, float]:
    """Return {title: seconds} for the whole time, for each stage, and for the change of page, which happens meanwhile."""
    found, before = {"click to first number, s": moments["number"] - moments["click"]}, moments["click"]
    for title, name in STAGES:
        found[f"  {title}, s"] = moments[name] - before
        before = moments[name]
    return found | {"click to the progress bar of the run, s": moments["page"] - moments["click"]}


def measure(browser: Browser, checkout: Path) -> dict[str, float]:
    """Measure one launch with a new dashboard of the version in `checkout`. Return {title: value}."""
    with tempfile.TemporaryDirectory() as root, dashboard(Path(root), checkout) as server, tab(browser) as page:
        try:
            of_server, of_browser = psutil.Process(server.process.pid), browser_processes()
            get_ready(page, server)
            before = cpu_s(of_server), cpu_s(*of_browser)
            moments = launch(page)
            run = RunFolder(server.runs, page.url.rpartition("id=")[2])
            background = [psutil.Process(read_json(path)["pid"]) for path in (
                server.runs / "control" / "supervisor.json", run.process_json)]
            used = (cpu_s(of_server) - before[0], *(cpu_s(one) for one in background), cpu_s(*of_browser) - before[1])
            return table_of(moments | moments_of(run)) | {
                f"CPU time of the {name}, s": value
                for name, value in zip(("server", "supervisor", "worker", "browser"), used, strict=True)} | {
                "load average of the machine": os.getloadavg()[0]}
        finally:
            end_processes_of(server.runs)


def main(arguments: list[str] | None = None) -> list[list[dict[str, float]]]:
    """Measure launches of every checkout in turn, print medians and ranges, and return the launches of each checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, action="append", help="folder of a version; repeat it to compare versions")
    parser.add_argument("--launches", type=int, default=5, help="number of launches of each version")
    chosen = parser.parse_args(arguments)
    checkouts = chosen.checkout or [ROOT]
    with chromium.launched(parser) as browser:
        rounds = [[measure(browser, one.resolve()) for one in checkouts] for _ in range(chosen.launches)]
    found = [[one[number] for one in rounds] for number in range(len(checkouts))]
    print(f"{'median (lowest to highest)':42s}" + "".join(f"{str(one)[-24:]:>24s}" for one in checkouts))
    for title in found[0][0]:
        print(f"{title:42s}" + "".join(f"{words([launch[title] for launch in of_one]):>24s}" for of_one in found))
    return found


def words(values: list[float]) -> str:
    """Return the median and the range of some values as a text."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
