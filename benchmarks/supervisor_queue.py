"""Measure how much of a CPU core the supervisor (the process that starts runs) takes while nothing starts or ends.

    python -m benchmarks.supervisor_queue                            # 10,000 runs of every state; about five minutes
    python -m benchmarks.supervisor_queue --runs 500 --states queued study
    python -m benchmarks.supervisor_queue --checkout ../old          # the supervisor of another version, on the same folders

The runs are in a temporary folder and all in one state: finished, stopped after some time, stopped before the start, waiting as
chains of three, or waiting as runs of studies, for which the background process looks as well. None is ever started, because the
supervisor has no free device. The command prints a table. An idle supervisor's share of a core is its CPU time divided by the
wall-clock time. The first look is what a new supervisor does before it starts anything.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine import requests
from engine.background import EVERY_S, REST, Studies
from engine.files import atomic_write_json
from engine.run.device import Resources
from engine.run.folder import run_ids
from engine.run.launchers.local import LocalLauncher
from engine.run.state import identity
from engine.run.supervisor import Supervisor, pause_after
from engine.study import actions
from engine.study.folder import StudyFolder
from engine.study.identity import Runs
from engine.study.parsing import from_text

ROOT = Path(__file__).resolve().parents[1]
STUDY = """
question: How much does the supervisor cost?
dataset: digits
preset: smoke
search_seeds: {seeds}
arms:
  - {{name: ARNAS, method: arnas}}
  - {{name: DARTS, method: darts}}
