"""An estimate of how long a study takes, from the durations of finished runs or else from a table. Imports no torch."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from engine.config import AttackConfig, RunConfig
from engine.configuring import recorded
from engine.data.splits import split_sizes
from engine.errors import ConfigError, RunError
from engine.run import device
from engine.run.events import read_events
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.state import compute
from engine.study.declaration import Study, kind_of
from engine.study.planning import CellState
from engine.study.results import duration_of

# CPU seconds of a run with the preset `quick`, with one thread, and the epochs or images that the run covers, by dataset, kind of
# run and search method. They stand in for the durations of finished runs as long as there are none. Measured by
# benchmarks/study_durations.py.
QUICK_S = {
    ("digits", "search", "arnas"): (99.6, 16), ("digits", "search", "dsara"): (89.8, 16),
    ("digits", "search", "e2rnas"): (36.7, 16), ("digits", "search", "e2rnas2021"): (43.3, 12),
    ("digits", "search", "darts"): (32.8, 16), ("digits", "search", "pcdarts"): (32.2, 16),
    ("digits", "search", "advrush"): (90.9, 16), ("digits", "search", "random_search"): (24.8, 30),
    ("digits", "retrain", ""): (26.6, 14), ("digits", "attack", ""): (59.0, 359),
}
NEWEST = 3  # runs that count: older ones may come from a time when other work made the machine slower or faster
# Settings that do not make two runs incomparable in their duration. Epochs and attacked images enter as a ratio.
IGNORED = ("seed", "split_seed", "device", "threads", "epochs", "autoattack_images", "genotype", "transplant", "match",
           "match_to", "channels", "switch_epoch", "adversarial_lambda", "fixed_natural_weight")


@dataclass(frozen=True)
class Estimate:
    """An estimate of the time that a study still needs.

    Attributes:
        seconds: wall-clock time until all runs have finished; None if a kind of run has no known duration.
        core_seconds: time that the remaining runs would take one after another; None if `seconds` is None.
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
    """Durations of the finished runs in a runs folder. The durations of new runs are estimated from them."""

    def __init__(self, runs: Path | str) -> None:
        """Read the durations of all finished runs. Runs that cannot be read, and resumed runs, are left out."""
        self._same: dict[str, list[float]] = defaultdict(list)
        self._similar: dict[tuple[str, ...], list[float]] = defaultdict(list)
        finished = []
        for run_id in run_ids(runs):
            try:
                written = os.stat(RunFolder(runs, run_id).exit_json).st_mtime_ns
                finished += [known] if (known := _read(Path(runs), run_id, written)) else []
            except (OSError, RunError):
                continue
        for _, same, similar, per_unit in sorted(finished):
            self._same[same].append(per_unit)
            self._similar[similar].append(per_unit)
            self._similar[similar[:-1]].append(per_unit)

    def of_same(self, kind: str, method: str | None, preset: str, config: RunConfig, network: str = "") -> float | None:
        """Return the expected duration of a run in seconds, from finished runs with the same settings; None without any.

        Seeds, the number of epochs and the number of attacked images may differ. The arguments are those of `of`.
        """
        durations = self._same.get(_keys(kind, method, preset, config, network)[0])
        return median(durations[-NEWEST:]) * amount(config) if durations else None

    def of(self, kind: str, method: str | None, preset: str, config: RunConfig,
           network: str = "") -> tuple[float | None, bool]:
        """Return the expected duration of a run: the median of the newest runs that are like it.

        Runs with the same settings come first, then runs with the same kind, method, dataset, preset and network, then those
        with another network.

        Args:
            kind: kind of the run, "search", "retrain" or "attack".
            method: search method; None for other kinds.
            preset: name of the preset.
            config: configuration of the run.
            network: setting `network` of the retraining, for an attack. A large hand-made network takes longer than cells.

        Returns:
            The duration in seconds; None if it is unknown.
            True if it comes from finished runs, False if it comes from the table.
        """
        same, similar = _keys(kind, method, preset, config, network)
        for durations in (self._same.get(same), self._similar.get(similar), self._similar.get(similar[:-1])):
            if durations:
                return median(durations[-NEWEST:]) * amount(config), True
        known = QUICK_S.get((config.dataset, kind, method or "")) if preset == "quick" else None
        return (None if known is None else known[0] * amount(config) / known[1]), False


