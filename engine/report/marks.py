"""Marks of a table for papers: which figure may be bold, which letters it carries, and the notes that explain both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from engine.report.robustness import Distinctions, NetworkRow, RobustnessTable
from engine.report.words import plural_text

COLOUR_WORDS = {"amber": "amber: read with care", "red": "red: do not rely on these figures"}


def best_run(table: RobustnessTable, distinctions: Distinctions) -> str | None:
    """Return the run whose figure in the compared column may be bold; None if there is none.

    It is the most accurate network of the column, and only if the paired test tells it apart from every other network that was
    measured there. A network that was measured but not compared, because its attack goes on, leaves the question open.
    """
    measured = [row for row in table.rows if distinctions.column in row.results]
    if len(measured) < 2 or not all(row.run in distinctions.letters for row in measured):
        return None
    best = max(measured, key=lambda row: row.results[distinctions.column].accuracy)
    pairs = [one for one in distinctions.comparisons if best.label in (one.first, one.second)]
    return best.run if all(one.first == best.label and one.distinct() for one in pairs) else None


def letters_of(row: NetworkRow, column: str, compared: Sequence[Distinctions]) -> str:
    """Return the letters of a network in a column; "" if the column was not compared or has a single network."""
    return next((one.letters.get(row.run, "") for one in compared if one.column == column and len(one.letters) > 1), "")


def doubts(table: RobustnessTable) -> list[str]:
    """Return one note for each set of reasons why badges are not green: the networks, the colour and the reasons.

    The names of these networks carry a dagger.
    """
    named: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for row in table.rows:
        if row.badge.colour != "green":
            named[row.badge.colour, row.badge.reasons].append(row.label)
    return [f"{'; '.join(labels)} ({COLOUR_WORDS[colour]}): {' '.join(reasons)}" for (colour, reasons), labels in named.items()]


def comparison_text(table: RobustnessTable, compared: Sequence[Distinctions]) -> str:
    """Return sentences that explain letters and bold type; "" if no column with several networks was compared."""
    titles = {column.name: column.title for column in table.columns}
    shown = [one for one in compared if one.column in titles and len(one.letters) > 1]
    if not shown:
        return ""
    columns = ", ".join(f"{titles[one.column]} ({plural_text(one.images, 'image')})" for one in shown)
    bold = any(best_run(table, one) for one in shown)
    return ("Networks that share a letter cannot be told apart by exact McNemar tests on the same images, Holm-adjusted over all "
            f"pairs of a column at level 0.05: {columns}." + (" Bold: told apart from every other network." if bold else ""))


def seeds_text(table: RobustnessTable) -> str:
    """Return a sentence about what the figures are figures of: single checkpoints, or means over seeds as well."""
    if any(len(group.rows) > 1 for group in table.groups):
        return "Means over seeds are given with their sample standard deviation."
    return "Each row is one checkpoint."
