"""Marks in a robustness table for papers: bold type, letters and daggers, with the notes that explain them.

Two networks share a letter if they cannot be told apart by a paired test. The best network of a column is bold if it can be told
apart from all others. A dagger marks a network with doubtful results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from engine.report.robustness import Distinctions, NetworkRow, RobustnessTable
from engine.report.words import plural_text

COLOUR_WORDS = {"amber": "amber: read with care", "red": "red: do not rely on these figures"}


def best_run(table: RobustnessTable, distinctions: Distinctions) -> str | None:
    """Return the id of the attack run whose accuracy in the compared column is printed in bold, or None if none is bold.

    The most accurate network of the column is bold if paired tests tell it apart from all other networks of the column. No
    network is bold if one of them was not compared, for example because its attack run is not complete.

    Args:
        table: the robustness table, with one row per network.
        distinctions: paired comparison of the networks in one column of the table.
    """
    measured = [row for row in table.rows if distinctions.column in row.results]
    if len(measured) < 2 or not all(row.run in distinctions.letters for row in measured):
        return None
    best = max(measured, key=lambda row: row.results[distinctions.column].accuracy)
    pairs = [one for one in distinctions.comparisons if best.label in (one.first, one.second)]
    return best.run if all(one.first == best.label and one.distinct() for one in pairs) else None


def letters_of(row: NetworkRow, column: str, compared: Sequence[Distinctions]) -> str:
    """Return the letters that mark a network in a column, or "" if the column was not compared or has only one network.

    Two networks share a letter if paired tests cannot tell them apart.

    Args:
        row: row of the network in the robustness table.
        column: name of the column.
        compared: paired comparisons of the networks, one for each column in which they are compared.
    """
    return next((one.letters.get(row.run, "") for one in compared if one.column == column and len(one.letters) > 1), "")


def doubts(table: RobustnessTable) -> list[str]:
    """Return notes on the networks with doubtful results, that is, networks whose badge is not green.

    Networks with the same badge and the same reasons share a note. The note names the networks, the colour of the badge and the
    reasons.
    """
    named: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for row in (row for group in table.groups for row in group.all_rows):
        if row.badge.colour != "green":
            named[row.badge.colour, row.badge.reasons].append(row.label)
    return [f"{'; '.join(labels)} ({COLOUR_WORDS[colour]}): {' '.join(reasons)}" for (colour, reasons), labels in named.items()]


def comparison_text(table: RobustnessTable, compared: Sequence[Distinctions]) -> str:
    """Return sentences that explain the letters and the bold type in a robustness table.

    Networks that share a letter cannot be told apart. Bold type marks a network that can be told apart from every other network.
    The result is "" if no column with several networks was compared.
    """
    titles = {column.name: column.title for column in table.columns}
    shown = [one for one in compared if one.column in titles and len(one.letters) > 1]
    if not shown:
        return ""
    columns = ", ".join(f"{titles[one.column]} ({plural_text(one.images, 'image')})" for one in shown)
    bold = any(best_run(table, one) for one in shown)
    return ("Networks that share a letter cannot be told apart by exact McNemar tests on the same images, Holm-adjusted over all "
            f"pairs of a column at level 0.05: {columns}." + (" Bold: told apart from every other network." if bold else ""))


def seeds_text(table: RobustnessTable) -> str:
    """Return a sentence that says whether the table contains means over seeds or only single checkpoints."""
    if any(len(group.rows) > 1 for group in table.groups):
        return "Means over seeds are given with their sample standard deviation."
    return "Each row is one checkpoint."
