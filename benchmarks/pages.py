"""Measure the dashboard's server on a large runs folder: first reading, all pages, all tabs of a run, a live refresh, memory.

    python -m benchmarks.pages                                # 1,000 runs with 10 million alpha points; about three minutes
    python -m benchmarks.pages --folder DIR                   # a folder that exists; two searches are added to it

A real server answers a client without a browser (`page_client.py`), so the numbers are those of the server alone. Wall-clock
time is from the request to the end of the script. On a busy machine, only the CPU time is meaningful. A first visit is that of
the first reader since the server was started. Again is the median of further visits, with nothing new in the folder.

For the live refresh, a running search that is as long as a published one writes a step while its page is shown. The server tells
the page which panels have changed, and draws all of them again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from benchmarks.large_folder import LONG, write_longest_search, write_running_search, write_runs
from benchmarks.page_client import LARGEST_BYTES, Drawn, Tab, cpu_s
from engine.study.folder import study_ids
from tests import sample_runs
from tests.browser.conftest import Dashboard, start_dashboard

PAGES = ("launch", "studies", "study", "runs", "queue", "run", "architectures", "pareto", "compare", "robustness", "datasets",
         "sql", "import")
TABS = ("alphas", "genotype", "objectives", "trade-off", "samples", "system", "log", "settings", "lineage")  # beside the overview
REPEATS = 5
NEWS_S = 10.0  # longest wait for the news of one step
QUIET_S = 3.0  # no change for so long means that all have come; longer than the rest between two drawings of a figure
SETTLE_S = 3.0
LOOK_S = 2.0  # pause between two questions whether all runs have been read; each one costs the server time
Times = dict[str, tuple[float, float]]


@contextmanager
def dashboard(root: Path) -> Iterator[tuple[Dashboard, psutil.Process]]:
    """Yield a dashboard over the runs folder `root`, and its process. End it afterwards."""
    server = start_dashboard(root)
    try:
        yield server, psutil.Process(server.process.pid)
    finally:
        server.process.terminate()
        server.process.wait(timeout=30)


def megabytes(process: psutil.Process) -> float:
    """Return the resident memory of a process and its children in MB, shared pages included."""
    return float(sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))) / 1e6


def read_all(url: str, process: psutil.Process) -> tuple[float, float]:
    """Wait until the server has read all runs, and return wall-clock time and CPU time of that in milliseconds."""
    started, cpu = time.perf_counter(), cpu_s(process)
    while True:
        with Tab(url, process) as tab:
            if "loading" not in tab.visit("import").panels:
                return 1000 * (time.perf_counter() - started), 1000 * (cpu_s(process) - cpu)
        time.sleep(LOOK_S)


def every_page(server: Dashboard, process: psutil.Process, query: dict[str, str]) -> Times:
    """Visit every page and every tab of the Run page several times.

    Args:
        server: the dashboard.
        process: its process.
        query: {page: the rest of its address}, for pages that need one.

    Returns:
        {title: (wall-clock time, CPU time)} in milliseconds.

    Raises:
        RuntimeError: a page shows a traceback.
    """
    times: Times = {}
    places = {page: (page, query.get(page, "")) for page in PAGES} | {
        f"run, tab {tab}": ("run", f"{query['run']}&tab={tab}") for tab in TABS}
    for title, (page, rest) in places.items():
        with Tab(server.url, process) as tab:
            first, *again = [tab.visit(page, rest) for _ in range(1 + REPEATS)]
        if first.problems or again[-1].problems:
            raise RuntimeError(f"{title} shows {first.problems or again[-1].problems}")
        times[f"{title}: first visit"] = milliseconds([first])
        times[f"{title}: again"] = milliseconds(again)
    return times


def milliseconds(drawn: list[Drawn]) -> tuple[float, float]:
    """Return the medians of wall-clock time and CPU time in milliseconds."""
    return (1000 * statistics.median(one.clock_s for one in drawn), 1000 * statistics.median(one.cpu_s for one in drawn))


def live_refresh(server: Dashboard, process: psutil.Process, run: str, events: sample_runs.EventsFile) -> Times:
    """Show a running search and let it write steps. The server sends every chart and text that changes, also those off screen.

    Returns:
        {title: (wall-clock time, CPU time)} in milliseconds, from the write of a step until the last of its changes has arrived.
        The wall-clock time includes the pauses that the server makes on purpose, so that a search is not slowed down.
    """
    times: list[tuple[float, float]] = []
    with Tab(server.url, process) as tab:
        shown = tab.visit("run", f"id={run}")
        address = f"{server.url.replace('http', 'ws', 1)}/{shown.news}"
        with connect(address, origin=Origin(server.url), max_size=LARGEST_BYTES) as news:
            news.send(json.dumps({"topics": list(shown.panels), "values": shown.values}))
            changes(news)
            for _ in range(1 + REPEATS):
                started, cpu = time.perf_counter(), cpu_s(process)
                events.t = time.time()
                sample_runs.write_search_steps(events, 1)
                last, topics = changes(news)
                for topic in topics & shown.panels.keys():
                    for panel in shown.panels[topic]:
                        tab.redraw(panel)
                times.append((1000 * (last - started), 1000 * (cpu_s(process) - cpu)))
    return {"live refresh: all charts and texts": medians(times[1:])}


def changes(news: ClientConnection) -> tuple[float, set[str]]:
    """Receive changes until none has come for `QUIET_S`. Return the time of the last one, and the topics that have changed.

    Raises:
        TimeoutError: no change has come within `NEWS_S`.
    """
    message, topics = news.recv(timeout=NEWS_S), set[str]()
    while True:
        last = time.perf_counter()
        topics |= set(json.loads(message)["signatures"])
        try:
            message = news.recv(timeout=QUIET_S)
        except TimeoutError:
            return last, topics


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of the first and of the second numbers."""
    return statistics.median(clock for clock, _ in times), statistics.median(cpu for _, cpu in times)


