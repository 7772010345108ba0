"""Measure the dashboard beside TensorBoard on the same scalars of the same runs: first list, first chart, memory and CPU time.

    python -m benchmarks.tensorboard                              # 1,000 runs; installs TensorBoard into a temporary environment
    python -m benchmarks.tensorboard --python VENV/bin/python     # an environment in which TensorBoard is installed

The runs are generated (`large_folder.py`), and `rampart export --form tensorboard` writes them as event files. Architecture
weights are not among them, so the dashboard reads ten million values more than TensorBoard. Both servers are started, one after
the other and several times in turn, and Chromium opens each: the list of runs, and one chart of the longest search. The first
reader's list counts from the start of the server, all others from the request. The dashboard starts without its index, as after
an installation, and once more with it, as on every other day.

Memory is the resident memory of the server with its child processes. CPU time is what these use until the first chart is drawn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser

from benchmarks.large_folder import LONG, write_runs
from benchmarks.pages import megabytes, read_all
from engine.exchange.tensorboard import write_tensorboard
from engine.run.folder import run_ids
from tests.browser import chromium
from tests.browser.conftest import free_port, start_dashboard

PACKAGES = ("tensorboard==2.21.0", "setuptools<81")  # TensorBoard imports pkg_resources
WAIT_MS = 300_000
SETTLE_S = 5.0


@dataclass(frozen=True)
class Side:
    """A server to measure.

    Attributes:
        name: name in the table.
        start: function that starts it, and returns its process and its address.
        list_page, chart_page: the rest of the address of a list of runs, and of a page with a chart of the longest search.
        list_drawn, chart_drawn: JavaScript conditions that hold once a run is in the list, and once a line is in a chart.
        tick: selector of a box that must be clicked before the chart is drawn; "" if there is none.
        settled: function that waits until the server has read everything.
    """

    name: str
    start: Callable[[], tuple[psutil.Popen, str]]
    list_page: str
    chart_page: str
    list_drawn: str
    chart_drawn: str
    tick: str = ""
    settled: Callable[[str, psutil.Process], object] = lambda url, server: None


@contextmanager
def running(side: Side) -> Iterator[tuple[psutil.Process, str]]:
    """Start the server of a side, and yield its process and its address. End it and its children afterwards."""
    process, url = side.start()
    server = psutil.Process(process.pid)
    try:
        yield server, url
    finally:
        everything = [*server.children(recursive=True), server]
        for one in everything:
            one.terminate()
        psutil.wait_procs(everything, timeout=20)


def tree_cpu_s(server: psutil.Process) -> float:
    """Return the CPU time that a process and its children have used so far, in seconds."""
    return float(sum(sum(one.cpu_times()[:2]) for one in (server, *server.children(recursive=True))))


def measure(side: Side, browser: Browser) -> dict[str, float]:
    """Start a server, open its list and its chart twice, and return {title: value}."""
    started = time.perf_counter()
    found: dict[str, float] = {}
    with running(side) as (server, url):
        for reader, since in (("first", started), ("second", None)):
            for what, page, drawn in (("list", side.list_page, side.list_drawn), ("chart", side.chart_page, side.chart_drawn)):
                context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
                opened = since if since and what == "list" else time.perf_counter()
                tab = context.new_page()
                tab.goto(url + page, wait_until="commit")
                if side.tick and what == "chart":
                    tab.click(side.tick, timeout=WAIT_MS)
                tab.wait_for_function(drawn, timeout=WAIT_MS)
                found[f"{reader} reader: {what}, s"] = time.perf_counter() - opened
                context.close()
            if reader == "first":
                found["server until both are drawn, CPU s"] = tree_cpu_s(server)
        side.settled(url, server)
        time.sleep(SETTLE_S)
        found["memory of the server, MB"] = megabytes(server)
    return found


def dashboard(root: Path, *, with_index: bool) -> Side:
    """Return the dashboard over the runs folder `root`.

    Args:
        root: the runs folder.
        with_index: False to delete the index before the start.
    """
    def start() -> tuple[psutil.Popen, str]:
        for index in () if with_index else root.glob("index.duckdb*"):
            if index.is_file():
                index.unlink()
        server = start_dashboard(root)
        return server.process, server.url

    return Side("Rampart, with index" if with_index else "Rampart, no index", start, "/runs", f"/run?id={LONG}",
                "() => document.querySelector('a[href*=\"run?id=\"]') !== null",
                "() => document.querySelector('.rp-plot .scatterlayer path.js-line') !== null", settled=read_all)


def tensorboard(python: Path, events: Path) -> Side:
    """Return TensorBoard of an environment's interpreter over a folder of event files."""
    def start() -> tuple[psutil.Popen, str]:
        port = free_port()
        process = psutil.Popen([str(python), "-m", "tensorboard.main", "--logdir", str(events), "--port", str(port), "--host",
                                "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(process, port)
        return process, f"http://127.0.0.1:{port}"

    return Side("TensorBoard", start, "/#timeseries", f"/?runFilter={LONG}#timeseries",
                "() => document.querySelector('runs-data-table tb-data-table-content-row') !== null",
                # Lines are pixels of a canvas. The row below a chart appears with them.
                "() => document.querySelector('scalar-card-data-table tb-data-table-content-row') !== null",
                "runs-data-table tb-data-table-content-row mat-checkbox")  # with more than 40 runs, none is ticked


def wait_for_port(process: psutil.Popen, port: int) -> None:
    """Wait until a process listens on a port.

    Raises:
        RuntimeError: it has ended.
    """
    while not any(one.laddr.port == port for one in process.net_connections() if one.status == psutil.CONN_LISTEN):
        if process.poll() is not None:
            raise RuntimeError(f"TensorBoard ended with code {process.returncode}; start it by hand to see why")
        time.sleep(0.1)


def environment(folder: Path) -> Path:
    """Create an environment with TensorBoard, and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stdout=sys.stderr)
    return python


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Print the median over the repeats for every side, one line per value."""
    print(f"{'median (range)':40s}" + "".join(f"{name:>28s}" for name in found))
    for title in next(iter(found.values()))[0]:
        cells = []
        for repeats in found.values():
            values = sorted(one[title] for one in repeats)
            cells.append(f"{statistics.median(values):.1f} ({values[0]:.1f} to {values[-1]:.1f})")
        print(f"{title:40s}" + "".join(f"{cell:>28s}" for cell in cells))


def main(arguments: list[str] | None = None) -> dict[str, list[dict[str, float]]]:
    """Measure all sides in turn, print the table, and return {name of the side: values of every repeat}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="interpreter of an environment with TensorBoard")
    parser.add_argument("--folder", type=Path, help="existing runs folder with the search that `large_folder` writes")
    parser.add_argument("--events", type=Path, help="its event files, if they have been written")
    parser.add_argument("--runs", type=int, default=1000, help="number of runs of a generated folder")
    parser.add_argument("--points", type=int, default=10_000_000, help="number of alpha values of a generated folder")
    parser.add_argument("--repeats", type=int, default=3, help="number of times that every server is started")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary, chromium.launched(parser) as browser:
        root, events = chosen.folder or Path(temporary) / "runs", chosen.events or Path(temporary) / "events"
        if not chosen.folder:
            write_runs(root, chosen.runs, chosen.points)
        if not chosen.events:
            write_tensorboard(root, run_ids(root), events)
        python = chosen.python or environment(Path(temporary) / "tensorboard")
        sides = (tensorboard(python, events), dashboard(root, with_index=False), dashboard(root, with_index=True))
        found: dict[str, list[dict[str, float]]] = {one.name: [] for one in sides}
        for _ in range(chosen.repeats):
            for side in sides:
                found[side.name].append(measure(side, browser))
                print(side.name, found[side.name][-1], file=sys.stderr, flush=True)
    report(found)
    return found


if __name__ == "__main__":
    main()
