"""Estimates of the duration of a study, from the durations of finished runs or else from a table. Imports no torch."""

from __future__ import annotations

import heapq
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from engine.config import AttackConfig, RunConfig
from engine.configuring import recorded
from engine.data.splits import split_sizes
from engine.errors import ConfigError, RunError
from engine.run import device
from engine.run.admission import PARENT_KIND
from engine.run.events import read_events
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.state import compute
from engine.study.declaration import Study, kind_of
from engine.study.planning import CellState
from engine.study.results import duration_of

# CPU seconds of a run with one thread, and the epochs or images that the run covers, by preset, dataset, kind of run and search
# method. They stand in for the durations of finished runs as long as there are none. Measured by benchmarks/study_durations.py.
TABLE_S = {
    "quick": {
        ("digits", "search", "arnas"): (99.6, 16), ("digits", "search", "dsara"): (89.8, 16),
        ("digits", "search", "e2rnas"): (36.7, 16), ("digits", "search", "e2rnas2021"): (43.3, 12),
        ("digits", "search", "darts"): (32.8, 16), ("digits", "search", "pcdarts"): (32.2, 16),
        ("digits", "search", "advrush"): (90.9, 16), ("digits", "search", "random_search"): (24.8, 30),
        ("digits", "retrain", ""): (26.6, 14), ("digits", "attack", ""): (59.0, 359),
        ("mnist5k", "search", "arnas"): (381.4, 16), ("mnist5k", "search", "dsara"): (360.0, 16),
        ("mnist5k", "search", "e2rnas"): (136.8, 16), ("mnist5k", "search", "e2rnas2021"): (172.2, 12),
        ("mnist5k", "search", "darts"): (135.3, 16), ("mnist5k", "search", "pcdarts"): (158.2, 16),
        ("mnist5k", "search", "advrush"): (425.9, 16), ("mnist5k", "search", "random_search"): (105.2, 30),
        ("mnist5k", "retrain", ""): (208.0, 4), ("mnist5k", "attack", ""): (300.2, 100),
    },
    "smoke": {
        ("digits", "search", "arnas"): (1.8, 1), ("digits", "search", "dsara"): (1.7, 2),
        ("digits", "search", "e2rnas"): (1.8, 1), ("digits", "search", "e2rnas2021"): (1.9, 2),
        ("digits", "search", "darts"): (1.9, 1), ("digits", "search", "pcdarts"): (2.0, 2),
        ("digits", "search", "advrush"): (2.1, 2), ("digits", "search", "random_search"): (2.2, 4),
        ("digits", "retrain", ""): (3.0, 1), ("digits", "attack", ""): (3.0, 64),
        ("mnist5k", "search", "arnas"): (2.6, 1), ("mnist5k", "search", "dsara"): (2.5, 2),
        ("mnist5k", "search", "e2rnas"): (2.4, 1), ("mnist5k", "search", "e2rnas2021"): (2.7, 2),
        ("mnist5k", "search", "darts"): (2.7, 1), ("mnist5k", "search", "pcdarts"): (2.9, 2),
        ("mnist5k", "search", "advrush"): (3.6, 2), ("mnist5k", "search", "random_search"): (2.4, 4),
        ("mnist5k", "retrain", ""): (3.6, 1), ("mnist5k", "attack", ""): (3.7, 64),
    },
}
NEWEST = 3  # runs of one kind that count, because the code may have changed since older ones
# Other work makes a machine slower for a while. Two runs of the same kind differ by about NOISE anyway, and the speed of the
# machine by about DRIFT from one run to the next (natural logarithms). The speed is computed from the newest COUNTED runs.
NOISE, DRIFT, COUNTED = 0.2, 0.15, 150
# Settings that do not make two runs incomparable in their duration. Epochs and attacked images enter as a ratio.
IGNORED = ("seed", "split_seed", "device", "threads", "epochs", "autoattack_images", "genotype", "transplant", "match",
           "match_to", "channels", "switch_epoch", "adversarial_lambda", "fixed_natural_weight")