"""
RUNS_PER_STUDY = 300  # a published study has fewer
SETTLE_S = 3.0  # until the files are old enough that the supervisor trusts their time stamps


def write_chains(runs: Path, count: int) -> list[Path]:
    """Write `count` waiting runs: copies of a search, its retraining and its attack. Return their folders."""
    chain = requests.submit(runs, "search", {"threads": 1}, method="arnas", preset="smoke", then=("retrain", "attack"))
    texts = [(runs / run_id / "run.json").read_text(encoding="utf-8") for run_id in chain]
    for number in range(count):
        new = [f"20261101-0000-{run_id.split('-', 2)[2][:-5]}-{number // 3:04x}" for run_id in chain]
        text = texts[number % 3]
        for before, after in zip(chain, new):
            text = text.replace(before, after)
        folder = runs / new[number % 3]
        (folder / "control").mkdir(parents=True)
        (folder / "run.json").write_text(text, encoding="utf-8")
    for run_id in chain:
        shutil.rmtree(runs / run_id)
    return [runs / run_id for run_id in run_ids(runs)]


def write_ended(runs: Path, count: int, status: str) -> None:
    """Write `count` runs that have ended with a status."""
    process = {**identity(os.getpid()), "attempt": 1, "started": time.time(), "device": "cpu", "threads": 1, "start_ticks": 1}
    ended = {"attempt": 1, "code": 0, "status": status, "cause": "", "ended": time.time(), "last_lines": []}
    for folder in write_chains(runs, count):
        (folder / "process.json").write_text(json.dumps(process), encoding="utf-8")
        (folder / "exit.json").write_text(json.dumps(ended), encoding="utf-8")
        (folder / "worker.lock").touch()


def write_stopped_before_start(runs: Path, count: int) -> None:
    """Write `count` runs that were stopped before they started."""
    for folder in write_chains(runs, count):
        (folder / "control" / "stop").write_text("{}", encoding="utf-8")


def write_studies(runs: Path, count: int) -> None:
    """Write studies with at least `count` waiting runs: one that is launched, and copies of it.

    The copies have other search seeds, because studies share runs that are equal.
    """
    seeds = (min(count, RUNS_PER_STUDY) + 5) // 6
    study = StudyFolder(runs, actions.launch(runs, from_text(STUDY.format(seeds=list(range(seeds))))))
    while actions.advance(runs, study.id, Runs(runs)):
        pass
    record, first = json.loads(study.file.read_text(encoding="utf-8")), run_ids(runs)
    texts = [(runs / run_id / "run.json").read_text(encoding="utf-8") for run_id in first]
    for number in range(1, -(-count // len(first))):
        new = {old: f"20261101-0000-{old.split('-', 2)[2][:-5]}-{number * (len(first) + 1) + place:04x}"
               for place, old in enumerate((*first, study.id))}
        shift = number * seeds
        atomic_write_json(study.file.with_name(f"{new[study.id]}.json"), record | {
            "id": new[study.id], "search_seeds": [seed + shift for seed in record["search_seeds"]]})
        for text in texts:
            write_copy(runs, json.loads(text), new, shift)


def write_copy(runs: Path, run: dict[str, Any], new: Mapping[str, str], shift: int) -> None:
    """Write a run.json with the ids in `new` and other seeds."""
    run |= {"id": new[run["id"]], "parent": run["parent"] and new[run["parent"]]}
    run["config"]["seed"] += 0 if run["kind"] == "attack" else shift
    run["study"] |= {"id": new[run["study"]["id"]], "search_seed": run["study"]["search_seed"] + shift}
    (runs / run["id"] / "control").mkdir(parents=True)
    (runs / run["id"] / "run.json").write_text(json.dumps(run), encoding="utf-8")


STATES: dict[str, Callable[[Path, int], object]] = {
    "finished": lambda runs, count: write_ended(runs, count, "finished"),
    "stopped": lambda runs, count: write_ended(runs, count, "stopped"),
    "stopped-before-start": write_stopped_before_start,
    "queued": write_chains,
    "study": write_studies,
}


class NoFreeDevice(Resources):
    """The devices of this machine, all of which are taken."""

    def free_device(self, *wanted: object, **named: object) -> None:
        """Return None."""


class LauncherWithoutDevices(LocalLauncher):
    """A launcher that never has a free device. Without it, runs of studies would start, as they share all cores."""

    def resources(self) -> Resources:
        """Return the devices of this machine, all of which are taken."""
        found = super().resources()
        return NoFreeDevice(found.devices, found.threads)


def look_at_studies(runs: Path) -> float:
    """Return the CPU seconds that the background process needs to look at all studies once."""
    studies, start = Studies(runs), time.process_time()
    while studies.tick(False):
        pass
    return time.process_time() - start


def measure(runs: Path, seconds: float) -> tuple[float, float, float, float]:
    """Measure a supervisor without free devices.

    Returns:
        CPU time of the first look, in seconds.
        CPU time divided by the wall-clock time, afterwards. A look at the studies is rarer than the measurement is long, so its
            share is added.
        CPU time of a tick, in milliseconds.
        CPU time of a look at the studies, in seconds.
    """
    look_at_studies(runs)  # the next one reads only what has changed, as all later ones
    look = look_at_studies(runs)
    studies, supervisor = Studies(runs), Supervisor(runs)
    supervisor.launcher = LauncherWithoutDevices()
    start = time.process_time()
    supervisor.tick()
    first = time.process_time() - start
    until = time.monotonic() + SETTLE_S
    while studies.tick(False) or time.monotonic() < until:
        supervisor.tick()
        time.sleep(0.2)
    wall, cpu, ticks, in_ticks = time.perf_counter(), time.process_time(), 0, 0.0
    while time.perf_counter() - wall < seconds:
        before = time.process_time()
        supervisor.tick()
        took = time.process_time() - before
        studies.tick(False)
        ticks, in_ticks = ticks + 1, in_ticks + took
        time.sleep(pause_after(took))
    assert not supervisor.workers
    share = (time.process_time() - cpu) / (time.perf_counter() - wall) + look / max(EVERY_S, REST * look)
    return first, share, 1000 * in_ticks / ticks, look


def measure_in(checkout: Path, runs: Path, seconds: float) -> tuple[float, float, float, float]:
    """Return the result of `measure` with the supervisor of the version in `checkout`, in a process of its own."""
    told = subprocess.run([sys.executable, "-P", __file__, "--folder", str(runs), "--seconds", str(seconds)], check=True,
                          cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, stdout=subprocess.PIPE, text=True)
    first, share, tick, look = json.loads(told.stdout)
    return first, share, tick, look


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, help="number of runs")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each measurement")
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES), help="states of the runs")
    parser.add_argument("--checkout", type=Path, action="append", help="folders of versions to measure (default: this one)")
    parser.add_argument("--folder", type=Path, help="measure this runs folder instead, and print the numbers only")
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder, options.seconds)))
        return
    print("| runs | version | first look, CPU s | idle, % of a core | a tick, CPU ms | a look at the studies, CPU s |\n"
          "|---|---|---|---|---|---|")
    for state in options.states:
        with tempfile.TemporaryDirectory() as folder:
            runs = Path(folder) / "runs"
            (runs / "control").mkdir(parents=True)
            # The runs wait, because this process claims to be the supervisor (the process that starts runs) and starts none.
            atomic_write_json(runs / "control" / "supervisor.json", identity(os.getpid()))
            STATES[state](runs, options.runs)
            for checkout in options.checkout or [ROOT]:
                first, share, tick, look = measure_in(checkout.resolve(), runs, options.seconds)
                print(f"| {options.runs} {state} | {checkout} | {first:.2f} | {100 * share:.2f} | {tick:.2f} | {look:.2f} |",
                      flush=True)


if __name__ == "__main__":
    main()
