"""Measure what the dashboard costs while nothing happens, on its first visit, and while a reader watches one search.

    python -m benchmarks.idle_server                                    # this checkout; about six minutes
    python -m benchmarks.idle_server --checkout ../old --checkout .     # two versions, one after the other, in one table
    python -m benchmarks.idle_server --only watching --rounds 3         # medians of three measurements of the watched search
    python -m benchmarks.idle_server --only architecture --steps 600    # the same, looking at the architecture of a long search

The command generates run folders, starts the dashboard on them, and opens its pages in Chromium. Costs are CPU time in per cent
of one core, because the machine may be busy with other work. Times until something is on the screen are wall-clock times, so
they need a quiet machine; the table ends with the load average. Versions alternate from round to round.

The server of the large folder is measured after it has read all runs.

The watched search writes a progress event twice a second and a search step every 1.5 seconds, as the `quick` preset does on two
cores. The lag is the time from the write of a step until the chart in the browser contains it. A reader who watches the search
sees the top of its page with the accuracies and losses; a reader who watches the architecture sees that part of the page: the
weights at this step, the cell, and the weights over the steps.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page

from benchmarks.large_folder import write_runs
from tests import sample_runs
from tests.browser import chromium
from tests.browser.conftest import Dashboard, start_dashboard

ROOT = Path(__file__).resolve().parents[1]
SETTLE_S = 6.0  # time between the last action and a measurement
LOOK_S, MOST_LOOKS, BUSY = 3.0, 200, 3.0  # length and number of looks at a server's load, and a load in per cent that is work
STEP_S, PROGRESS_S = 1.5, 0.5
TEXT = "() => (document.querySelector('[data-testid=stMain]')?.innerText ?? '').trim().length > 0"
LIST = "() => document.querySelector('a[href*=\"run?id=\"]') !== null"
# Note when each step appears on the chart whose name begins with the argument, in seconds since 1970. The page keeps these notes
# until they are taken, because asking it ten times a second would cost the browser a few per cent of a core.
RECORD = """(name) => {
    const chart = document.querySelector(`.rp-plot[data-feed^="${name}"]`);
    const shown = (window.__shownSteps = []);
    let latest = 0;
    const note = () => {
        const last = (trace) => trace.x?.findLast((_, place) => trace.y[place] !== null) ?? 0;
        const step = Math.max(0, ...chart.data.map(last));
        if (step > latest) shown.push([(latest = step), Date.now() / 1000]);
    };
    note();
    chart.on("plotly_react", note);
}"""
NOTES = "() => window.__shownSteps.splice(0)"
TAKE_S = 2.0  # time between two takings

# Part of the page of a search -> beginning of the name of the chart whose lag is measured, and title at the top of the screen.
CHARTS = {"search": "run_trade_off", "architecture": "run_river"}
TABS = {"search": "overview", "architecture": "alphas"}
HEADINGS = {"search": "", "architecture": "Architecture"}
SCROLL = """(title) => title && [...document.querySelectorAll("h2, h3")].find((one) => one.innerText.trim().startsWith(title))
    .scrollIntoView()"""


@dataclass
class Setting:
    """The parameters that all measurements share.

    Attributes:
        browser: the browser.
        seconds: length of one measurement.
        runs: number of runs in the large folder.
        points: number of alpha values in the large folder.
        steps: steps that the watched search has made before it is watched.
    """

    browser: Browser
    seconds: float
    runs: int
    points: int
    steps: int


@contextlib.contextmanager
def dashboard(root: Path, checkout: Path) -> Iterator[Dashboard]:
    """Yield a dashboard of the version in `checkout` over the runs folder `root`. End it afterwards."""
    server = start_dashboard(root, checkout=checkout)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(timeout=30)


@contextlib.contextmanager
def tab(browser: Browser) -> Iterator[Page]:
    """Yield a new tab of 1440 x 900 points. Close it afterwards."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
    try:
        yield context.new_page()
    finally:
        context.close()


def cpu_s(*processes: psutil.Process) -> float:
    """Return the CPU time that processes have used so far, in seconds."""
    return sum(sum(one.cpu_times()[:2]) for one in processes if one.is_running())


def load(process: psutil.Process, seconds: float) -> float:
    """Return the CPU time that a process uses over a number of seconds, in per cent of one core."""
    before, started = cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(process) - before) / (time.monotonic() - started)


