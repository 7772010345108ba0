"""Simulate a runs folder of 10,000 runs and 500 workers, measure what each part costs, and name the part that is full first.

    python -m benchmarks.fleet                                    # about an hour on two cores that are shared
    python -m benchmarks.fleet --runs 1000 --workers 50 --points 10000000
    python -m benchmarks.fleet --markdown                         # the table of docs/scale.md

Nothing is assumed about costs; they are measured on real files. A real supervisor starts the workers, which are processes that
compute nothing and hold the lock of their run as real ones do. This process writes their events with the worker's writer, a real
index reads them, and a real dashboard serves a client without a browser (`page_client.py`). Assumed is only how often a worker
completes a step of a search (`--step-s`). A step writes seven events: progress, metrics, objectives and alphas.

The share of a core is CPU time divided by wall-clock time. On a busy machine, wall-clock times are too long, and CPU times
hardly. "full at" is the number of workers at which a part needs a whole core: its cost divided among the workers, which holds
for costs that grow with their number.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from websockets.sync.client import connect
from websockets.typing import Origin

from benchmarks.large_folder import write_runs
from benchmarks.measurement import Table, add_output_options, publish
from benchmarks.page_client import LARGEST_BYTES, PATIENCE_S, Tab, cpu_s
from benchmarks.pages import dashboard, megabytes, read_all
from benchmarks.supervisor_queue import write_chains
from engine.files import atomic_write_json
from engine.log import RunLog
from engine.run.device import Device, Resources
from engine.run.event_kinds import Alpha, Metric, Objectives, Progress
from engine.run.events import EventWriter
from engine.run.folder import RunFolder, run_ids
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalLauncher
from engine.run.state import identity
from engine.run.supervisor import Supervisor, pause_after
from tests.browser.conftest import Dashboard
from tests.sample_runs import CELLS, PRIMITIVES, alphas_at

TURNOVERS = 20  # workers that end one after another
ROUNDS = 5  # rounds in which every worker writes, per measurement
BURST = 10  # steps that every worker writes before they are read at once
VISITS = 5
SETTLE_S = 4.0  # until the files are old enough that their time stamps are trusted
EVENTS_PER_STEP = 4 + len(CELLS)


class CountingLauncher(LocalLauncher):
    """The launcher of this machine, with as many CPU slots as a fleet has workers, and workers that compute nothing."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def resources(self) -> Resources:
        """Return one device with a slot for each worker, as a launcher for a cluster does."""
        return Resources((Device("cpu", "a node", slots=self.workers),), 1, is_one_machine=False)

    def program(self, folder: RunFolder, start: Start) -> list[str]:
        """Return the command of a process that sleeps. It ignores the descriptors that it inherits, and so keeps the lock."""
        return ["sh", "-c", "exec sleep infinity", "worker"]


@dataclass
class Fleet:
    """A runs folder with its supervisor and the workers that it has started.

    Attributes:
        runs: the runs folder.
        supervisor: the supervisor, in this process.
        writers: {run id: writer of the events of a running worker}.
        steps: steps that every worker has written.
    """

    runs: Path
    supervisor: Supervisor
    writers: dict[str, EventWriter] = field(default_factory=dict)
    steps: int = 0

    def write_step(self) -> None:
        """Let every worker write one step of its search."""
        self.steps += 1
        for run_id, writer in self.writers.items():
            write_step(writer, self.steps)
            (self.runs / run_id / "heartbeat").touch()

    def end_one(self) -> None:
        """Let the worker that has run longest finish its run."""
        run_id, worker = next(iter(self.supervisor.workers.items()))
        worker.folder.write_json(worker.folder.ended_json, {
            "attempt": 1, "status": "finished", "cause": "", "ended": time.time()})
        self.writers.pop(run_id).close()
        worker.attempt.kill()

    def open_writers(self) -> None:
        """Open the events of all running workers that have none yet."""
        for run_id, worker in self.supervisor.workers.items():
            if run_id not in self.writers:
                worker.folder.results.mkdir(exist_ok=True)
                self.writers[run_id] = EventWriter(worker.folder.events, run_id, 1)

    def close(self) -> None:
        """End all workers."""
        for worker in self.supervisor.workers.values():
            worker.attempt.kill()
        for writer in self.writers.values():
            writer.close()


