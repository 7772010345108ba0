"""A generated runs folder of any size, for measurements of the dashboard.

    python -m benchmarks.large_folder DIR --runs 1000 --points 10000000     # a folder to look at

The folder holds what a year of work leaves: the example study with its 75 real runs, and chains of a search, its retraining and
an attack, of several methods, seeds and results. One more search is as long as a published one. Searches of all methods have the
same three kinds of cells.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import psutil

from engine.run.folder import run_ids
from engine.study.archive import open_example
from tests import sample_runs

POINTS_PER_LINE = 14 * 7
LONG_STEPS = 600  # alpha lines per cell kind in a published search
LONG_MEASUREMENTS = 360  # of the machine, ten seconds apart
LONG, RUNNING = "20261101-0000-arnas-digits-ffff", "20261118-0910-arnas-digits-0a01"
METHODS = {"arnas": "ARNAS", "dsara": "DSARA", "advrush": "AdvRush", "pcdarts": "PC-DARTS"}
SEEDS = 4  # searches of one method whose numbers differ; further ones repeat them
PARAMETERS, MACS = 30_000, 900_000  # of the smallest network
DAY_S = 86_400.0


def write_runs(root: Path, runs: int, points: int) -> str:
    """Generate run folders, and return the id of the search that is as long as a published one.

    Args:
        root: folder for the run folders.
        runs: number of runs. A folder with fewer than 200 runs has no example study.
        points: approximate number of alpha values in all runs together.
    """
    if runs >= 200:
        open_example(root)
    chains = max(1, (runs - len(run_ids(root)) - 1) // 3)
    steps = max(1, (points // POINTS_PER_LINE // 3 - LONG_STEPS) // chains)
    texts: dict[tuple[str, int], str] = {}
    for number in range(chains):
        write_chain(root, number, steps, texts)
    return write_longest_search(root)


def write_longest_search(root: Path) -> str:
    """Write the finished search `LONG`, which also has measurements of its machine and the images of its first batch."""
    folder = _search_folder(root, LONG, "arnas", 2, sample_runs.START, ())
    events = sample_runs.EventsFile(folder, t=sample_runs.START)
    sample_runs.write_search_steps(events, LONG_STEPS)
    sample_runs.write_telemetry(events, LONG_MEASUREMENTS)
    sample_runs.write_first_batch(folder)
    sample_runs.write_finished(folder, events)
    return LONG


def write_chain(root: Path, number: int, steps: int, texts: dict[tuple[str, int], str]) -> None:
    """Write a finished search, the retraining of its network and the attack on it.

    Args:
        root: folder of all runs.
        number: number of the chain, from 0.
        steps: steps of the search.
        texts: {(method, seed): content of the events.jsonl of such a search, with {} in place of the id}. It is extended.
    """
    method = list(METHODS)[number % len(METHODS)]
    seed = number // len(METHODS) % SEEDS
    search, retrain, attack = (f"20261101-0001-{name}-digits-{number:04x}" for name in (method, "retrain", "attack"))
    created = sample_runs.START - DAY_S * number
    if (method, seed) not in texts:
        write_search(root, search, steps, method, seed, created, (retrain, attack))
        texts[method, seed] = (root / search / "events.jsonl").read_text(encoding="utf-8").replace(search, "{}")
    else:
        folder = _search_folder(root, search, method, seed, created, (retrain, attack))
        (folder / "events.jsonl").write_text(texts[method, seed].replace("{}", search, 1), encoding="utf-8")
        sample_runs.write_exit(folder, sample_runs.EventsFile(folder), code=0, status="finished")
    parameters, macs = PARAMETERS + 700 * (number % 60), MACS + 21_000 * (number % 60)
    folder = sample_runs.write_run_json(root, retrain, "retrain", method=method, title=METHODS[method], parent=search,
                                        created=created + 1, changes={"seed": seed})
    events = sample_runs.EventsFile(folder, t=created + 600)
    sample_runs.write_network(events, parameters=parameters, macs=macs)
    for _ in range(sample_runs.EPOCHS):
        sample_runs.write_retrain_epoch(events)
    sample_runs.write_finished(folder, events)
    sample_runs.write_finished_attack(root, attack, parent=retrain, t=created + 900, created=created + 2,
                                      autoattack=10 + number % 40, title=METHODS[method], parameters=parameters,
                                      macs=macs)


def write_search(root: Path, run: str, steps: int, method: str = "arnas", seed: int = 2, created: float = sample_runs.START,
                 children: tuple[str, ...] = ()) -> str:
    """Generate the run folder of a finished search with alphas at each of `steps` steps, and return the run id."""
    folder = _search_folder(root, run, method, seed, created, children)
    events = sample_runs.EventsFile(folder, t=created)
    sample_runs.write_search_steps(events, steps, seed=seed)
    sample_runs.write_finished(folder, events)
    return run


def write_running_search(root: Path) -> tuple[str, sample_runs.EventsFile]:
    """Write a search as long as a published one whose worker is this process. Return its id and the writer of its events."""
    folder = _search_folder(root, RUNNING, "arnas", 2, time.time(), ())
    (folder / "events.jsonl").unlink(missing_ok=True)
    events = sample_runs.EventsFile(folder, t=time.time())
    me = psutil.Process(os.getpid())
    sample_runs.write_process(folder, events, pid=me.pid, started=me.create_time())
    sample_runs.write_search_steps(events, LONG_STEPS)
    return RUNNING, events


def _search_folder(root: Path, run: str, method: str, seed: int, created: float, children: tuple[str, ...]) -> Path:
    return sample_runs.write_run_json(root, run, "search", method=method, title=METHODS[method], created=created,
                                      children=children, changes={"seed": seed})


def main() -> None:
    """Generate a folder and print the id of its longest search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to create")
    parser.add_argument("--runs", type=int, default=1000, help="number of runs")
    parser.add_argument("--points", type=int, default=10_000_000, help="total number of alpha values")
    chosen = parser.parse_args()
    print(write_runs(chosen.folder, chosen.runs, chosen.points))


if __name__ == "__main__":
    main()
