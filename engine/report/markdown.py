"""A robustness table as Markdown in GitHub's notation, for notes and issue threads. Every text is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.report.marks import best_run, comparison_text, doubts, letters_of, seeds_text
from engine.report.robustness import Distinctions, NetworkRow, RobustnessTable, SeedGroup
from engine.report.words import (
    count_text,
    fingerprints_text,
    interval_text,
    ledger_text,
    percent_text,
    printed_label,
    protocol_text,
)

MISSING = "–"


def escaped(text: str) -> str:
    """Escape a text so that Markdown shows the text literally inside a line or a table cell. Line breaks become spaces."""
    return re.sub(r"([\\`*_\[\]<>#|~&$])", r"\\\1", re.sub(r"\s*[\r\n]\s*", " ", text))


def to_markdown(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> bytes:
    """Return a robustness table as Markdown, with the protocol above the table and notes below.

    Args:
        table: the table.
        compared: paired comparisons of the networks, one for each column in which they are compared. The accuracy of the best
            network is bold if it can be told apart from all others.
        openings: number of times that the test split was opened.
    """
    bold = {one.column: best_run(table, one) for one in compared}
    titles = ["Network", *(_title(column.title, column.images) for column in table.columns), "Parameters", "MACs", "Reliability"]
    caption = f"Accuracy in per cent, with 95 % Wilson intervals. {protocol_text(table)}"
    lines = [f"**{escaped(table.title)}**", "", escaped(caption), "", _line(titles),
             _line(["---", *["---:"] * (len(titles) - 2), "---"])]
    for group in table.groups:
        lines += [_network(table, row, compared, bold) for row in group.all_rows]
        lines += [_mean(table, group)] if len(group.rows) > 1 else []
    lines += ["", escaped(" ".join(filter(None, (
        seeds_text(table), comparison_text(table, compared), ledger_text(openings), fingerprints_text(table)))))]
    for note in doubts(table):
        lines += ["", f"† {escaped(note)}"]
    return ("\n".join(lines) + "\n").encode()


def _title(title: str, images: int) -> str:
    return escaped(f"{title} ({images:,} images)" if images else title)


def _network(table: RobustnessTable, row: NetworkRow, compared: Sequence[Distinctions], bold: dict[str, str | None]) -> str:
    figures = [_figure(row, column.name, letters_of(row, column.name, compared), bold.get(column.name) == row.run)
               for column in table.columns]
    sizes = [MISSING if size is None else count_text(size) for size in (row.parameters, row.macs)]
    name = escaped(printed_label(row))
    return _line([name + ("" if row.badge.colour == "green" else " †"), *figures, *sizes, row.badge.colour])


def _figure(row: NetworkRow, column: str, letters: str, bold: bool) -> str:
    measured = row.results.get(column)
    if measured is None:
        return MISSING
    figure = percent_text(measured.accuracy)
    superscript = f"<sup>{letters}</sup>" if letters else ""
    return f"{f'**{figure}**' if bold else figure}{superscript} ({interval_text(measured)})"


def _mean(table: RobustnessTable, group: SeedGroup) -> str:
    figures = []
    for column in table.columns:
        mean, spread = group.means.get(column.name), group.spreads.get(column.name)
        figures.append(MISSING if mean is None or spread is None else f"{percent_text(mean)} ± {percent_text(spread)}")
    return _line([f"*{escaped(group.title)}, mean of {len(group.rows)} networks*", *figures, "", "", ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