def wait_until_quiet(process: psutil.Process) -> None:
    """Wait until a server has done what it does once, such as reading all runs for the first time.

    Raises:
        RuntimeError: the server is still busy after a long time.
    """
    time.sleep(SETTLE_S)
    for _ in range(MOST_LOOKS):
        if load(process, LOOK_S) < BUSY:
            return
    raise RuntimeError(f"The server still takes more than {BUSY} % of a core after {MOST_LOOKS * LOOK_S:.0f} s.")


def browser_processes() -> list[psutil.Process]:
    """Return the processes of the browser that this process has started."""
    return [one for one in psutil.Process().children(recursive=True) if "chrom" in one.name()]


def idle(server: Dashboard, setting: Setting, name: str) -> dict[str, float]:
    """Measure a dashboard before the first visit, after a visit, and with an open page.

    Returns:
        {title: value}. The first visit is measured as well: the times until there is text and until there is a run in the list.
    """
    process, found = psutil.Process(server.process.pid), {}
    wait_until_quiet(process)
    found[f"{name}: never visited, % of a core"] = load(process, setting.seconds)
    with tab(setting.browser) as page:
        started = time.monotonic()
        page.goto(f"{server.url}/runs", wait_until="commit")
        page.wait_for_function(TEXT, timeout=180_000)
        found[f"{name}: first text, s"] = time.monotonic() - started
        if any(server.runs.glob("*/run.json")):
            page.wait_for_function(LIST, timeout=180_000)
            found[f"{name}: first runs in the list, s"] = time.monotonic() - started
        wait_until_quiet(process)
        found[f"{name}: page open, % of a core"] = load(process, setting.seconds)
        found[f"{name}: memory, MB"] = process.memory_info().rss / 1e6
    time.sleep(SETTLE_S)
    found[f"{name}: visited and closed, % of a core"] = load(process, setting.seconds)
    return found


def running_search(root: Path, steps: int, run: str = "20261118-0910-arnas-digits-0a01") -> tuple[str, sample_runs.EventsFile]:
    """Write the folder of a search of some steps whose worker is this process. Return its id and the writer of its events."""
    folder = sample_runs.write_run_json(root, run, "search", created=time.time())
    events = sample_runs.EventsFile(folder, t=time.time() - steps * STEP_S)
    me = psutil.Process(os.getpid())
    sample_runs.write_process(folder, events, pid=me.pid, started=me.create_time())
    sample_runs.write_search_steps(events, steps)
    return run, events


def watched(server: Dashboard, setting: Setting, run: str, events: sample_runs.EventsFile, part: str) -> dict[str, float]:
    """Measure the server and the browser while a tab shows a part of the page of a running search, "search" or "architecture"."""
    process, chart = psutil.Process(server.process.pid), CHARTS[part]
    with tab(setting.browser) as page:
        page.goto(f"{server.url}/run?id={run}&tab={TABS[part]}")
        page.wait_for_selector(f'.rp-plot[data-feed^="{chart}"] .main-svg', timeout=60_000)
        page.wait_for_timeout(1000 * SETTLE_S)
        page.evaluate(SCROLL, HEADINGS[part])
        page.wait_for_timeout(1000 * SETTLE_S)
        everything = browser_processes()
        before, started = (cpu_s(process), cpu_s(*everything)), time.monotonic()
        lags = write_and_wait(page, events, setting.seconds, chart)
        took = time.monotonic() - started
        after = cpu_s(process), cpu_s(*everything)
    server_load, browser_load = (100 * (new - old) / took for old, new in zip(before, after, strict=True))
    return {f"watching the {part}: server, % of a core": server_load, f"watching the {part}: browser, % of a core": browser_load,
            f"watching the {part}: lag, median, s": statistics.median(lags),
            f"watching the {part}: lag, 95th percentile, s": statistics.quantiles(lags, n=20)[-1]}


def lags_of(written: dict[int, float], notes: Sequence[Sequence[float]]) -> list[float]:
    """Return the lags of the steps that a chart has shown, in seconds, and remove these steps from `written`.

    Args:
        written: {step: time of its writing, in seconds since 1970}.
        notes: pairs of a step and the time at which the chart showed it and all earlier steps, as `NOTES` returns them.
    """
    return [at - written.pop(step) for latest, at in notes for step in sorted(written) if step <= latest]