def write_step(writer: EventWriter, step: int) -> None:
    """Write the events of one step of a search with three kinds of cells and two objectives, as the worker does."""
    epoch = step // 10 + 1

    def write(event: Progress | Metric | Objectives | Alpha) -> None:
        writer.write(event, step=step, epoch=epoch)

    write(Progress(phase="search", done=step, total=10_000, unit="steps", passes=42 * step))
    write(Metric(split="alphas", statistics="batch", values={
        "natural_loss": 2.3 - 1e-4 * step, "natural_accuracy": 0.1, "adversarial_loss": 2.4, "adversarial_accuracy": 0.1}))
    write(Metric(split="weights", statistics="batch", values={
        "train_loss": 2.4 - 1e-4 * step, "train_accuracy": 0.1, "learning_rate": 0.025, "images_per_s": 90.0}))
    write(Objectives(names=["natural", "adversarial"], losses=[2.3, 0.24], weights=[0.4, 0.6], norms=[0.05, 0.03],
                     cosines=[[1.0, 0.5], [0.5, 1.0]]))
    for cell in CELLS:
        write(Alpha(cell=cell, primitives=PRIMITIVES, alpha=alphas_at(step, cell)))


@contextmanager
def fleet(runs: Path, count: int, workers: int, points: int) -> Iterator[Fleet]:
    """Write a folder of `count` runs, of which up to six for each worker wait and the others have ended, and yield its fleet."""
    (runs / "control").mkdir(parents=True)
    # The runs wait, because this process claims to be the supervisor, and the dashboard starts none.
    atomic_write_json(runs / "control" / "supervisor.json", identity(os.getpid()))
    waiting = min(6 * workers, count // 2)
    write_chains(runs, waiting)
    write_runs(runs, count, points)  # counts those that wait
    made = Fleet(runs, Supervisor(runs, launcher=CountingLauncher(workers)))
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Row:
    """One measured cost.

    Attributes:
        part: what was measured.
        value: the cost, in words.
        core: share of a core that it takes with all workers; None if it is no lasting cost.
    """

    part: str
    value: str
    core: float | None = None


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return the wall-clock time and the CPU time of a call, in seconds. CPU time is that of this process without children."""
    clock, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - clock, time.process_time() - cpu


def supervisor_rows(made: Fleet, workers: int, seconds: float) -> list[Row]:
    """Measure the supervisor: its first look, the starts, its ticks, and a worker that ends while others wait.

    Raises:
        RuntimeError: fewer runs could be started than there are workers.
    """
    supervisor = made.supervisor

    def start_all() -> None:
        while supervisor.tick(everything=True):
            pass

    clock, cpu = timed(start_all)
    if len(supervisor.workers) < workers:
        raise RuntimeError(f"{workers} workers must have been started, got {len(supervisor.workers)}; use more runs.")
    made.open_writers()
    rows = [Row("supervisor: first look and start of all workers", f"{clock:.1f} s, {cpu:.1f} s of CPU"),
            Row("supervisor: rate of starts", f"{workers / clock:.0f} starts a second")]
    settled = time.monotonic() + SETTLE_S
    while time.monotonic() < settled:
        supervisor.tick()
        time.sleep(0.2)
    ticks, started, before = [], time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        ticks.append(timed(supervisor.tick)[1])
        time.sleep(pause_after(ticks[-1]))
    share = (time.process_time() - before) / (time.perf_counter() - started)
    tick = statistics.median(ticks)
    rows.append(Row("supervisor: a tick", f"{1000 * tick:.1f} ms of CPU, one every {tick + pause_after(tick):.1f} s", share))
    ends = [turnover(made, workers) for _ in range(min(TURNOVERS, workers // 2))]
    rows.append(Row("supervisor: a worker ends and the next starts", f"{1000 * statistics.median(ends):.0f} ms of CPU"))
    return rows


def turnover(made: Fleet, workers: int) -> float:
    """Let a worker end. Return the CPU seconds that the supervisor takes until the next worker runs."""
    made.end_one()
    known = set(made.supervisor.workers)
    cpu = 0.0
    while len(made.supervisor.workers) < workers or set(made.supervisor.workers) == known:
        cpu += timed(made.supervisor.tick)[1]
    made.open_writers()
    return cpu


def ingest_rows(made: Fleet, workers: int, step_s: float) -> list[Row]:
    """Measure the index: the first reading of all runs, and how many events a second it reads from all workers."""
    log = RunLog.open(made.runs)
    clock, cpu = timed(log.ingest)
    rows = [Row("index: first reading of all runs", f"{clock:.0f} s, {cpu:.0f} s of CPU")]
    running, writing = list(made.writers), []

    def median_of(steps: int) -> float:
        found = []
        for _ in range(1 + ROUNDS):
            for _ in range(steps):
                writing.append(timed(made.write_step)[1])
            found.append(timed(lambda: log.ingest(running))[1])
        return statistics.median(found[1:])

    one, many = median_of(1), median_of(BURST)
    log.close()
    produced = EVENTS_PER_STEP * workers / step_s
    events = EVENTS_PER_STEP * workers
    return [*rows,
            Row("workers: events", f"{produced:,.0f} events a second, one step of each worker every {step_s:g} s"),
            Row("workers: writing one event", f"{1e6 * statistics.median(writing) / events:.0f} µs of CPU"),
            Row("index: events, read after each step", f"{events / one:,.0f} events a second", produced * one / events),
            Row(f"index: events, read after every {BURST} steps", f"{BURST * events / many:,.0f} events a second",
                produced * many / events / BURST)]


def size_rows(runs: Path) -> list[Row]:
    """Measure what the runs and the index take on the disk."""
    files = folders = size = used = 0
    for run_id in run_ids(runs):
        for _, _folders, leaves in os.walk(runs / run_id):
            folders += 1
            files += len(leaves)
    for status in (os.lstat(path) for path in runs.glob("2*/**/*") if path.is_file()):
        size, used = size + status.st_size, used + 512 * status.st_blocks
    count = len(run_ids(runs))
    index = (runs / "index.duckdb").stat().st_size
    return [Row("disk: inodes of all runs", f"{files + folders:,}, {(files + folders) / count:.1f} a run"),
            Row("disk: bytes of all runs", f"{size / 1e6:,.0f} MB in {used / 1e6:,.0f} MB of blocks"),
            Row("disk: index.duckdb", f"{index / 1e6:,.0f} MB")]


def page_rows(made: Fleet, step_s: float, seconds: float) -> list[Row]:
    """Measure the dashboard's server: pages while nothing happens and while all workers write, and its share of a core."""
    with dashboard(made.runs) as (server, process):
        clock, cpu = read_all(server.url, process)
        rows = [Row("dashboard: start with an index", f"{clock / 1000:.1f} s, {cpu / 1000:.1f} s of CPU")]
        places = {"list of runs": ("runs", ""), "page of a running search": ("run", f"id={next(iter(made.writers))}")}
        for title, place in places.items():
            with Tab(server.url, process) as tab:
                rows.append(Row(f"dashboard: {title}, nothing new", visits(tab, *place)))
        memory = megabytes(process)
        with writing(made, step_s) as rounds:
            for title, place in places.items():
                with Tab(server.url, process) as tab:
                    rows.append(Row(f"dashboard: {title}, all workers writing", visits(tab, *place)))
                with Tab(server.url, process) as tab:
                    done, started = len(rounds), time.perf_counter()
                    share = watched(server, process, tab, place, seconds)
                    rate = (len(rounds) - done) * EVENTS_PER_STEP * len(made.writers) / (time.perf_counter() - started)
                rows.append(Row(f"dashboard: server, one reader of the {title}", f"{rate:,.0f} events a second written", share))
        rows.append(Row("dashboard: memory", f"{memory:,.0f} MB, then {megabytes(process):,.0f} MB"))
    return rows


def watched(server: Dashboard, process: psutil.Process, tab: Tab, place: tuple[str, str], seconds: float) -> float:
    """Show a page for some seconds, draw its panels again when the server tells that they have changed, as a browser does.

    Return the share of a core that the server takes.
    """
    shown = tab.visit(*place)
    address = f"{server.url.replace('http', 'ws', 1)}/{shown.news}"
    with connect(address, origin=Origin(server.url), max_size=LARGEST_BYTES) as news:
        news.send(json.dumps({"topics": list(shown.panels), "values": shown.values}))
        started, before = time.perf_counter(), cpu_s(process)
        while (left := started + seconds - time.perf_counter()) > 0:
            try:
                topics = json.loads(news.recv(timeout=left))["signatures"]
            except TimeoutError:
                break
            for panel in [panel for topic in topics for panel in shown.panels.get(topic, [])]:
                tab.redraw(panel)
        return (cpu_s(process) - before) / (time.perf_counter() - started)


def visits(tab: Tab, page: str, query: str) -> str:
    """Visit a page several times. Return the median times of all visits but the first, or that the server did not answer.

    Raises:
        RuntimeError: the page shows a traceback.
    """
    try:
        drawn = [tab.visit(page, query) for _ in range(1 + VISITS)][1:]
    except TimeoutError:
        return f"no answer within {PATIENCE_S:.0f} s"
    if drawn[-1].problems:
        raise RuntimeError(f"{page} shows {drawn[-1].problems}")
    return (f"{1000 * statistics.median(one.clock_s for one in drawn):,.0f} ms, "
            f"{1000 * statistics.median(one.cpu_s for one in drawn):,.0f} ms of CPU")


@contextmanager
def writing(made: Fleet, step_s: float) -> Iterator[list[float]]:
    """Let all workers write a step every `step_s` seconds during the `with` block. Yield the times of the steps so far."""
    over, rounds = threading.Event(), list[float]()

    def write() -> None:
        while not over.wait(max(0.0, step_s - rounds[-1] if rounds else 0.0)):
            started = time.perf_counter()
            made.write_step()
            rounds.append(time.perf_counter() - started)

    thread = threading.Thread(target=write, name="workers")
    thread.start()
    try:
        yield rounds
    finally:
        over.set()
        thread.join()


def table_of(rows: Sequence[Row], runs: int, workers: int) -> Table:
    """Return the costs as a table, with the number of workers at which a part takes a whole core."""
    return Table(f"{runs:,} runs and {workers} workers", ("part", "measured", "of a core", "full at"), tuple(
        (row.part, row.value, "" if row.core is None else f"{100 * row.core:.1f} %",
         "" if not row.core else f"{workers / row.core:,.0f} workers") for row in rows))


def first_full(rows: Sequence[Row]) -> Row:
    """Return the part that takes the largest share of a core."""
    return max((row for row in rows if row.core is not None), key=lambda row: row.core or 0.0)


def measure(runs: int, workers: int, points: int, step_s: float, seconds: float) -> list[Row]:
    """Write the folder in a temporary place, and measure all parts one after another."""
    with tempfile.TemporaryDirectory() as temporary, fleet(Path(temporary) / "runs", runs, workers, points) as made:
        rows: list[Row] = []
        for more in (lambda: supervisor_rows(made, workers, seconds), lambda: ingest_rows(made, workers, step_s),
                     lambda: size_rows(made.runs), lambda: page_rows(made, step_s, seconds)):
            rows += more()
            print("\n".join(f"{row.part}: {row.value}" for row in rows[-8:]), file=sys.stderr, flush=True)
        return rows


def main(arguments: list[str] | None = None) -> list[Row]:
    """Parse the command line, measure, print the table and the part that is full first, and return the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="number of runs")
    parser.add_argument("--workers", type=int, default=500, help="number of workers, at most a sixth of the runs")
    parser.add_argument("--points", type=int, default=100_000_000, help="alpha values of all runs that have ended, together")
    parser.add_argument("--step-s", type=float, default=2.0, help="seconds that a worker takes for a step")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measurements of lasting costs")
    add_output_options(parser)
    chosen = parser.parse_args(arguments)
    rows = measure(chosen.runs, chosen.workers, chosen.points, chosen.step_s, chosen.seconds)
    table, full = table_of(rows, chosen.runs, chosen.workers), first_full(rows)
    publish(chosen, "fleet", arguments or [], {"rows": [vars(row) for row in rows]}, [table])
    print(f"Load average: {os.getloadavg()[0]:.1f}. Full first: {full.part}, at {chosen.workers / (full.core or 1):,.0f} "
          "workers.")
    return rows


if __name__ == "__main__":
    main()