@dataclass(frozen=True)
class Estimate:
    """An estimate of the time that a study still needs.

    Attributes:
        seconds: wall-clock time until all runs have finished; None if a kind of run has no known duration.
        core_seconds: time in seconds that the remaining runs would take one after another; None if `seconds` is None.
        runs: number of runs that remain.
        measured: True if every duration comes from finished runs; False if some come from the table of durations.
        unknown: (kind of run, search method or "", dataset) of the runs whose duration is not known.
    """

    seconds: float | None
    core_seconds: float | None
    runs: int
    measured: bool
    unknown: tuple[tuple[str, str, str], ...] = ()


class Durations:
    """Durations of the finished runs in a runs folder. The durations of new runs are estimated from them.

    The speed of the machine changes over time. Durations are converted to the present speed (see `slowness`).
    """

    def __init__(self, runs: Path | str) -> None:
        """Read the durations of all finished runs that are typical.

        Left out are runs that cannot be read, that were resumed or imported, or that finished early, and the example's runs.
        """
        self._same: dict[str, list[float]] = defaultdict(list)
        self._similar: dict[tuple[str, ...], list[float]] = defaultdict(list)
        finished = []
        for run_id in run_ids(runs):
            try:
                written = os.stat(RunFolder(runs, run_id).exit_json).st_mtime_ns
                finished += [known] if (known := _read(Path(runs), run_id, written)) else []
            except (OSError, RunError):
                continue
        finished.sort()
        for (_, same, similar, per_unit), factor in zip(finished, slowness([(one[1], one[3]) for one in finished]), strict=True):
            now = per_unit / factor
            self._same[same].append(now)
            self._similar[similar].append(now)
            self._similar[similar[:-1]].append(now)

    def of_same(self, kind: str, method: str | None, preset: str, config: RunConfig, network: str = "") -> float | None:
        """Return the expected duration of a run in seconds, from finished runs with the same settings; None without such runs.

        Seeds and the other settings in `IGNORED` may differ. The duration is scaled to the number of epochs of the run or, for an
        attack, to its number of images. `of` describes the arguments.
        """
        durations = self._same.get(_keys(kind, method, preset, config, network)[0])
        return median(durations[-NEWEST:]) * amount(config) if durations else None

    def of(self, kind: str, method: str | None, preset: str, config: RunConfig,
           network: str = "") -> tuple[float | None, bool]:
        """Return the expected duration of a run, from the median of the newest similar runs.

        Runs with the same settings are used if there are any; otherwise runs with the same kind, method, dataset, preset and
        network; otherwise runs with the same kind, method, dataset and preset. If there is none of these either, the duration
        comes from the table `TABLE_S`.

        Args:
            kind: kind of the run, "search", "retrain" or "attack".
            method: search method; None for other kinds.
            preset: name of the preset.
            config: configuration of the run.
            network: setting `network` of the retraining, for an attack. A large hand-made network takes longer than cells.

        Returns:
            The duration in seconds; None if it is unknown.
            True if the duration comes from finished runs; False if it comes from `TABLE_S` or is unknown.
        """
        same, similar = _keys(kind, method, preset, config, network)
        for durations in (self._same.get(same), self._similar.get(similar), self._similar.get(similar[:-1])):
            if durations:
                return median(durations[-NEWEST:]) * amount(config), True
        known = TABLE_S.get(preset, {}).get((config.dataset, kind, method or ""))
        return (None if known is None else known[0] * amount(config) / known[1]), False


def slowness(runs: Sequence[tuple[str, float]]) -> list[float]:
    """Return, for each run, the factor by which the machine was slower during this run than during the last run.

    The logarithm of a duration is modelled as the sum of three terms: a constant for the kind of run, the slowness at that time
    (which changes little from run to run), and noise. Because runs of different kinds alternate, least squares can tell the
    constants from the slowness.

    Args:
        runs: (kind of run, seconds per unit of work) of finished runs, oldest first.
    """
    counted = runs[-COUNTED:]
    if not counted:
        return []
    kinds, n = sorted({kind for kind, _ in counted}), len(counted)
    levels = np.array([[kind == one for one in kinds] for kind, _ in counted], dtype=float)
    steps = np.diff(np.eye(n), axis=0)
    present = np.eye(n)[-1:]  # fixes the last slowness at 0
    equations = np.block([[levels / NOISE, np.eye(n) / NOISE], [np.zeros((n - 1, len(kinds))), steps / DRIFT],
                          [np.zeros((1, len(kinds))), present]])
    wanted = np.concatenate([np.log([max(seconds, 1e-9) for _, seconds in counted]) / NOISE, np.zeros(n)])
    solved = np.linalg.lstsq(equations, wanted, rcond=None)[0][len(kinds):]
    factors = [float(factor) for factor in np.exp(solved - solved[-1])]
    return [factors[0]] * (len(runs) - n) + factors


