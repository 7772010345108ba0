"""The interactive table of the networks that were attacked under one protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from app.components.badge import BADGE_HELP, badge_cell
from app.components.table import NO_SORT, CellText, Column, Row
from app.formats import EMPTY, accuracy, count, interval, missing, percent, plural, with_interval
from engine.attack.catalogue import ATTACKS
from engine.report.robustness import Measurement, NetworkRow, ResultColumn, RobustnessTable, SeedGroup

LETTERS_HELP = ("Networks that share a letter cannot be told apart in the worst case: exact McNemar test on the same images, "
                "with Holm's adjustment over all pairs of this table, at 5 %.")
PENDING = "pending"


def columns_of(table: RobustnessTable, letters: Mapping[str, str]) -> list[Column]:
    """Return the columns of a robustness table. The header of a result column gives the number of images.

    Args:
        table: the robustness table.
        letters: {run: letters of its network}. The table shows them in an extra column unless `letters` is empty. If two networks
            share a letter, the paired test finds no difference between their worst-case accuracies.
    """
    results = [Column(one.name, f"{one.title}\n{one.images:,} images" if one.images else one.title, "right", about_of(one))
               for one in table.columns]
    lettered = [Column("letters", "Cannot be\ntold apart", help=LETTERS_HELP)] if letters else []
    return [Column("network", "Network"), Column("badge", "Badge", help=BADGE_HELP), *results, *lettered,
            Column("size", "Parameters\nMACs", "right", "Trainable parameters, and multiply-accumulates (MACs) per image.")]


def about_of(column: ResultColumn) -> str:
    """Return an explanation of a column, for use as a tooltip.

    For a suite (an attack made of several attacks), the explanation says how the column differs from the worst case.
    """
    suite = column.name in ATTACKS and bool(ATTACKS[column.name].parts)
    return f"{column.about} Other attacks of the protocol do not count here." if suite else column.about


def rows_of(table: RobustnessTable, letters: Mapping[str, str], recipes: Mapping[str, str], states: Mapping[str, str],
            compared: Collection[str], folded: Collection[str], listed: Collection[str] | None = None) -> list[Row]:
    """Return the rows of a robustness table.

    Several networks with the same title get a heading, which gives the mean and standard deviation of their accuracies.

    Args:
        table: the robustness table.
        letters: {run: letters of its network}, as for `columns_of`.
        recipes: {run: how its network was trained, in a few words}.
        states: {run: state of its evaluation, for example "attack running"}, with an entry for each incomplete evaluation.
        compared: runs whose checkbox is set.
        folded: ids of the headings whose rows are hidden, from `heading_id`.
        listed: runs of the networks to list; None for all. The means in a heading include all its networks, listed or not.
    """
    rows = []
    for group in table.groups:
        networks = [network for network in group.rows if listed is None or network.run in listed]
        if not networks:
            continue
        heading = heading_id(group.title) if len(group.rows) > 1 else ""
        if heading:
            rows.append(_heading(group, heading, heading in folded))
        for network in networks:
            state = states.get(network.run, "")
            others = plural(network.repeats, "other evaluation") if network.repeats else ""
            under = " · ".join(filter(None, (state or recipes.get(network.run) or network.preset, others)))
            cells = {"network": CellText(network.label, sub=under, href=f"run?id={network.run}", hint=network.run),
                     "badge": badge_cell(network.badge if network.results else None),
                     **{one.name: result_cell(network.results.get(one.name), "running" in state) for one in table.columns},
                     "letters": CellText(letters.get(network.run, EMPTY)), "size": size_cell(network)}
            rows.append(Row(network.run, cells, name=network.label, group=heading, picked=network.run in compared))
    return rows


def heading_id(title: str) -> str:
    """Return the id of the HTML heading of the group of networks with this title."""
    return hashlib.sha1(title.encode()).hexdigest()[:6]


def result_cell(result: Measurement | None, running: bool = False) -> CellText:
    """Return the table cell of an accuracy with its interval.

    If the result is missing, the cell says "not measured" or, while the evaluation is running, that the result is pending.
    """
    if result is None:
        return CellText(PENDING if running else accuracy(None), sort=NO_SORT, muted=True)
    return CellText(accuracy(result.accuracy), sub=interval(result.low, result.high).removesuffix(" %"), sort=result.accuracy,
                    hint=f"{with_interval(result.accuracy, result.low, result.high)}, {result.correct:,} of "
                         f"{result.images:,} images")


def size_cell(network: NetworkRow) -> CellText:
    """Return the table cell with a network's number of parameters and MACs."""
    return CellText(count(network.parameters), sub=f"{count(network.macs)} MACs",
                    sort=NO_SORT if missing(network.parameters) else float(network.parameters))


def _heading(group: SeedGroup, heading: str, folded: bool) -> Row:
    """Return the heading above a group of networks with the same title.

    The heading gives the mean and standard deviation of the accuracies of the networks whose evaluation is complete.
    """
    name, measured = f"{group.title}: {plural(len(group.rows), 'network')}", plural(group.complete, "network")
    cells = {"network": CellText(name, sub=f"mean ± standard deviation of {group.complete}" if group.spreads else "",
                                 sort=group.title)}
    for column, spread in group.spreads.items():
        mean, points = group.means[column], f"{100 * spread:.1f}"
        cells[column] = CellText(percent(mean), sub=f"± {points}", sort=mean, hint=(
            f"Mean {percent(mean)} and standard deviation {points} points over {measured}. It describes these networks and is "
            "no confidence interval."))
    return Row(heading, cells, name=name, heading=True, folded=folded)