def write_and_wait(page: Page, events: sample_runs.EventsFile, seconds: float, chart: str) -> list[float]:
    """Write the events of a search at a realistic rate, and return the lags in seconds after which they were on a chart."""
    written: dict[int, float] = {}
    lags, started, steps, ticks, takes = [], time.monotonic(), 0, 0, 0
    page.evaluate(RECORD, chart)
    while (now := time.monotonic() - started) < seconds or written and now < seconds + 30:
        if now >= steps * STEP_S and now < seconds:
            steps += 1
            events.t = time.time()
            sample_runs.write_search_steps(events, 1)
            written[events.step] = time.time()
        elif now >= ticks * PROGRESS_S:
            ticks += 1
            events.t = time.time()
            events.write("progress", phase="search", done=events.step + 0.5, total=1000, unit="steps",
                         passes=42 * events.step + ticks, detail="PGD step 3 of 7")
        if now >= takes * TAKE_S:
            takes += 1
            lags += lags_of(written, page.evaluate(NOTES))
        time.sleep(0.1)
    return lags


def measure_idle(folder: Path, checkout: Path, setting: Setting) -> dict[str, float]:
    """Measure the dashboard of one checkout while nothing happens, in new runs folders in `folder`. Return {title: value}."""
    found: dict[str, float] = {}
    empty, three, large = (folder / name for name in ("empty", "three", "large"))
    for root in (empty, three, large):
        root.mkdir()
    sample_runs.write_sample_runs(three)
    write_runs(large, setting.runs, setting.points)
    for root, name in ((empty, "no runs"), (three, "7 runs"), (large, f"{setting.runs:,} runs")):
        with dashboard(root, checkout) as server:
            found |= idle(server, setting, name)
    return found


def measure_watching(folder: Path, checkout: Path, setting: Setting, part: str = "search") -> dict[str, float]:
    """Measure the dashboard of one checkout while a part of a search's page is watched. Other arguments: see `measure_idle`."""
    (root := folder / part).mkdir()
    run, events = running_search(root, setting.steps)
    with dashboard(root, checkout) as server:
        return watched(server, setting, run, events, part)


PARTS = {"idle": measure_idle, "watching": measure_watching, "architecture": partial(measure_watching, part="architecture")}


def measure(checkout: Path, setting: Setting, parts: Sequence[str]) -> dict[str, float]:
    """Measure some states of the dashboard of one checkout, and return {title: value}."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            found |= PARTS[part](Path(folder), checkout, setting)
    return found | {"load average of the machine": os.getloadavg()[0]}


def main(arguments: list[str] | None = None) -> list[dict[str, float]]:
    """Measure every checkout, print one table, and return {title: value} for each of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, action="append", help="folder of a version; repeat it to compare versions")
    parser.add_argument("--seconds", type=float, default=30, help="length of each measurement")
    parser.add_argument("--runs", type=int, default=1000, help="number of runs in the large folder")
    parser.add_argument("--points", type=int, default=1_000_000, help="number of alpha values in the large folder")
    parser.add_argument("--steps", type=int, default=40, help="steps of the watched search before it is watched")
    parser.add_argument("--only", choices=PARTS, help="the part to measure; default: all")
    parser.add_argument("--rounds", type=int, default=1, help="number of measurements; the table shows their medians")
    chosen = parser.parse_args(arguments)
    checkouts = chosen.checkout or [ROOT]
    with chromium.launched(parser) as browser:
        setting = Setting(browser, chosen.seconds, chosen.runs, chosen.points, chosen.steps)
        parts = [chosen.only] if chosen.only else [*PARTS]
        rounds = [[measure(one.resolve(), setting, parts) for one in checkouts] for _ in range(chosen.rounds)]
    found = [{title: statistics.median(one[number][title] for one in rounds) for title in rounds[0][number]}
             for number in range(len(checkouts))]
    print(f"{'':50s}" + "".join(f"{str(one)[-16:]:>18s}" for one in checkouts))
    for title in found[0]:
        print(f"{title:50s}" + "".join(f"{one[title]:18.2f}" for one in found))
    return found


if __name__ == "__main__":
    main()