@dataclass(frozen=True)
class Job:
    """A run of a study that has not finished.

    Attributes:
        name: key that identifies the run: its id or, before the launch, its settings and its place in the study.
        after: name of the job that must end before this one starts; None if there is none.
        seconds: seconds that the run still needs; None if unknown.
        measured: True if the time comes from finished runs.
        kind: (kind of run, search method or "", dataset).
        is_running: True if the run has started.
    """

    name: object
    after: object
    seconds: float | None
    measured: bool
    kind: tuple[str, str, str]
    is_running: bool


def estimate(study: Study, durations: Durations, cells: Sequence[CellState] | None = None, runs: Path | str | None = None,
             slots: int | None = None) -> Estimate:
    """Return an estimate of the time that a study takes or, after its launch, still takes.

    Each run is assumed to use one thread, so several runs work at the same time. A run that several repetitions share counts
    once.

    Args:
        study: the study.
        durations: durations of finished runs.
        cells: all cells (repetitions of arms) with their runs; None before the launch.
        runs: folder of all runs, from which the progress of running runs is read; None before the launch.
        slots: number of runs that work at the same time; None for the number of cores.
    """
    jobs: dict[object, Job] = {}
    configurations = {arm.name: study.configurations(arm) for arm in study.arms}
    for cell in cells or [CellState(one, ()) for one in study.cells()]:
        for job in _jobs(study, cell, configurations[cell.cell.arm], durations, runs):
            jobs.setdefault(job.name, job)
    if unknown := dict.fromkeys(job.kind for job in jobs.values() if job.seconds is None):
        return Estimate(None, None, len(jobs), False, tuple(unknown))
    total = sum(job.seconds or 0.0 for job in jobs.values())
    return Estimate(makespan(list(jobs.values()), max(1, slots or device.cores())), total, len(jobs),
                    all(job.measured for job in jobs.values()))


def _jobs(study: Study, cell: CellState, configurations: Mapping[str, RunConfig], durations: Durations,
          runs: Path | str | None) -> Iterator[Job]:
    """Yield one `Job` for each unfinished run of a cell, in the order in which the runs have to run.

    Args:
        study: the study.
        cell: the cell with its runs.
        configurations: {step: configuration} of the cell's arm, from `Study.configurations`.
        durations: durations of finished runs.
        runs: folder of all runs, from which the progress of running runs is read; None before the launch.
    """
    method = study.arm(cell.cell.arm).method
    steps, names = {step.name: step for step in cell.steps}, dict[str, object]()
    for name, config in configurations.items():
        kind, step = kind_of(name), steps.get(name)
        if step is not None and step.status == "finished":
            continue
        names[name] = step.run if step is not None and step.run else _shared(name, config, cell)
        network = str(getattr(configurations["retrain"], "network", "")) if kind == "attack" else ""
        of_kind = method or "" if kind == "search" else ""
        seconds, measured = durations.of(kind, of_kind or None, study.preset, config, network)
        is_running = step is not None and step.status == "running"
        if seconds is not None and step is not None and is_running and runs is not None:
            seconds *= 1 - progress_of(RunFolder(runs, step.run))
        after = names.get(PARENT_KIND.get(kind, ""))
        yield Job(names[name], after, seconds, measured, (kind, of_kind, config.dataset), is_running)


