"""Time the run log: rebuilding the index, ingesting one event, every query that a page makes, and every page of the dashboard.

    python -m benchmarks.run_log                                 # 1,000 runs, 10 million alpha points; about five minutes
    python -m benchmarks.run_log --runs 20 --points 200000       # a quick look
    python -m benchmarks.run_log --queries                       # without the pages

The run folders are generated in a temporary folder (`large_folder.py`). The command prints medians of wall-clock time and
CPU time in milliseconds. On a busy machine, only the CPU time is meaningful. `pages.py` measures the pages and explains them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import pages
from benchmarks.large_folder import POINTS_PER_LINE, write_runs
from engine.insight import alerts, alphas, collapse
from engine.log import RunLog
from tests import sample_runs

REPEATS = 7


def median_ms(question: Callable[[], object]) -> tuple[float, float]:
    """Return the medians of wall-clock time and CPU time over `REPEATS` calls, in milliseconds.

    An additional first call is not measured.
    """
    question()
    times = [once_ms(question) for _ in range(REPEATS)]
    return statistics.median(clock for clock, _ in times), statistics.median(cpu for _, cpu in times)


def once_ms(action: Callable[[], object]) -> tuple[float, float]:
    """Return the wall-clock time and the CPU time of one call, in milliseconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    action()
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - cpu)


def measure(root: Path, long: str) -> dict[str, tuple[float, float]]:
    """Measure how long rebuilding the index, ingesting one event and every query take.

    Args:
        root: the runs folder.
        long: id of the search to query, which is as long as a published one.

    Returns:
        {title: (wall-clock time, CPU time)} in milliseconds.
    """
    log = RunLog.open(root)
    times = {"rebuild of the whole index": once_ms(log.ingest)}
    with log.cursor() as cursor:
        lines, = cursor.execute("select count(*) from alpha_raw").fetchone() or (0,)
    print(f"{lines * POINTS_PER_LINE:,} alpha points")
    times["ingest, nothing new, all runs"] = median_ms(log.ingest)
    events = sample_runs.EventsFile(root / long)
    events.step = 10_000

    def one_step() -> None:
        sample_runs.write_search_step(events)
        log.ingest(long)

    times["one step written and ingested, one run"] = median_ms(one_step)
    bell = alerts.Bell(log)
    questions: dict[str, Callable[[], object]] = {
        "runs": log.runs, "run": lambda: log.run(long), "events_revision of all": log.events_revision,
        "events_revision of one": lambda: log.events_revision(long), "curves": lambda: log.curves(long),
        "steps_curve": lambda: log.steps_curve(long, ["natural_loss", "adversarial_loss"]),
        "objectives": lambda: log.objectives(long), "share_at_vertex": lambda: log.share_at_vertex(long),
        "alpha_epochs": lambda: log.alpha_epochs(long, "robust"), "alpha_matrix": lambda: log.alpha_matrix(long, "robust"),
        "alpha_lines": lambda: log.alpha_lines(long, "robust"), "genotypes": lambda: log.genotypes(long),
        "chain": lambda: log.chain(long), "evaluations": log.evaluations, "search_times": log.search_times,
        "pareto_epochs": log.pareto_epochs, "test_openings": log.test_openings,
        "objective_epochs": lambda: log.objective_epochs(long),
        "alphas of one cell kind by epoch": lambda: alphas.river(log, long, "robust"),
        "alphas of all cell kinds by step": lambda: alphas.rivers(log, long, by_epoch=False),
        "signs of a collapse": lambda: collapse.radar(log, long), "alerts": lambda: alerts.alerts_of(log),
        "alerts again": bell.alerts,
    }
    times |= {name: median_ms(question) for name, question in questions.items()}
    log.close()
    print(f"index.duckdb: {(root / 'index.duckdb').stat().st_size / 1e6:.1f} MB")
    return times


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Generate the runs, measure and print the times, and return those of the queries as {title: (wall-clock ms, CPU ms)}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="number of run folders")
    parser.add_argument("--points", type=int, default=10_000_000, help="total number of alpha values")
    parser.add_argument("--queries", action="store_true", help="leave out the pages")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        times = measure(root, write_runs(root, chosen.runs, chosen.points))
        pages.report(times, {})
        if not chosen.queries:
            for index in root.glob("index.duckdb*"):
                index.unlink()
            pages.report(*pages.measure(root))
    return times


if __name__ == "__main__":
    main()
