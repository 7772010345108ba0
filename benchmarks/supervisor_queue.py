"""Measure how much of a CPU core the supervisor (the process that starts runs) takes while many runs wait.

    python -m benchmarks.supervisor_queue                  # 500 waiting runs, 60 seconds; about three minutes
    python -m benchmarks.supervisor_queue --runs 100

The runs wait in a temporary folder, first as single chains, then as a study, whose runs the background process looks for as well.
None is ever started, because the supervisor has no free device. The command prints the CPU time of the supervisor divided by the
wall-clock time, in per cent.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from engine import requests
from engine.background import Studies
from engine.files import atomic_write_json
from engine.run.state import identity
from engine.run.supervisor import Supervisor, pause_after
from engine.study import actions
from engine.study.parsing import from_text

STUDY = """
question: How much does the supervisor cost?
dataset: digits
preset: smoke
search_seeds: {seeds}
arms:
  - {{name: ARNAS, method: arnas}}
  - {{name: DARTS, method: darts}}
"""
SETTLE_S = 3.0  # until the files are old enough that the supervisor trusts their time stamps


def write_chains(runs: Path, count: int) -> None:
    """Launch at least `count` runs in groups of three: a search, its retraining and its attack."""
    for seed in range((count + 2) // 3):
        requests.submit(runs, "search", {"seed": seed, "threads": 1}, method="arnas", preset="smoke", then=("retrain", "attack"))


def write_study(runs: Path, count: int) -> None:
    """Launch a study with at least `count` runs."""
    study_id = actions.launch(runs, from_text(STUDY.format(seeds=(count + 5) // 6)))
    while actions.advance(runs, study_id):
        pass


def share_of_a_core(runs: Path, seconds: float) -> float:
    """Return the CPU time that a supervisor without free devices takes, divided by the wall-clock time."""
    studies = Studies(runs)
    supervisor = Supervisor(runs, cpu_slots=0)
    supervisor.tick()
    time.sleep(SETTLE_S)
    supervisor.tick()
    start, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        before = time.process_time()
        supervisor.tick()
        pause = pause_after(time.process_time() - before)
        studies.tick(False)
        time.sleep(pause)
    return (time.process_time() - cpu) / (time.perf_counter() - start)


def main() -> None:
    """Parse the command line, measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500, help="number of waiting runs")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measurement")
    options = parser.parse_args()
    for title, write in (("single chains", write_chains), ("a study", write_study)):
        with tempfile.TemporaryDirectory() as folder:
            runs = Path(folder) / "runs"
            (runs / "control").mkdir(parents=True)
            # The runs wait, because this process claims to be the supervisor (the process that starts runs) and starts none.
            atomic_write_json(runs / "control" / "supervisor.json", identity(os.getpid()))
            write(runs, options.runs)
            print(f"{options.runs} waiting runs of {title}: {100 * share_of_a_core(runs, options.seconds):.1f} % of a core")


if __name__ == "__main__":
    main()
