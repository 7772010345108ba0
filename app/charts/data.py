"""The data of charts as tables for export: one row for each point, accuracies as fractions in 0..1 with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from app.charts.comparison import Coordinate, Line
from app.fronts import Front
from engine.report.attainment import LEVELS, attained, volumes
from engine.report.outcomes import ClassAccuracy
from engine.report.pareto import Measure, Value
from engine.report.robustness import Measurement, RobustnessTable
from engine.report.transfers import TransferMap
from engine.study.votes import CellVotes

Groups = Mapping[str, Sequence[tuple[float, float]]]  # {method: the two accuracies of each run, as fractions}


def accuracy_columns(name: str, measured: Measurement | None) -> dict[str, object]:
    """Return {column: value} for an accuracy: the accuracy, the ends of its interval, and the number of images.

    If the accuracy was not measured, all values are None.
    """
    names = (name, f"{name}_low", f"{name}_high", f"{name}_images")
    if measured is None:
        return dict.fromkeys(names)
    return dict(zip(names, (measured.accuracy, measured.low, measured.high, measured.images), strict=True))


def protocol_columns(table: RobustnessTable) -> dict[str, object]:
    """Return {column: value} for the columns that identify the protocol of a robustness table: dataset, hash and title."""
    return {"dataset": table.dataset, "protocol": table.protocol, "protocol_title": table.title}


def front_frame(front: Front, table: RobustnessTable) -> pd.DataFrame:
    """Return the networks of a protocol with all measures and their position relative to the front."""
    rows = [{"run": row.run, "network": row.label, "title": row.title, "standing": front.standings[row.run].value,
             "reliability": row.badge.colour} | _values(front, row.run) | protocol_columns(table) for row in front.rows]
    return pd.DataFrame(rows)


def _values(front: Front, run: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for one in front.measures:
        values |= measure_columns(one, front.values[run].get(one.name))
    return values


def measure_columns(measure: Measure, value: Value | None) -> dict[str, object]:
    """Return {column: value} for a measure. The names of the columns give the unit.

    An accuracy also has columns for its interval and its number of images.
    """
    name = measure.name.replace("-", "_") if not measure.is_accuracy else measure.name
    if not measure.is_accuracy:
        return {f"{name}_{measure.unit}" if measure.unit else name: value and value.value * measure.factor} | (
            {f"{name}_device": measure.where if value else None} if measure.where else {})
    return {name: value and value.value, f"{name}_low": value and value.low, f"{name}_high": value and value.high,
            f"{name}_images": measure.images}


def attainment_frame(groups: Groups, x: Measure, y: Measure, runs: int) -> pd.DataFrame:
    """Return the fronts that each method attains with a given number of runs, as a table with one row per corner of a front.

    A draw of runs attains a point if one of the runs is at least as accurate in both accuracies. There is one front for each
    share in `LEVELS`. Every point of the front is attained by at least this share of all random draws.

    Args:
        groups: {method: the two accuracies of each of its runs}.
        x, y: the two accuracies.
        runs: number of runs in a draw.
    """
    rows = [(name, runs, level, *corner) for name, points in groups.items() for level in LEVELS
            for corner in attained(points, runs, level)]
    return pd.DataFrame(rows, columns=["method", "runs", "attained_by_share_of_draws", x.name, y.name])


def volume_frame(groups: Groups, x: Measure, y: Measure) -> pd.DataFrame:
    """Return the hypervolume of each method over the number of runs, as a fraction of the unit square."""
    rows = [(name, one.runs, one.mean, one.low, one.high, x.name, y.name) for name, points in groups.items()
            for one in volumes(points, len(points))]
    return pd.DataFrame(rows, columns=["method", "runs", "hypervolume", "quantile_10", "quantile_90", "first_accuracy",
                                       "second_accuracy"])


def votes_frame(votes: CellVotes, genotypes: int, cell: str) -> pd.DataFrame:
    """Return how many of the genotypes have each operation on each edge of a cell."""
    rows = [(cell, *edge, operation, count, genotypes)
            for edge, found in votes.votes.items() for operation, count in found.items()]
    return pd.DataFrame(rows, columns=["cell", "from_state", "to_node", "operation", "votes", "genotypes"])


def falls_frame(combinations: Sequence[tuple[frozenset[str], int]], attacks: Sequence[str]) -> pd.DataFrame:
    """Return the number of images that each combination of attacks breaks, with one row per combination.

    For each attack, a column says whether the attack belongs to the combination.
    """
    return pd.DataFrame([{attack: attack in fallen for attack in attacks} | {"images": number}
                         for fallen, number in combinations])


def classes_frame(classes: Sequence[ClassAccuracy]) -> pd.DataFrame:
    """Return the natural and the worst-case accuracy of each class."""
    return pd.DataFrame([{"class": one.label} | accuracy_columns("natural", one.natural)
                         | accuracy_columns("worst_case", one.worst) for one in classes])


def transfer_frame(transfer: TransferMap) -> pd.DataFrame:
    """Return the accuracy of each network on adversarial images that were made on each network."""
    labels = {one.network: one.label for one in transfer.networks}
    conditions = {name: transfer.conditions.get(name) for name in ("dataset", "norm", "epsilon", "images_hash")}
    rows = [{"images_made_on": labels[source], "attacked": labels[target], "images_made_on_hash": source, "attacked_hash": target,
             "run": cell.run, "attack": cell.attack} | accuracy_columns("accuracy", cell.result)
            | {"fingerprint": cell.result.fingerprint} | conditions for (source, target), cell in transfer.cells.items()]
    return pd.DataFrame(rows)


def coordinates_frame(axes: Sequence[Coordinate], lines: Sequence[Line]) -> pd.DataFrame:
    """Return the settings and results of parallel coordinates, with one row per run."""
    rows = []
    for number, line in enumerate(lines):
        row: dict[str, object] = {"run": line.run, "label": line.label}
        for axis in axes:
            row[axis.title] = axis.texts[number] if axis.values is None else axis.values[number]
        rows.append(row)
    return pd.DataFrame(rows)
