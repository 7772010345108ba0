"""Measure how long the runs of a study take on one core: CPU seconds of each kind of run with the presets quick or smoke.

    python -m benchmarks.study_durations                                # both datasets, every method; about two hours
    python -m benchmarks.study_durations --preset smoke                 # the same with the preset smoke; about ten minutes
    python -m benchmarks.study_durations --datasets digits --methods arnas  # one search, its retraining and its attack

`engine.study.estimate` holds these numbers (`TABLE_S`). They estimate the duration of a study until runs have finished on the
machine. The runs are executed one after another, with one thread. CPU time is measured, because other work on the machine affects
it little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from engine import requests
from engine.configuring import recorded
from engine.data.catalogue import DATASETS
from engine.files import atomic_write_json
from engine.run.folder import RunFolder
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalLauncher
from engine.run.state import identity
from engine.search.methods.registry import METHODS
from engine.study.estimate import amount


def cpu_seconds(folder: RunFolder) -> float:
    """Execute a run to its end, and return the CPU seconds that it took."""
    worker = LocalLauncher().start(folder, Start(1, "cpu", 1))
    _, status, usage = os.wait4(worker.process["pid"], 0)
    code = os.waitstatus_to_exitcode(status)
    atomic_write_json(folder.exit_json, {"attempt": 1, "code": code, "status": "failed" if code else "finished", "cause": "",
                                         "ended": 0.0, "last_lines": []})
    if code:
        raise SystemExit(f"{folder.id} failed: " + "\n".join(folder.last_lines()))
    return usage.ru_utime + usage.ru_stime


def measure(runs: Path, dataset: str, method: str, preset: str, with_followers: bool) -> Iterator[tuple[str, float, int]]:
    """Run a search by a method and, if `with_followers`, its retraining and attack.

    Yields:
        (kind of run, CPU seconds, epochs or attacked images) when a run has ended.
    """
    (runs / "control").mkdir(parents=True, exist_ok=True)
    atomic_write_json(runs / "control" / "supervisor.json", identity(os.getpid()))  # so that no supervisor starts the runs
    then = ("retrain", "attack") if with_followers else ()
    single = {"threads": 1}
    ids = requests.submit(runs, "search", {**single, "dataset": dataset}, method=method, preset=preset, then=then,
                          then_changes={kind: {**single, **({"sweep_radii": None, "certify": False} if kind == "attack" else {})}
                                        for kind in then})
    for run_id in ids:
        folder = RunFolder(runs, run_id)
        record = folder.read_run()
        yield record["kind"], cpu_seconds(folder), amount(recorded(record))


def main() -> None:
    """Parse the command line, measure, and print one line per kind of run and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=["digits", "mnist5k"], choices=list(DATASETS), help="datasets")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="search methods")
    parser.add_argument("--preset", default="quick", choices=["quick", "smoke"], help="preset (default %(default)s)")
    parser.add_argument("--searches-only", action="store_true", help="measure no retraining and no attack")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for dataset, (number, method) in product(options.datasets, enumerate(options.methods)):
            with_followers = number == 0 and not options.searches_only
            for kind, seconds, units in measure(Path(folder) / "runs", dataset, method, options.preset, with_followers):
                name = method if kind == "search" else ""
                print(f"{dataset:<8} {kind:<8} {name:<14} {seconds:7.1f} CPU seconds, {units} units", flush=True)


if __name__ == "__main__":
    main()