def estimate(study: Study, durations: Durations, cells: Sequence[CellState] | None = None, runs: Path | str | None = None,
             slots: int | None = None) -> Estimate:
    """Return how long a study takes or, after its launch, how much longer it takes.

    Each run is assumed to use one thread, so several runs work at the same time. A run that several repetitions share counts
    once.

    Args:
        study: the study.
        durations: durations of finished runs.
        cells: all cells (repetitions of arms) with their runs; None before the launch.
        runs: folder of all runs, from which the progress of running runs is read; None before the launch.
        slots: number of runs that work at the same time; None for the number of cores.
    """
    times: list[tuple[float | None, bool]] = []
    longest: list[float] = []
    unknown: dict[tuple[str, str, str], None] = {}
    counted: set[object] = set()
    configurations = {arm.name: study.configurations(arm) for arm in study.arms}
    for cell in cells or [CellState(one, ()) for one in study.cells()]:
        arm = study.arm(cell.cell.arm)
        chain = 0.0
        steps = {step.name: step for step in cell.steps}
        for name, config in configurations[arm.name].items():
            kind, step = kind_of(name), steps.get(name)
            if step is not None and step.status == "finished":
                continue
            identity: object = step.run if step is not None and step.run else _shared(name, config, cell)
            network = str(getattr(configurations[arm.name]["retrain"], "network", "")) if kind == "attack" else ""
            seconds, measured = durations.of(kind, arm.method if kind == "search" else None, study.preset, config, network)
            if seconds is None:
                unknown[kind, arm.method or "" if kind == "search" else "", config.dataset] = None
            if seconds is not None and step is not None and step.status == "running" and runs is not None:
                seconds *= 1 - progress_of(RunFolder(runs, step.run))
            chain += seconds or 0.0
            if identity not in counted:
                counted.add(identity)
                times.append((seconds, measured))
        longest.append(chain)
    known = [seconds for seconds, _ in times if seconds is not None]
    if len(known) < len(times):
        return Estimate(None, None, len(times), False, tuple(unknown))
    total = sum(known)
    side_by_side = max(1, slots or device.cores())
    return Estimate(max(total / side_by_side, max(longest, default=0.0)), total, len(times), all(one for _, one in times))


def progress_of(folder: RunFolder) -> float:
    """Return the progress of a running run, from 0 to 1; 0 if none is recorded."""
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

    The second one ends with the network, because a hand-made network takes much longer than one of cells.
    """
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in IGNORED}
    network = str(getattr(config, "network", network))
    return json.dumps([kind, method, settings, network], sort_keys=True), (kind, method or "", config.dataset, preset, network)


def _attacked(runs: Path, run: Mapping[str, Any]) -> str:
    """Return the setting `network` of the retraining that an attack run attacks; "" for other runs, or if it is unknown."""
    if run["kind"] != "attack" or not run.get("parent"):
        return ""
    try:
        return str(RunFolder(runs, run["parent"]).read_run()["config"].get("network", ""))
    except (RunError, KeyError):
        return ""


@lru_cache(maxsize=20_000)
def _read(runs: Path, run_id: str, written_ns: int) -> tuple[float, str, tuple[str, ...], float] | None:
    """Return (end in unix seconds, key for equal settings, key for similar runs, seconds per epoch or image) of a finished run.

    None if its duration is unknown. The keys are those of `_keys`. The result is cached.

    Args:
        runs: folder of all runs.
        run_id: id of the run.
        written_ns: time at which exit.json was written. It only makes a new entry in the cache when the file changes.
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
