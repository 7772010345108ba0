"""A robustness table as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from engine.report.marks import best_run, comparison_text, doubts, letters_of, seeds_text
from engine.report.page import Html, page, paragraph, section, table
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


def to_html(shown: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> bytes:
    """Return a robustness table as an HTML page, with the protocol above the table and notes below.

    Args:
        shown: the table.
        compared: paired comparisons of the networks, one for each column in which they are compared. The accuracy of the best
            network is bold if it can be told apart from all others.
        openings: number of times that the test split was opened.
    """
    bold = {one.column: best_run(shown, one) for one in compared}
    titles = ["Network", *(f"{one.title} ({one.images:,} images)" if one.images else one.title for one in shown.columns),
              "Parameters", "MACs", "Reliability"]
    rows: list[list[object]] = []
    for group in shown.groups:
        rows += [_network(shown, row, compared, bold) for row in group.all_rows]
        rows += [_mean(shown, group)] if len(group.rows) > 1 else []
    notes = [seeds_text(shown), comparison_text(shown, compared), ledger_text(openings), fingerprints_text(shown),
             *(f"† {one}" for one in doubts(shown))]
    body = (f"<h1>Robustness</h1>{paragraph(f'Accuracy in per cent, with 95 % Wilson intervals. {protocol_text(shown)}')}"
            + section(shown.title, table(titles, rows, label=shown.title, right=range(1, len(titles) - 1)),
                      *(paragraph(note, "soft") for note in notes)))
    return page(f"Robustness, {shown.title}", body)


def _network(shown: RobustnessTable, row: NetworkRow, compared: Sequence[Distinctions],
             bold: dict[str, str | None]) -> list[object]:
    figures = [_figure(row, column.name, letters_of(row, column.name, compared), bold.get(column.name) == row.run)
               for column in shown.columns]
    sizes = [MISSING if size is None else count_text(size) for size in (row.parameters, row.macs)]
    name = f"{printed_label(row)}{'' if row.badge.colour == 'green' else ' †'}"
    return [name, *figures, *sizes, row.badge.colour]


def _figure(row: NetworkRow, column: str, letters: str, bold: bool) -> object:
    measured = row.results.get(column)
    if measured is None:
        return MISSING
    figure = percent_text(measured.accuracy)
    return Html(f"{f'<b>{figure}</b>' if bold else figure}<sup>{letters}</sup> ({interval_text(measured)})")


def _mean(shown: RobustnessTable, group: SeedGroup) -> list[object]:
    figures: list[object] = []
    for column in shown.columns:
        mean, spread = group.means.get(column.name), group.spreads.get(column.name)
        figures.append(MISSING if mean is None or spread is None else f"{percent_text(mean)} ± {percent_text(spread)}")
    return [f"{group.title}, mean of {len(group.rows)} networks", *figures, "", "", ""]