def measure(root: Path) -> tuple[Times, dict[str, float]]:
    """Measure a dashboard on a runs folder that contains the search `LONG`.

    Returns:
        {title: (wall-clock time, CPU time)} in milliseconds.
        {title: resident memory in MB}.
    """
    run, events = write_running_search(root)
    studies = study_ids(root)
    query = {"run": f"id={LONG}", "study": f"id={studies[-1]}" if studies else ""}
    memory: dict[str, float] = {}
    with dashboard(root) as (server, process):
        times = {"first reading of all runs": read_all(server.url, process)}
        memory["after the first reading"] = megabytes(process)
        times |= every_page(server, process, query)
        times |= live_refresh(server, process, run, events)
        time.sleep(SETTLE_S)
        memory["after a visit of every page"] = megabytes(process)
    with dashboard(root) as (server, process):
        times["start with an index of all runs"] = read_all(server.url, process)
        every_page(server, process, query)
        time.sleep(SETTLE_S)
        memory["restarted, after a visit of every page"] = megabytes(process)
    return times, memory


def report(times: Times, memory: dict[str, float]) -> None:
    """Print the tables."""
    print(f"{'milliseconds':45s} {'clock':>10s} {'CPU':>10s}")
    for name, (clock, cpu) in times.items():
        print(f"{name:45s} {clock:10,.1f} {cpu:10,.1f}")
    for name, size in memory.items():
        print(f"{'memory ' + name:45s} {size:10,.0f} MB")


def main(arguments: list[str] | None = None) -> tuple[Times, dict[str, float]]:
    """Generate a folder unless one is given, measure, print, and return the numbers as `measure` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="an existing runs folder")
    parser.add_argument("--runs", type=int, default=1000, help="number of runs of a generated folder")
    parser.add_argument("--points", type=int, default=10_000_000, help="number of alpha values of a generated folder")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        root = chosen.folder or Path(temporary)
        if not chosen.folder:
            write_runs(root, chosen.runs, chosen.points)
        elif not (root / LONG).exists():
            write_longest_search(root)
        found = measure(root)
    report(*found)
    return found


if __name__ == "__main__":
    main()
