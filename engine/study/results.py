"""The results of a study so far: the accuracies that its runs have measured, for each arm and each seed. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from engine.architecture.genotype import Genotype
from engine.attack.badge import Badge
from engine.attack.catalogue import NATURAL
from engine.attack.fingerprint import fingerprint
from engine.attack.protocol import worst_case_fields
from engine.log.runlog import RunLog
from engine.report.latency import SINGLE, Latencies, common_place
from engine.report.robustness import Measurement, NetworkRow, rows_of
from engine.run.folder import RunFolder, read_json
from engine.study.declaration import Cell, Study
from engine.study.measures import accuracies_of, measures_of
from engine.study.planning import CellState
from engine.study.sizes import macs_ratio


@dataclass(frozen=True)
class CellResult:
    """The result of one cell (one repetition of an arm).

    Attributes:
        cell: the cell.
        run: id of the attack run.
        endpoint: the accuracy that the study compares.
        natural: natural accuracy; None if the run has not measured it.
        parameters, macs: size of the network; None if unknown.
        genotype: genotype of the network; None for a hand-made network.
        badge: reliability of the accuracies.
        search_s: duration of the search in seconds; None for an arm without a search, or if it is unknown.
        protocol: hash of the protocol (the attacks with their settings, and the images).
        measures: {name: value} for the measures of a study that compares rankings (`engine.study.measures`).
        accuracies: {name: accuracy} for those measures that an attack run has measured.
        latencies: {images per pass: inference latency}; empty for older runs.
    """

    cell: Cell
    run: str
    endpoint: Measurement
    natural: Measurement | None
    parameters: int | None
    macs: int | None
    genotype: Genotype | None
    badge: Badge
    search_s: float | None
    protocol: str
    measures: Mapping[str, float] = field(default_factory=dict)
    accuracies: Mapping[str, Measurement] = field(default_factory=dict)
    latencies: Latencies = field(default_factory=dict)

    def measured(self, name: str) -> Measurement | None:
        """Return an accuracy of the network: "endpoint", "natural", or a name in `accuracies`. None if it was not measured."""
        return {"endpoint": self.endpoint, "natural": self.natural}.get(name) or self.accuracies.get(name)


@dataclass(frozen=True)
class ArmResult:
    """The results of one arm.

    Attributes:
        name: name of the arm.
        cells: results of the finished cells (repetitions of the arm), in the order in which they should run.
    """

    name: str
    cells: tuple[CellResult, ...]

    @property
    def by_seed(self) -> dict[int, list[CellResult]]:
        """{search seed: results of its retrainings}."""
        groups: dict[int, list[CellResult]] = {}
        for cell in self.cells:
            groups.setdefault(cell.cell.search_seed, []).append(cell)
        return groups

    @property
    def units(self) -> list[list[float]]:
        """One list per search seed, with one value per retraining: the accuracy that the study compares."""
        return [[cell.endpoint.accuracy for cell in cells] for cells in self.by_seed.values()]

    def measured(self, name: str) -> list[list[Measurement]]:
        """Return an accuracy of each network, as one list for each search seed. Networks without it are left out.

        Args:
            name: "endpoint", "natural", or a name in `CellResult.accuracies`.
        """
        return [[one for cell in cells if (one := cell.measured(name))] for cells in self.by_seed.values()]

    @property
    def network_measures(self) -> list[dict[str, float]]:
        """One dict {name of a measure: mean over the retrainings} per search seed, without measures that a retraining lacks."""
        return [{name: fmean(cell.measures[name] for cell in cells) for name in cells[0].measures
                 if all(name in cell.measures for cell in cells)} for cells in self.by_seed.values()]

    def mean(self, name: str) -> float | None:
        """Return the mean of the attribute `name` of the results, such as "macs", or None if it is unknown for all of them."""
        values = [value for cell in self.cells if (value := getattr(cell, name)) is not None]
        return fmean(values) if values else None

    @property
    def genotypes(self) -> list[Genotype]:
        """One genotype per search seed, in the order of the results. All retrainings of a search seed have the same genotype."""
        return [cells[0].genotype for cells in self.by_seed.values() if cells[0].genotype is not None]


@dataclass(frozen=True)
class Results:
    """The results of a study at one moment.

    Attributes:
        study: the study.
        cells: all cells (repetitions of arms) with their runs.
        arms: {name of the arm: its results}, in the order of the study.
        protocol: hash of the protocol (the attacks with their settings, and the images) of all results; "" before the first
            result.
        apart: results that were left out of `arms`, because they were measured under another protocol.
    """

    study: Study
    cells: tuple[CellState, ...]
    arms: Mapping[str, ArmResult]
    protocol: str
    apart: tuple[CellResult, ...]

    @property
    def done(self) -> int:
        """Number of finished cells (repetitions of arms)."""
        return sum(cell.status == "finished" for cell in self.cells)

    @property
    def is_complete(self) -> bool:
        """True if every cell (repetition of an arm) has finished."""
        return self.done == len(self.cells)

    def of(self, cell: Cell) -> CellResult | None:
        """Return the result of a cell; None if it has none yet."""
        return next((one for one in self.arms[cell.arm].cells if one.cell == cell), None)

    def size_ratio(self, cell: CellResult) -> float | None:
        """Return a network's MACs divided by the MACs of the reference arm's network with the same seeds; None if unknown."""
        twin = Cell(self.study.reference, cell.cell.search_seed, cell.cell.index)
        reference = self.of(twin) if self.study.reference else None
        return macs_ratio(cell.macs, reference.macs) if reference else None

    def arm_ratio(self, arm: ArmResult) -> float | None:
        """Return an arm's mean MACs divided by the reference arm's mean MACs; None if unknown or without a reference arm."""
        reference = self.arms[self.study.reference] if self.study.reference else None
        return macs_ratio(arm.mean("macs"), reference.mean("macs")) if reference else None

    @property
    def latency_place(self) -> str:
        """Device on which most latencies were measured; "" if there are none. Only latencies on one device are comparable."""
        return common_place(cell.latencies for arm in self.arms.values() for cell in arm.cells)

    def latency(self, arm: ArmResult) -> float | None:
        """Return an arm's mean latency in seconds for one image, over the networks that were measured on `latency_place`."""
        place = self.latency_place
        values = [one.median_s for cell in arm.cells if (one := cell.latencies.get(SINGLE)) and one.place == place]
        return fmean(values) if values else None

    def arm_ratios(self, arm: ArmResult) -> list[float]:
        """Return `size_ratio` of each network of an arm, where it is known."""
        return [ratio for cell in arm.cells if (ratio := self.size_ratio(cell)) is not None]