def makespan(jobs: Sequence[Job], slots: int) -> float:
    """Return the seconds until all jobs have ended, if every free slot takes the first job that may start.

    Running jobs get slots first. `Job.seconds` must be known for all jobs.
    """
    waiting = sorted(jobs, key=lambda job: not job.is_running)  # a stable sort
    ends: dict[object, float] = {job.name: math.inf for job in waiting}
    free = [0.0] * slots
    while waiting:
        now = heapq.heappop(free)
        job = next((one for one in waiting if ends.get(one.after, 0.0) <= now), None)
        if job is None:  # the slot idles until the next job ends
            heapq.heappush(free, min(end for end in ends.values() if end > now))
            continue
        waiting.remove(job)
        ends[job.name] = now + (job.seconds or 0.0)
        heapq.heappush(free, ends[job.name])
    return max(ends.values(), default=0.0)


def progress_of(folder: RunFolder) -> float:
    """Return the progress of a run that is running, in 0..1; 0 if no progress is recorded."""
    done = 0.0
    try:
        tail = max(0, folder.events.stat().st_size - 65_536)
        events = read_events(folder.events, tail)[0]  # the first line is cut and therefore skipped
    except (OSError, RunError):
        return 0.0
    for event in events:
        if event.get("event") == "progress" and event.get("total"):
            done = min(1.0, float(event["done"]) / float(event["total"]))
    return done


def _shared(step: str, config: RunConfig, cell: CellState) -> object:
    """Return a key for a run that does not exist yet. Two cells (repetitions of arms) that will share the run have equal keys.

    A search is shared by all retrainings with its search seed, and by arms with the same settings of the search.
    """
    own = () if step == "search" else (cell.cell.arm, cell.cell.index)
    return step, cell.cell.search_seed, json.dumps(config.model_dump(mode="json"), sort_keys=True), own


def amount(config: RunConfig) -> int:
    """Return the amount of work of a run: the number of images of an attack, or the number of epochs of a training."""
    if isinstance(config, AttackConfig):
        return config.autoattack_images or split_sizes(config.dataset, config.images)["test"]
    return int(getattr(config, "epochs", 1))


def _keys(kind: str, method: str | None, preset: str, config: RunConfig, network: str) -> tuple[str, tuple[str, ...]]:
    """Return two keys by which durations are stored: one for runs with the same settings, and one for similar runs.

    The second key ends with the network, because a large hand-made network takes much longer than a network of cells.
    """
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in IGNORED}
    network = _family(str(getattr(config, "network", network)))
    settings |= {"network": network} if "network" in settings else {}
    return json.dumps([kind, method, settings, network], sort_keys=True), (kind, method or "", config.dataset, preset, network)


def _family(network: str) -> str:
    """Return the name of a network without its width. The width may be unknown until the launch, when it is matched to a size."""
    return network.partition("@")[0]


def _attacked(runs: Path, run: Mapping[str, Any]) -> str:
    """Return the setting `network` of an attack run's parent, which is a retraining; "" for other runs or if it is unknown."""
    if run["kind"] != "attack" or not run.get("parent"):
        return ""
    try:
        return str(RunFolder(runs, run["parent"]).read_run()["config"].get("network", ""))
    except (RunError, KeyError):
        return ""


@lru_cache(maxsize=20_000)
def _read(runs: Path, run_id: str, written_ns: int) -> tuple[float, str, tuple[str, ...], float] | None:
    """Return (end in unix seconds, key for equal settings, key for similar runs, seconds per epoch or image) of a finished run.

    None if its duration is unknown or not typical: it finished early, was imported, or belongs to the example. `_keys` describes
    the keys. The result is cached.

    Args:
        runs: folder of all runs.
        run_id: id of the run.
        written_ns: time at which exit.json was written, in ns. It is only part of the cache's key, so that a changed file is read
            again.
    """
    folder = RunFolder(runs, run_id)
    run = folder.read_run()
    seconds = duration_of(folder)
    try:
        if seconds is None or compute(folder).cause or run.get("imported") or (run.get("study") or {}).get("example"):
            return None  # a run that finished early says little about others, and the example ran on another machine
        config = recorded(run)
    except (ConfigError, KeyError):
        return None
    method = run.get("method") if run["kind"] == "search" else None
    same, similar = _keys(run["kind"], method, str(run.get("preset")), config, _attacked(runs, run))
    return float((read_json(folder.exit_json) or {})["ended"]), same, similar, seconds / amount(config)
