"""Measure whether the dashboard keeps up and keeps its memory while several readers watch several live runs for a long time.

    python -m benchmarks.soak                       # 8 browser tabs, 4 live runs, 30 minutes
    python -m benchmarks.soak --minutes 3           # a short run

Each run writes a progress event twice a second and a search step every 1.5 seconds, as `idle_server` does. The lag is the time
from the write of a step until the chart of a tab contains it. Growth of memory is that of the server between the first and the
last tenth of the time, after the tabs have settled. Lags need a quiet machine; the output ends with the load average.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from playwright.sync_api import Page

from benchmarks.idle_server import (
    CHARTS,
    NOTES,
    PROGRESS_S,
    RECORD,
    ROOT,
    SETTLE_S,
    STEP_S,
    TAKE_S,
    cpu_s,
    dashboard,
    lags_of,
    running_search,
    tab,
)
from tests import sample_runs
from tests.browser import chromium

STEPS = 40  # steps of each run before it is watched
LATE_S = 60.0  # a step that a tab does not show by then counts with this lag


@dataclass
class LiveRun:
    """A run that writes, and the tabs that show it.

    Attributes:
        run: run id.
        events: writer of its events.
        pages: tabs that show it.
        waiting: for each tab, {step: time of its writing in seconds since 1970}, of the steps that the tab does not show yet.
    """

    run: str
    events: sample_runs.EventsFile
    pages: list[Page] = field(default_factory=list)
    waiting: list[dict[int, float]] = field(default_factory=list)

    def show(self, page: Page) -> None:
        """Take the lags of a tab from now on."""
        page.evaluate(RECORD, CHARTS["search"])
        self.pages.append(page)
        self.waiting.append({})

    def write(self, *, step: bool) -> None:
        """Write a step, or else a progress event."""
        self.events.t = time.time()
        if step:
            sample_runs.write_search_steps(self.events, 1)
            for written in self.waiting:
                written[self.events.step] = time.time()
        else:
            self.events.write("progress", phase="search", done=self.events.step + 0.5, total=10_000, unit="steps", passes=9)

    def lags(self) -> list[float]:
        """Return the lags of the steps that have appeared since the last call, in seconds. A late step counts with `LATE_S`."""
        found = []
        for page, written in zip(self.pages, self.waiting, strict=True):
            found += lags_of(written, page.evaluate(NOTES))
            for step in [step for step, at in written.items() if time.time() - at > LATE_S]:
                found.append(LATE_S)
                del written[step]
        return found


def watch(runs: list[LiveRun], server: psutil.Process, seconds: float) -> tuple[list[float], list[float]]:
    """Let the runs write for a time.

    Returns:
        The lags, in seconds.
        The memory of the server once a second, in MB.
    """
    started, steps, ticks, takes, lags, memory = time.monotonic(), 0, 0, 0, [], []
    while (now := time.monotonic() - started) < seconds:
        if now >= steps * STEP_S:
            steps += 1
            for one in runs:
                one.write(step=True)
        elif now >= ticks * PROGRESS_S:
            ticks += 1
            for one in runs:
                one.write(step=False)
        if now >= takes * TAKE_S:
            takes += 1
            for one in runs:
                lags += one.lags()
        if now >= len(memory):
            memory.append(server.memory_info().rss / 1e6)
        time.sleep(0.1)
    return lags, memory


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the measurement")
    parser.add_argument("--tabs", type=int, default=8, help="number of browser tabs")
    parser.add_argument("--runs", type=int, default=4, help="number of live runs")
    options = parser.parse_args()
    with chromium.launched(parser) as browser, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        runs = [LiveRun(*running_search(root, STEPS, f"20261118-0910-arnas-digits-0a{number:02x}"))
                for number in range(options.runs)]
        server = stack.enter_context(dashboard(root, ROOT))
        process = psutil.Process(server.process.pid)
        for number in range(options.tabs):
            one = runs[number % len(runs)]
            page = stack.enter_context(tab(browser))
            page.goto(f"{server.url}/run?id={one.run}&tab=overview")
            page.wait_for_selector(f'.rp-plot[data-feed^="{CHARTS["search"]}"] .main-svg', timeout=180_000)
            one.show(page)
        time.sleep(SETTLE_S)
        before, started = cpu_s(process), time.monotonic()
        lags, memory = watch(runs, process, 60 * options.minutes)
        used = 100 * (cpu_s(process) - before) / (time.monotonic() - started)
    tenth = max(1, len(memory) // 10)
    tenths = [statistics.median(memory[start:start + tenth]) for start in range(0, 10 * tenth, tenth) if memory[start:]]
    first, last = tenths[0], tenths[-1]
    print(f"{options.tabs} tabs, {options.runs} live runs, {options.minutes:g} min: {len(lags)} steps shown, lag median "
          f"{statistics.median(lags):.1f} s, 95th percentile {statistics.quantiles(lags, n=20)[-1]:.1f} s; server {used:.0f} % "
          f"of a core; memory {first:.0f} to {last:.0f} MB ({100 * (last / first - 1):+.1f} %); load average "
          f"{os.getloadavg()[0]:.1f}")
    print(f"memory by tenths of the time: {', '.join(f'{one:.0f}' for one in tenths)} MB")


if __name__ == "__main__":
    main()
