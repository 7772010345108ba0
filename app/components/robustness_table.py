"""The interactive table of the networks that were attacked under one protocol (the same attacks on the same images).

Networks with the same title differ only in their seeds. They stand below a common heading, which can be folded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from app.components.table import NO_SORT, CellText, Column, Row
from app.formats import EMPTY, accuracy, count, interval, missing, percent, plural, with_interval
from engine.attack.badge import Badge
from engine.attack.catalogue import ATTACKS, WORST
from engine.report.robustness import Measurement, NetworkRow, ResultColumn, RobustnessTable, SeedGroup

BADGES = {"green": ("good", "✓", "Green"), "amber": ("warn", "!", "Amber"), "red": ("bad", "✕", "Red")}
BADGE_HELP = ("Green: all reliability checks passed. Amber: a check warned, or none was made. Red: a check failed, so distrust "
              "the figures. Point at a badge for the reasons.")
LETTERS_HELP = ("Networks that share a letter cannot be told apart in the worst case: exact McNemar test on the same images, "
                "with Holm's adjustment over all pairs of this table, at 5 %.")
PENDING = "pending"


def columns_of(table: RobustnessTable, letters: Mapping[str, str]) -> list[Column]:
    """Return the columns of a table. Headings of results give the number of images, which is the same for all networks.

    Args:
        table: the table.
        letters: {id of an attack run: letters of its network}. Networks that share a letter do not differ significantly in
            their worst-case accuracy. If the dict is empty, the table has no column for letters.
    """
    results = [Column(one.name, f"{one.title}\n{one.images:,} images" if one.images else one.title, "right", about_of(one))
               for one in table.columns]
    lettered = [Column("letters", "Cannot be\ntold apart", help=LETTERS_HELP)] if letters else []
    return [Column("network", "Network"), Column("badge", "Badge", help=BADGE_HELP), *results, *lettered,
            Column("size", "Parameters\nMACs", "right", "Trainable parameters, and multiply-accumulates (MACs) per image.")]


def about_of(column: ResultColumn) -> str:
    """Return the tooltip of a column of results.

    For a suite, which is an attack made of several attacks, the tooltip also says how the column differs from the worst case.
    """
    suite = column.name in ATTACKS and bool(ATTACKS[column.name].parts)
    return f"{column.about} Other attacks of the protocol do not count here." if suite else column.about


def rows_of(table: RobustnessTable, letters: Mapping[str, str], recipes: Mapping[str, str], states: Mapping[str, str],
            compared: Collection[str], folded: Collection[str]) -> list[Row]:
    """Return the rows of a table.

    If several networks have the same title, a heading above them gives the mean and standard deviation of their results. All
    dicts among the arguments are keyed by the id of the attack run.

    Args:
        table: the table.
        letters: letters of each network. Networks that share a letter do not differ significantly in their worst-case accuracy.
        recipes: short description of how each network was trained.
        states: state of each attack run that is not complete, for example "attack running". It replaces the recipe.
        compared: ids of the attack runs whose checkbox is set.
        folded: ids of the folded headings, from `heading_id`.
    """
    rows = []
    for group in table.groups:
        heading = heading_id(group.title) if len(group.rows) > 1 else ""
        if heading:
            rows.append(_heading(group, heading, heading in folded))
        for network in group.rows:
            under = states.get(network.run) or recipes.get(network.run) or network.preset
            cells = {"network": CellText(network.label, sub=under, href=f"run?id={network.run}", hint=network.run),
                     "badge": badge_cell(network.badge, bool(network.results)),
                     **{one.name: result_cell(network.results.get(one.name), network.complete) for one in table.columns},
                     "letters": CellText(letters.get(network.run, EMPTY)), "size": size_cell(network)}
            rows.append(Row(network.run, cells, name=network.label, group=heading, picked=network.run in compared))
    return rows


def heading_id(title: str) -> str:
    """Return the id of the heading above the networks with this title."""
    return hashlib.sha1(title.encode()).hexdigest()[:6]


def badge_cell(badge: Badge, measured: bool = True) -> CellText:
    """Return the table cell of a badge, with a tooltip that gives the reasons. If `measured` is False, the cell is empty."""
    if not measured:
        return CellText("", sort=NO_SORT)
    tone, glyph, word = BADGES[badge.colour]
    return CellText(word, tone=tone, glyph=glyph, sort=list(BADGES).index(badge.colour),
                    hint="\n".join(badge.reasons) or "All reliability checks passed.")


def result_cell(result: Measurement | None, complete: bool = True) -> CellText:
    """Return the table cell of an accuracy and its 95 % interval.

    Args:
        result: the accuracy; None if it has not been measured.
        complete: True if the attack run is complete. A missing accuracy is then shown as "not measured", otherwise as "pending".
    """
    if result is None:
        return CellText(accuracy(None) if complete else PENDING, sort=NO_SORT, muted=True)
    return CellText(accuracy(result.accuracy), sub=interval(result.low, result.high).removesuffix(" %"), sort=result.accuracy,
                    hint=f"{with_interval(result.accuracy, result.low, result.high)}, {result.correct:,} of "
                         f"{result.images:,} images")


def size_cell(network: NetworkRow) -> CellText:
    """Return the table cell with the number of parameters and MACs of a network."""
    return CellText(count(network.parameters), sub=f"{count(network.macs)} MACs",
                    sort=NO_SORT if missing(network.parameters) else float(network.parameters))


def _heading(group: SeedGroup, heading: str, folded: bool) -> Row:
    """Return the heading row of the networks with one title, with the mean and standard deviation of each of their results."""
    name = f"{group.title}: {plural(len(group.rows), 'network')}"
    cells = {"network": CellText(name, sub="mean, and spread (standard deviation)", sort=group.title)}
    for column, mean in group.means.items():
        spread = f"± {100 * group.spreads[column]:.1f}"
        cells[column] = CellText(percent(mean), sub=spread, sort=mean, hint=(
            f"Mean {percent(mean)} and standard deviation {100 * group.spreads[column]:.1f} points over {len(group.rows)} "
            "networks. It describes these networks and is no interval."))
    if WORST not in group.means:
        cells[WORST] = CellText("", sort=NO_SORT)
    return Row(heading, cells, name=name, heading=True, folded=folded)


def badge_html(badge: Badge) -> str:
    """Return a badge as an HTML chip, without its reasons."""
    tone, glyph, word = BADGES[badge.colour]
    return f'<span class="rp-chip rp-tone-{tone}"><span class="rp-glyph" aria-hidden="true">{glyph}</span>{word}</span>'
