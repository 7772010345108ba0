"""Robustness tables. Each contains the networks attacked under one protocol, one row per network.

A protocol consists of the attacks with their settings, and the images. The protocol determines the columns of the table. All
pages, exports and commands use the tables from this module. The networks of a table can also be compared in pairs. This module
does not import torch.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import Any

import pandas as pd

from engine.architecture.genotype import Genotype
from engine.attack.badge import Badge, Finding, badge
from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.attack.protocol import ball_text
from engine.attack.statistics import Comparison, by_accuracy, distinct_pairs, letters, tell_apart
from engine.errors import GenotypeError
from engine.log.runlog import RunLog
from engine.report.latency import Latencies, latencies_of

NATURAL_TITLE, WORST_TITLE = "Natural", "Worst case"


@dataclass(frozen=True)
class Measurement:
    """An accuracy with its interval.

    Attributes:
        accuracy, low, high: fractions in 0..1; low and high are the ends of the 95 % Wilson interval.
        correct, images: number of correctly classified images, and number of all images.
        fingerprint: hash of the conditions of the measurement; "" if unknown.
    """

    accuracy: float
    low: float
    high: float
    correct: int
    images: int
    fingerprint: str = ""


@dataclass(frozen=True)
class ResultColumn:
    """A column of results.

    Attributes:
        name: "natural", the name of an attack of the protocol, or "worst-case" (an image counts as correct only if it is
            classified correctly under every attack).
        title: header.
        about: one sentence about the attack.
        images: number of images, equal for all networks of the table.
    """

    name: str
    title: str
    about: str
    images: int


@dataclass(frozen=True)
class NetworkRow:
    """One attacked network.

    Attributes:
        run: id of the attack run.
        title: search method or name of the network, followed by unusual settings, for example "ARNAS, lambda 1".
        label: title and, if several rows have the same title, the seeds or the end of the run id, for example "ARNAS, seed 2".
        network: hash of the network's weights.
        preset: preset of the attack run.
        parent: id of the retraining that trained the network.
        search_seed, retrain_seed: seeds of the search and of the retraining; None if there was no such run.
        parameters: number of parameters; None if unknown.
        macs: MACs per image; None if unknown.
        genotype: genotype of the network; None for a hand-made network.
        hand_made: name of a hand-made network (for example a WideResNet); "" for a network built from a genotype.
        results: {column name: measurement}.
        badge: reliability of the results in one colour, with reasons.
        complete: True if the attack run has finished all attacks of the protocol.
        repeats: number of other attack runs of this network under this protocol.
        created: Unix time of the launch in seconds.
        older: other attack runs of this network under this protocol, newest first, if `with_older` has added them.
        latencies: {images per pass: inference latency}, as the attack run measured it; empty for older runs.
    """

    run: str
    title: str
    label: str
    network: str
    preset: str
    parent: str
    search_seed: int | None
    retrain_seed: int | None
    parameters: int | None
    macs: int | None
    genotype: Genotype | None
    hand_made: str
    results: Mapping[str, Measurement]
    badge: Badge
    complete: bool
    repeats: int
    created: float
    older: tuple[NetworkRow, ...] = ()
    latencies: Latencies = field(default_factory=dict)


@dataclass(frozen=True)
class SeedGroup:
    """Networks with the same title and the same settings. Normally, they differ only in their seeds.

    Attributes:
        title: title of all networks in the group.
        rows: the networks, most robust first.
        complete: number of networks whose attack run is complete. Only these count in `means` and `spreads`.
        means: {column name: mean accuracy}.
        spreads: {column name: sample standard deviation of the accuracy}, empty if there are fewer than two complete networks.
    """

    title: str
    rows: tuple[NetworkRow, ...]
    complete: int
    means: Mapping[str, float]
    spreads: Mapping[str, float]

    @property
    def all_rows(self) -> list[NetworkRow]:
        """All rows of the group, each followed by its older rows (other attack runs on the same network)."""
        return [one for row in self.rows for one in (row, *row.older)]


@dataclass(frozen=True)
class RobustnessTable:
    """All networks attacked under one protocol.

    Attributes:
        protocol: short hash of the protocol.
        title: the protocol in one line.
        dataset: registry name of the dataset.
        fields: all fields of the protocol; {} for runs of older versions, which recorded no protocol.
        columns: the columns, natural accuracy first and the worst case last.
        groups: groups of networks with the same title. The group with the most robust network comes first.
    """

    protocol: str
    title: str
    dataset: str
    fields: Mapping[str, Any]
    columns: tuple[ResultColumn, ...]
    groups: tuple[SeedGroup, ...]

    @property
    def rows(self) -> list[NetworkRow]:
        """All networks, in the order of the groups."""
        return [row for group in self.groups for row in group.rows]

    @property
    def fingerprints(self) -> dict[str, str]:
        """{column name: fingerprint of the column's results}. A fingerprint is a hash of the conditions of a measurement.

        Columns whose results have different fingerprints or no fingerprint are left out.
        """
        found = {column.name: {row.results[column.name].fingerprint for row in self.rows if column.name in row.results}
                 for column in self.columns}
        return {name: next(iter(values)) for name, values in found.items() if len(values) == 1 and "" not in values}

    def row(self, run: str) -> NetworkRow | None:
        """Return the row of an attack run; None if it is not in this table."""
        return next((row for row in self.rows if row.run == run), None)


@dataclass(frozen=True)
class Distinctions:
    """The paired comparison of all networks of a table under one attack.

    Attributes:
        column: name of the compared column.
        images: number of images on which the networks are compared. These are the images that all attack runs share.
        comparisons: one comparison per pair of networks, with the labels of the two networks as names.
        letters: {run: letters of its network}. Networks that share a letter cannot be told apart.
    """

    column: str
    images: int
    comparisons: tuple[Comparison, ...]
    letters: Mapping[str, str]


def robustness_tables(log: RunLog) -> list[RobustnessTable]:
    """Return one table per protocol. The table with the most networks comes first.

    If a network was attacked several times under a protocol, the table shows only one attack run: the newest complete one.
    `with_older` adds the others.
    """
    evaluations = log.evaluations()
    shown = evaluations[evaluations["current"]]
    rows = {row.run: row for row in _rows(log, shown)}
    recipes = dict(zip(evaluations["run"], evaluations["recipe"], strict=True))
    tables = [_table(str(protocol), [rows[run] for run in group["run"]], group.iloc[0], recipes)
              for protocol, group in shown.groupby("protocol", sort=False)]
    return sorted((table for table in tables if table.columns), key=lambda table: -len(table.rows))


def evaluations_of(log: RunLog, network: str, protocol: str) -> list[NetworkRow]:
    """Return one row for every attack run on a network under a protocol, newest first.

    Args:
        log: the run log.
        network: hash of the network's weights.
        protocol: hash of the protocol.
    """
    evaluations = log.evaluations()
    return _rows(log, evaluations[(evaluations["network"] == network) & (evaluations["protocol"] == protocol)])


def rows_of(log: RunLog, runs: Collection[str]) -> dict[str, tuple[str, NetworkRow]]:
    """Return {run id: (hash of the protocol, row)} for attack runs that have recorded their protocol.

    Args:
        log: the run log.
        runs: ids of the attack runs.
    """
    evaluations = log.evaluations()
    known = evaluations[evaluations["run"].isin(list(runs))]
    return {row.run: (str(protocol), row) for protocol, row in zip(known["protocol"], _rows(log, known), strict=True)}


def with_older(log: RunLog, table: RobustnessTable) -> RobustnessTable:
    """Return the table with `NetworkRow.older` filled: in each row, all other attack runs on the same network under the protocol.

    The labels of the added rows name their runs. Added rows count neither in means nor in comparisons.
    """
    return replace(table, groups=tuple(
        replace(group, rows=tuple(_with_older(log, table.protocol, row) for row in group.rows)) for group in table.groups))


def _with_older(log: RunLog, protocol: str, row: NetworkRow) -> NetworkRow:
    others = [one for one in evaluations_of(log, row.network, protocol) if one.run != row.run] if row.repeats else []
    return replace(row, older=tuple(
        replace(one, label=f"{row.label}, {'older' if one.created <= row.created else 'newer'} result of {one.run}")
        for one in others))


def newest_rows(log: RunLog) -> dict[str, NetworkRow]:
    """Return {hash of the weights: row of the newest attack run on the network}, under any protocol."""
    return {row.network: row for row in _rows(log, log.evaluations().drop_duplicates("network"))}


def distinctions(log: RunLog, table: RobustnessTable, column: str = WORST, runs: Sequence[str] | None = None) -> Distinctions:
    """Compare networks of a table in pairs on the same images. The p-values of all pairs are adjusted by Holm's method.

    Args:
        log: the run log.
        table: the table.
        column: name of the column in which the networks are compared.
        runs: ids of the attack runs whose networks are compared; None for all. Incomplete runs are left out.

    Raises:
        RunLogError: results/outcomes.parquet of a run cannot be read.
    """
    compared = [row for row in table.rows if row.complete and (runs is None or row.run in runs)]
    outcomes, images = _shared_outcomes(log, compared, column)
    comparisons = tell_apart(outcomes)
    by_label = letters(by_accuracy(outcomes), [(one.first, one.second) for one in comparisons if one.distinct()])
    return Distinctions(column, images, tuple(comparisons), {row.run: by_label[row.label] for row in compared})


def letters_of(log: RunLog, table: RobustnessTable, runs: Sequence[str]) -> dict[str, str]:
    """Return {attack run: letters of its network} for the worst case. Networks share a letter if a test cannot tell them apart.

    `distinctions` gives the same letters, but is slower.

    Args:
        log: the run log.
        table: the table.
        runs: ids of the attack runs whose networks are compared. Incomplete runs are left out.

    Raises:
        RunLogError: results/outcomes.parquet of a run cannot be read.
    """
    compared = [row for row in table.rows if row.complete and row.run in runs]
    outcomes, _ = _shared_outcomes(log, compared, WORST)
    by_label = letters(by_accuracy(outcomes), distinct_pairs(outcomes))
    return {row.run: by_label[row.label] for row in compared}


def _shared_outcomes(log: RunLog, rows: Sequence[NetworkRow], column: str) -> tuple[dict[str, list[bool]], int]:
    """Return {label: one outcome per image that all rows share}, and the number of these images."""
    recorded = log.outcome_bits([row.run for row in rows], column)
    if len(recorded) == len(rows) and recorded["images"].nunique() == 1:
        bits = dict(zip(recorded["run"], recorded["bits"], strict=True))
        return {row.label: [one == "1" for one in bits[row.run]] for row in rows}, len(recorded["bits"].iloc[0])
    flags = {row.label: log.correct_images(row.run, column) for row in rows}
    shared = sorted(set.intersection(*(set(one) for one in flags.values()))) if flags else []
    return {label: [flags[label][image] for image in shared] for label in flags}, len(shared)


def _results(attacks: pd.DataFrame) -> dict[str, dict[str, Measurement]]:
    """Return {run: {column name: measurement}} for all complete results. The parts of suites such as AutoAttack are left out."""
    results: dict[str, dict[str, Measurement]] = defaultdict(dict)
    complete = attacks[attacks["complete"] & (attacks["part_of"] == "")]
    for row in complete.itertuples():
        results[row.run][row.attack] = Measurement(row.accuracy, row.low, row.high, int(row.correct), int(row.images),
                                                    row.fingerprint)
    return results


def _findings(checks: pd.DataFrame) -> dict[str, list[Finding]]:
    """Return {run: findings of its reliability checks}."""
    findings: dict[str, list[Finding]] = defaultdict(list)
    for row in checks.itertuples():
        findings[row.run].append(Finding(row.check_name, row.title, row.finding, row.measured, row.advice))
    return findings


def _table(protocol: str, rows: Sequence[NetworkRow], evaluation: pd.Series, recipes: Mapping[str, str]) -> RobustnessTable:
    """Return the table of a protocol.

    Args:
        protocol: hash of the protocol.
        rows: networks attacked under the protocol.
        evaluation: row of `RunLog.evaluations` for any of these networks. It describes the protocol.
        recipes: {run id: hash of all settings except seeds and machine}.
    """
    fields = json.loads(evaluation["protocol_fields"] or "{}")
    title = str(evaluation["protocol_title"]) or _older_title(evaluation, rows)
    return RobustnessTable(protocol, title, str(evaluation["dataset"]), fields, _columns(fields, rows),
                           _groups(labelled(rows), recipes))


def _rows(log: RunLog, evaluations: pd.DataFrame) -> list[NetworkRow]:
    """Return one `NetworkRow` for each row of `evaluations`, which has the columns of `RunLog.evaluations`."""
    results, findings, latencies = _results(log.attacks()), _findings(log.checks()), latencies_of(log)
    return [replace(_row(one, results, findings), latencies=latencies.get(str(one.run), {})) for one in evaluations.itertuples()]


def _row(evaluation: Any, results: Mapping[str, Mapping[str, Measurement]],
         findings: Mapping[str, Sequence[Finding]]) -> NetworkRow:
    def number(value: float | None) -> int | None:
        return None if value is None or pd.isna(value) else int(value)

    return NetworkRow(
        evaluation.run, evaluation.title, evaluation.title, evaluation.network, evaluation.preset, evaluation.parent,
        number(evaluation.search_seed), number(evaluation.retrain_seed), number(evaluation.parameters), number(evaluation.macs),
        _genotype(evaluation.genotype), evaluation.hand_made, results.get(evaluation.run, {}),
        badge(findings.get(evaluation.run, ())), bool(evaluation.complete), int(evaluation.repeats), float(evaluation.created))


def _genotype(content: Mapping[str, Any] | None) -> Genotype | None:
    if content is None:
        return None
    try:
        return Genotype.from_dict(content)
    except GenotypeError:
        return None


def labelled(rows: Sequence[NetworkRow]) -> list[NetworkRow]:
    """Return copies of the rows, each with a label of its own.

    A label is the title. If several rows have the same title, their seeds follow. If the seeds are equal, too, the end of the run
    id follows.
    """
    titles = Counter(row.title for row in rows)
    labels = {row.run: row.title if titles[row.title] == 1 else f"{row.title}{_seeds(row)}" for row in rows}
    counts = Counter(labels.values())
    return [replace(row, label=label if counts[label] == 1 else f"{label} · {row.run.rsplit('-', 1)[-1]}")
            for row in rows for label in (labels[row.run],)]


def _seeds(row: NetworkRow) -> str:
    """Return the seeds of a network as a suffix of the title, for example ", seeds 1 and 2", or "" if there are none."""
    seeds = list(dict.fromkeys(seed for seed in (row.search_seed, row.retrain_seed) if seed is not None))
    return f", seed{'s' if len(seeds) > 1 else ''} {' and '.join(map(str, seeds))}" if seeds else ""


def _columns(fields: Mapping[str, Any], rows: Sequence[NetworkRow]) -> tuple[ResultColumn, ...]:
    """Return one column per attack of the protocol, in the order of the protocol, between natural accuracy and worst case.

    For runs of older versions, which recorded no protocol, the attacks are taken from the results.
    """
    measured = [name for row in rows for name in row.results if name not in (NATURAL, WORST)]
    attacks = [] if fields.get("worst_case_only") else [part["attack"] for part in fields.get("attacks", [])] or measured
    names = list(dict.fromkeys([NATURAL, *attacks, WORST]))
    images = {name: max((row.results[name].images for row in rows if name in row.results), default=0) for name in names}
    return tuple(ResultColumn(name, *_header(name), images[name]) for name in names if images[name] or fields)


def _header(name: str) -> tuple[str, str]:
    """Return (title, one sentence about the attack) of a column."""
    if name == NATURAL:
        return NATURAL_TITLE, "Accuracy on unchanged images."
    if name == WORST:
        return WORST_TITLE, "An image counts only if it is classified correctly under every attack of the protocol."
    return (ATTACKS[name].header, ATTACKS[name].summary) if name in ATTACKS else (name, "")


def _groups(rows: Sequence[NetworkRow], recipes: Mapping[str, str]) -> tuple[SeedGroup, ...]:
    """Return the groups of rows whose title and recipe (all settings except seeds and machine) are equal."""
    members: dict[tuple[str, str], list[NetworkRow]] = defaultdict(list)
    for row in rows:
        members[row.title, recipes.get(row.run, "")].append(row)
    titles = Counter(title for title, _ in members)
    groups = [_group(title if titles[title] == 1 else f"{title}, recipe {recipe[:4]}",
                     sorted(same, key=_robustness, reverse=True)) for (title, recipe), same in members.items()]
    return tuple(sorted(groups, key=lambda group: _robustness(group.rows[0]), reverse=True))


def _group(title: str, rows: Sequence[NetworkRow]) -> SeedGroup:
    complete = [row for row in rows if row.complete]
    shared = [name for name in complete[0].results if all(name in row.results for row in complete)] if complete else []
    values = {name: [row.results[name].accuracy for row in complete] for name in shared}
    return SeedGroup(title, tuple(rows), len(complete), {name: mean(each) for name, each in values.items()},
                     {name: stdev(each) for name, each in values.items() if len(each) > 1})


def _robustness(row: NetworkRow) -> float:
    """Return the worst-case accuracy of a network, or -1 if it has not been measured."""
    return row.results[WORST].accuracy if WORST in row.results else -1.0


def _older_title(evaluation: pd.Series, rows: Sequence[NetworkRow]) -> str:
    """Return a title, for example "L∞ 8/255, 1,000 images", for the table of attack runs that recorded no protocol."""
    images = max((result.images for row in rows for result in row.results.values()), default=0)
    return f"{ball_text(evaluation['norm'] or 'Linf', evaluation['epsilon'])}, {images:,} images"