def results_of(log: RunLog, study: Study, cells: list[CellState]) -> Results:
    """Return the results of a study.

    All results in `Results.arms` have the same attacks on the same images. If the protocols differ, the most frequent one is
    kept, and results under other protocols go to `Results.apart`.

    Args:
        log: the run log.
        study: the study.
        cells: all cells of the study with their runs (`engine.study.planning.Plan.cells`).

    Raises:
        RunLogError: the run log cannot be read.
    """
    finished = [cell for cell in cells if cell.status == "finished"]
    rows = rows_of(log, [step.run for cell in finished for step in cell.steps if step.kind == "attack"])
    measured = [result for cell in finished if (result := _result(log, study, cell, rows)) is not None]
    alike = _alike(log, {one.protocol for one in measured})
    protocols = [alike[one.protocol] for one in measured]
    kept = max(dict.fromkeys(protocols), key=protocols.count, default="")
    arms = {arm.name: ArmResult(arm.name, tuple(one for one, protocol in zip(measured, protocols, strict=True)
                                                if one.cell.arm == arm.name and protocol == kept)) for arm in study.arms}
    return Results(study, tuple(cells), arms, kept,
                   tuple(one for one, protocol in zip(measured, protocols, strict=True) if protocol != kept))


def _alike(log: RunLog, protocols: Collection[str]) -> dict[str, str]:
    """Return {hash of a protocol: hash of the first of these protocols with the same attacks on the same images}.

    Protocols count as the same if they differ only in settings that do not affect the accuracy in the worst case, such as the
    number of images in a block.
    """
    if len(protocols) < 2:
        return {protocol: protocol for protocol in protocols}
    evaluations = log.evaluations()
    fields = dict(zip(evaluations["protocol"], evaluations["protocol_fields"], strict=True))
    first: dict[str, str] = {}
    alike = {}
    for protocol in sorted(protocols):
        text = fields.get(protocol, "")
        alike[protocol] = first.setdefault(fingerprint(worst_case_fields(json.loads(text))) if text else protocol, protocol)
    return alike


def _result(log: RunLog, study: Study, state: CellState, rows: Mapping[str, tuple[str, NetworkRow]]) -> CellResult | None:
    """Return the result of a finished cell (one repetition of an arm).

    None if its attack run has not recorded the accuracy that the study compares.
    """
    protocol, row = rows.get(state.attack.run, ("", None))
    if row is None or study.endpoint not in row.results:
        return None
    searches = [step.run for step in state.steps if step.kind == "search"]
    search_s = duration_of(RunFolder(log.root, searches[0])) if searches else None
    return CellResult(state.cell, state.attack.run, row.results[study.endpoint], row.results.get(NATURAL), row.parameters,
                      row.macs, row.genotype, row.badge, search_s, protocol,
                      measures_of(log, state, rows) if study.measures or study.attacks else {},
                      accuracies_of(state, rows), row.latencies)


def duration_of(folder: RunFolder) -> float | None:
    """Return the duration of a finished run in seconds, from the start to the end of its process.

    None if the run has not finished, if it was resumed, or if its files lack the times.
    """
    process: dict[str, Any] = read_json(folder.process_json) or {}
    ended: dict[str, Any] = read_json(folder.exit_json) or {}
    once = process.get("attempt") == ended.get("attempt") == 1 and ended.get("status") == "finished"
    if not (once and process.get("started") and ended.get("ended")):
        return None
    return float(ended["ended"]) - float(process["started"])
