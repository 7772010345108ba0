"""The forecast for a launch: time, memory and disk space of its chains, and what does not fit this machine. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from engine.config import RunConfig
from engine.configuring import recorded
from engine.errors import RampartError
from engine.files import free_bytes
from engine.preflight.measurement import Cost, cost_of
from engine.preflight.measuring import LIMIT_S, known, measured
from engine.preflight.shape import shapes_of
from engine.run import device
from engine.run.folder import RunFolder
from engine.study.estimate import Durations

GB = 1e9


@dataclass(frozen=True)
class Forecast:
    """The cost of chains that differ at most in their seeds.

    Attributes:
        costs: {kind of run: cost of one run of this kind}.
        counts: {kind of run: number of runs}.
        side_by_side: number of runs that can run at the same time.
        on_cpu: True if at least one run uses the CPU.
    """

    costs: Mapping[str, Cost]
    counts: Mapping[str, int]
    side_by_side: int
    on_cpu: bool = True

    @property
    def chain_s(self) -> float | None:
        """Seconds that one chain takes, one run after the other; None if the duration of a kind of run is unknown."""
        times = [cost.seconds for cost in self.costs.values()]
        return None if None in times else sum(one for one in times if one is not None)

    @property
    def work_s(self) -> float | None:
        """Total duration of all runs in seconds; None if the duration of a run is unknown."""
        if self.chain_s is None:
            return None
        return sum(self.counts[kind] * (cost.seconds or 0.0) for kind, cost in self.costs.items())

    @property
    def memory(self) -> int:
        """Memory, in bytes, of the run that needs most; 0 if the memory of any run is unknown."""
        return 0 if any(not cost.memory for cost in self.costs.values()) else max(cost.memory for cost in self.costs.values())

    @property
    def disk(self) -> int:
        """Bytes that all runs leave in the runs folder, as far as they are known."""
        return sum(self.counts[kind] * cost.disk for kind, cost in self.costs.items())

    @property
    def is_complete(self) -> bool:
        """True if time and memory of every run are known, and not only as upper bounds."""
        return self.chain_s is not None and self.memory > 0 and not self.is_upper

    @property
    def is_upper(self) -> bool:
        """True if a duration is an upper bound, because this machine was too slow or too busy to measure a larger batch."""
        return any(cost.upper for cost in self.costs.values())

    @property
    def is_rough(self) -> bool:
        """True if some numbers are extrapolated from smaller batches."""
        return any(cost.rough for cost in self.costs.values())


@dataclass(frozen=True)
class Total:
    """The cost of a whole launch, that is, of all its chains together. The chains share the devices.

    Attributes:
        each: the forecasts of the chains. Chains that differ only in their seeds cost the same and share one forecast.
    """

    each: tuple[Forecast, ...]

    @property
    def seconds(self) -> float | None:
        """Seconds until all runs have finished; None if the duration of a run is unknown, or if there are no runs."""
        known = [(one.chain_s, one.work_s / one.side_by_side) for one in self.each
                 if one.chain_s is not None and one.work_s is not None]
        if not known or len(known) < len(self.each):
            return None
        return max(*(chain for chain, _ in known), sum(work for _, work in known))

    @property
    def memory(self) -> int:
        """Memory, in bytes, of the run that needs most; 0 if the memory of any run is unknown."""
        return max((one.memory for one in self.each), default=0) if all(one.memory for one in self.each) else 0

    @property
    def disk(self) -> int:
        """Bytes that all runs leave in the runs folder, as far as they are known."""
        return sum(one.disk for one in self.each)

    @property
    def sources(self) -> list[str]:
        """Sources of the durations, each once (see `Cost.source`)."""
        return list(dict.fromkeys(cost.source for one in self.each for cost in one.costs.values() if cost.source))

    def warnings(self, runs: Path) -> list[str]:
        """Return sentences about what does not fit this machine now, for example too little free memory or disk space."""
        memory, free = psutil.virtual_memory(), free_bytes(runs)
        sentences = []
        if self.memory > memory.total:
            sentences.append(f"A run needs about {size_text(self.memory)} of memory, and this machine has "
                             f"{size_text(memory.total)}; use smaller batches or fewer channels.")
        elif self.memory > memory.available:
            sentences.append(f"A run needs about {size_text(self.memory)} of memory, and {size_text(memory.available)} are free; "
                             "end other programs first.")
        if self.disk > free:
            sentences.append(f"The runs leave about {size_text(self.disk)} in the runs folder, and {size_text(free)} are free; "
                             "free some space or launch fewer runs.")
        return sentences


def size_text(size: float) -> str:
    """Return a number of bytes in words, for example "0.4 GB"."""
    return f"{size / GB:.1f} GB" if size >= 0.95e8 else f"{max(1, round(size / 1e6))} MB"


def forecast(runs: Path, steps: Sequence[tuple[str, RunConfig]], *, method: str | None = None, preset: str = "quick",
             parent: str | None = None, counts: Mapping[str, int] | None = None, measure: bool = False,
             limit_s: float = LIMIT_S, durations: Durations | None = None) -> Forecast:
    """Return the forecast for one chain, or for several chains that differ at most in their seeds.

    The duration of a run comes from the first of these sources that has it: finished runs with the same settings, measured
    batches, similar finished runs, and the table `engine.study.estimate.TABLE_S`.

    Args:
        runs: folder of all runs.
        steps: (kind, configuration) of each run of the chain.
        method: search method; None without a search.
        preset: preset of the chain.
        parent: id of the run that the first run follows; None if it follows no run.
        counts: {kind: number of runs of this kind in all chains}; None for one run of each kind.
        measure: True to measure batches that have not been measured yet, in separate processes.
        limit_s: seconds that the measurement of one run may take.
        durations: durations of finished runs; None to read them from `runs`.

    Raises:
        RampartError: `measure` is True and a run cannot be measured.
    """
    durations = durations or Durations(runs)
    costs = {}
    try:
        shapes = shapes_of(runs, steps, method, parent)
    except RampartError:
        if measure:
            raise
        shapes = []
    for position, (kind, config) in enumerate(steps):
        shape = shapes[position] if shapes else None
        batches = None if shape is None else measured(runs, shape, limit_s) if measure else known(runs, shape)
        costs[kind] = _cost(kind, method if kind == "search" else None, preset, config, durations,
                            None if batches is None else cost_of(config, batches))
    gpus = len(device.gpus())
    on_gpu = bool(shapes) and all(shape.device != "cpu" for shape in shapes)
    return Forecast(costs, counts or {kind: 1 for kind, _ in steps}, max(1, gpus) if on_gpu else device.CPU_SLOTS,
                    not on_gpu)


def device_memory(folder: RunFolder) -> int:
    """Return the measured bytes of a run on a GPU; 0 if its batches were not measured, or on a CPU."""
    run = folder.read_run()
    method = run.get("method") if run["kind"] == "search" else None
    try:
        (shape,) = shapes_of(folder.runs, [(run["kind"], recorded(run))], method, run.get("parent"))
    except RampartError:  # what it trains or attacks cannot be read
        return 0
    measurement = known(folder.runs, shape)
    return 0 if measurement is None else measurement.device_memory


def _cost(kind: str, method: str | None, preset: str, config: RunConfig, durations: Durations, batches: Cost | None) -> Cost:
    """Return the cost of a run, with its duration from the best available source (see `forecast`).

    `batches` is the cost computed from measured batches; None if no batches were measured. Without it, memory and disk space are
    unknown.
    """
    seconds = durations.of_same(kind, method, preset, config)
    if seconds is not None:
        return replace(batches or Cost(), seconds=seconds, source="runs", upper=False)
    if batches is not None:
        return batches
    seconds, from_runs = durations.of(kind, method, preset, config)
    return Cost(seconds, source="" if seconds is None else "similar" if from_runs else "table")
