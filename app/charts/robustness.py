"""The chart of accuracies under each attack. Each network is a row, and each accuracy a point with its 95 % Wilson interval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from app import theme
from app.charts.frame import Figure, themed
from app.formats import with_interval
from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.report.robustness import NetworkRow, ResultColumn

# Colours and symbols of single attacks, assigned in the order of the columns. With seven colours and six symbols, the first 42
# attacks look different.
COLOURS = [theme.OPERATIONS[name].colour for name in (
    "max_pool_3x3", "dil_conv_5x5", "dil_conv_3x3", "sep_conv_5x5", "skip_connect", "sep_conv_3x3", "avg_pool_3x3")]
SYMBOLS = ("triangle-up", "diamond", "pentagon", "triangle-down", "hexagon", "star")
FIXED = {NATURAL: (theme.SERIES["natural"], "circle"), WORST: (theme.SERIES["adversarial"], "square")}
SUITE = (theme.SERIES["adversarial"], "square-open")
SPREAD = 0.24  # distance from the middle of a row to its first and last measure, as a share of the row's height
ROW_HEIGHT, FRAME_HEIGHT = 54, 100  # pixels
WIDEST_LABEL = 24  # characters per line of a network's name; more would leave too little space for the intervals


def height_of(networks: int) -> int:
    """Return the height in pixels of a figure with this number of networks."""
    return FRAME_HEIGHT + ROW_HEIGHT * max(1, networks)


def looks(columns: Sequence[ResultColumn]) -> dict[str, tuple[str, str]]:
    """Return {name of a column: (colour, symbol) of its points}. All attack suites, such as AutoAttack, have the same pair."""
    single = [column.name for column in columns if column.name not in FIXED and not _is_suite(column.name)]
    shared = {name: SUITE for name in (column.name for column in columns) if _is_suite(name)}
    return FIXED | shared | {name: (COLOURS[place % len(COLOURS)], SYMBOLS[place % len(SYMBOLS)])
                             for place, name in enumerate(single)}


def intervals_figure(columns: Sequence[ResultColumn], rows: Sequence[NetworkRow]) -> Figure:
    """Return a figure of accuracies with 95 % Wilson intervals, with one row per network.

    Args:
        columns: columns of the robustness table, one per attack. A column without any result has no points.
        rows: networks from top to bottom.
    """
    figure, look = Figure(), looks(columns)
    shown = [column for column in columns if any(column.name in row.results for row in rows)]
    for place, column in enumerate(shown):
        offset = SPREAD * (2 * place / max(1, len(shown) - 1) - 1)
        measured = [(number + offset, row.label, row.results[column.name]) for number, row in enumerate(rows)
                    if column.name in row.results]
        colour, symbol = look[column.name]
        figure.add_scatter(
            x=[100 * result.accuracy for _, _, result in measured], y=[height for height, _, _ in measured], mode="markers",
            name=column.title, hoverinfo="text", marker={"color": colour, "symbol": symbol, "size": 9},
            hovertext=[f"<b>{label}</b><br>{column.title} {with_interval(result.accuracy, result.low, result.high)}, "
                       f"{result.images:,} images" for _, label, result in measured],
            error_x={"type": "data", "symmetric": False, "color": colour, "thickness": 1.6, "width": 4,
                     "array": [100 * (result.high - result.accuracy) for _, _, result in measured],
                     "arrayminus": [100 * (result.accuracy - result.low) for _, _, result in measured]})
    themed(figure, margin={"l": 10, "r": 24, "t": 40, "b": 50})
    network_axis(figure, [row.label for row in rows])
    figure.update_layout(hovermode="closest", xaxis={
        "title": {"text": "Accuracy, test split (%), with 95 % Wilson interval"}, "ticksuffix": " %", "range": [-1, 101]})
    return figure


def network_axis(figure: Figure, labels: Sequence[str]) -> None:
    """Set the vertical axis of a figure to one row per network. The first network is at the top."""
    figure.update_layout(yaxis={
        "tickvals": list(range(len(labels))), "ticktext": ["<br>".join(textwrap.wrap(label, WIDEST_LABEL)) for label in labels],
        "range": [len(labels) - 0.5, -0.5], "automargin": True, "zeroline": False, "showgrid": False})


def _is_suite(name: str) -> bool:
    return name in ATTACKS and bool(ATTACKS[name].parts)
