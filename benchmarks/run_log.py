"""Time the run log: rebuilding the index, ingesting one event, and every query that a page makes.

    python -m benchmarks.run_log                                 # 1,000 runs, 10 million alpha points; about three minutes
    python -m benchmarks.run_log --runs 20 --points 200000       # a quick look

The run folders are generated in a temporary folder. Half of the runs are searches, a quarter retrainings and a quarter attacks.
One search is as long as a published one. The command prints medians of wall-clock time and CPU time in milliseconds. On a busy
machine, only the CPU time is meaningful.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from engine.log import RunLog
from tests import sample_runs

POINTS_PER_LINE = 14 * 7
LONG_STEPS = 600  # alpha lines per cell kind in a published search
REPEATS = 7


def write_runs(root: Path, runs: int, points: int) -> str:
    """Generate run folders, and return the id of the search that is as long as a published one.

    Args:
        root: folder for the run folders.
        runs: number of runs.
        points: approximate number of alpha values in all runs together.
    """
    searches = max(1, runs // 2)
    steps = max(1, (points // POINTS_PER_LINE // 3 - LONG_STEPS) // searches)
    long = write_search(root, "20261101-0000-arnas-digits-ffff", LONG_STEPS)
    template = write_search(root, "20261101-0001-arnas-digits-0000", steps)
    text = (root / template / "events.jsonl").read_text()
    for number in range(1, searches - 1):
        run = f"20261101-0001-arnas-digits-{number:04x}"
        folder = sample_runs.write_run_json(root, run, "search")
        (folder / "events.jsonl").write_text(text.replace(template, run))
        sample_runs.write_exit(folder, sample_runs.EventsFile(folder), code=0, status="finished")
    for number in range((runs - searches) // 2):
        retrain = sample_runs.write_resumed_retrain(root, f"20261102-0001-retrain-digits-{number:04x}")
        sample_runs.write_finished_attack(root, f"20261103-0001-attack-digits-{number:04x}", parent=retrain,
                                          autoattack=10 + number % 50)
    return long


def write_search(root: Path, run: str, steps: int) -> str:
    """Generate the run folder of a finished search with alphas at each of `steps` steps, and return the run id."""
    folder = sample_runs.write_run_json(root, run, "search")
    events = sample_runs.EventsFile(folder)
    sample_runs.write_search_steps(events, steps)
    sample_runs.write_finished(folder, events)
    return run


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
    questions: dict[str, Callable[[], object]] = {
        "runs": log.runs, "run": lambda: log.run(long), "events_revision of all": log.events_revision,
        "events_revision of one": lambda: log.events_revision(long), "curves": lambda: log.curves(long),
        "steps_curve": lambda: log.steps_curve(long, ["natural_loss", "adversarial_loss"]),
        "objectives": lambda: log.objectives(long), "share_at_vertex": lambda: log.share_at_vertex(long),
        "alpha_epochs": lambda: log.alpha_epochs(long, "robust"), "alpha_matrix": lambda: log.alpha_matrix(long, "robust"),
        "alpha_lines": lambda: log.alpha_lines(long, "robust"), "genotypes": lambda: log.genotypes(long),
        "chain": lambda: log.chain(long), "evaluations": log.evaluations, "search_times": log.search_times,
        "pareto_epochs": log.pareto_epochs, "test_openings": log.test_openings,
    }
    times |= {name: median_ms(question) for name, question in questions.items()}
    log.close()
    print(f"index.duckdb: {(root / 'index.duckdb').stat().st_size / 1e6:.1f} MB")
    return times


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Generate the runs, measure and print the times, and return them as {title: (wall-clock ms, CPU ms)}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="number of run folders")
    parser.add_argument("--points", type=int, default=10_000_000, help="total number of alpha values")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        long = write_runs(Path(folder), chosen.runs, chosen.points)
        times = measure(Path(folder), long)
    print(f"{'milliseconds':45s} {'clock':>10s} {'CPU':>10s}")
    for name, (clock, cpu) in times.items():
        print(f"{name:45s} {clock:10,.1f} {cpu:10,.1f}")
    return times


if __name__ == "__main__":
    main()
