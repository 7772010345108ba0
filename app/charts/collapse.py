"""The collapse radar: charts of the signs that operations without parameters take over the cells (`engine.insight.collapse`).

For each cell kind, it shows the skip connections, the edges without parameters and the dominant operation over the epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import pandas as pd

from app import theme
from app.charts.alphas import axis_of
from app.charts.frame import AXIS, PlainFigure, blank, common_layout
from engine.drawing.operations import in_order
from engine.insight.collapse import MOST_PARAMETER_FREE, MOST_SKIPS, REDUCTION, last_healthy_epoch

# The rows of small charts from the top: column of the table of `radar`, factor, title of the axis, ends of the chart.
ROWS = (("skips", 1, "skips", (0.72, 0.97)), ("parameter_free_share", 100, "without<br>parameters (%)", (0.37, 0.64)),
        ("dominant_share", 100, "dominant<br>operation (%)", (0.0, 0.29)))
TOP = ROWS[0][3][1]
GAP = 0.03  # between two columns, as a share of the width
SHORTEST = 0.15  # part of the epochs that an operation must be dominant to be named in the chart
APART = 0.3  # distance between two names, as a part of the epochs
SMALL = {"size": 11.5}


def radar_figure(table: pd.DataFrame) -> PlainFigure:
    """Return a figure with a column of three small charts per cell kind.

    All charts of a row share one vertical axis, and all charts of a column share one axis of epochs. An alarm is a sign of a
    collapse. Dotted lines mark the levels at which an alarm begins, and epochs with an alarm are shaded. A vertical line marks
    the last epoch before the present alarm.

    Args:
        table: table of `engine.insight.collapse.radar`.
    """
    if table.empty:
        return blank("The signs of a collapse appear with the first genotype")
    kinds = in_order(table["cell"].unique())
    width = (1 + GAP) / len(kinds) - GAP
    figure: PlainFigure = {"data": [], "layout": common_layout(legend=False, margin={"l": 66, "r": 8, "t": 52, "b": 42}) | {
        "annotations": [], "shapes": [], "hovermode": "closest"} | _vertical_axes(table)}
    for column, kind in enumerate(kinds):
        left = column * (width + GAP)
        figure["layout"][f"xaxis{axis_of(column)}"] = AXIS | {
            "domain": (left, left + width), "anchor": f"y{axis_of(len(ROWS) - 1)}", "showgrid": False, "nticks": 6,
            "range": _epochs(table), "title": {"text": "epoch", "font": SMALL, "standoff": 4}}
        _add_column(figure, table[table["cell"] == kind].sort_values("epoch"), kind, column, left)
    return figure


def _epochs(table: pd.DataFrame) -> list[float]:
    first, last = int(table["epoch"].min()), int(table["epoch"].max())
    return [first - 0.5, last + 0.5]


def _vertical_axes(table: pd.DataFrame) -> dict[str, Any]:
    """Return the vertical axes, one for all charts of a row.

    If an alarm (a sign of a collapse) begins at a certain level of an axis, the axis has a tick there.
    """
    most = max(MOST_SKIPS, int(table["edges"].max()))
    ticks = ((0, MOST_SKIPS, most), (0, 100 * MOST_PARAMETER_FREE, 100), (0, 50, 100))
    return {f"yaxis{axis_of(row)}": AXIS | {
        "domain": domain, "anchor": "x", "range": [-0.06 * marks[-1], (1.06 if row < len(ROWS) - 1 else 1.3) * marks[-1]],
        "tickvals": marks,
        "title": {"text": title, "font": SMALL, "standoff": 6}}
        for row, ((_, _, title, domain), marks) in enumerate(zip(ROWS, ticks, strict=True))}


def _add_column(figure: PlainFigure, rows: pd.DataFrame, kind: str, column: int, left: float) -> None:
    """Add the charts of one cell kind to a figure.

    Args:
        figure: the figure.
        rows: the rows of the cell kind, by epoch.
        kind: the cell kind.
        column, left: number of the column, and its left end as a share of the width.
    """
    layout, x = figure["layout"], f"x{axis_of(column)}"
    layout["shapes"] += _alarms(rows, x) + ([] if kind == REDUCTION else _levels(x))
    for row, (name, factor, title, _) in enumerate(ROWS):
        figure["data"].append(_line(rows, name, factor, title) | {"xaxis": x, "yaxis": f"y{axis_of(row)}"})
    layout["annotations"] += [*_names(rows, x), {
        "text": f"<b>{theme.cell_title(kind)}</b><br>{_standing(rows, kind)}", "x": left, "y": 1.0, "xref": "paper",
        "yref": "paper", "xanchor": "left", "yanchor": "bottom", "align": "left", "showarrow": False, "font": SMALL}]
    healthy = last_healthy_epoch(rows)
    if healthy is not None and healthy >= 0:
        layout["shapes"].append({"type": "line", "xref": x, "x0": healthy, "x1": healthy, "yref": "paper", "y0": 0,
                                 "y1": TOP, "line": {"color": theme.FRONT, "width": 1.6}})


def _line(rows: pd.DataFrame, name: str, factor: int, title: str) -> dict[str, Any]:
    """Return the line of one chart. The line of the dominant operation has a marker at each epoch, in the operation's colour."""
    values = (rows[name] * factor).round(1)
    line = {"type": "scatter", "x": rows["epoch"].tolist(), "y": values.tolist(), "showlegend": False, "name": title,
            "mode": "lines+markers" if len(rows) == 1 else "lines",
            "line": {"color": theme.SERIES["training"], "width": 2, "shape": "hv"},
            "hovertemplate": f"{title.replace('<br>', ' ')}: %{{y:.0f}}, epoch %{{x}}<extra></extra>"}
    if name != "dominant_share":
        return line
    styles = [theme.operation(one) for one in rows["dominant"]]
    return line | {"mode": "lines+markers", "line": {"color": theme.faint(theme.SERIES["neutral"], 0.6), "width": 1},
                   "marker": {"size": 6, "color": [one.colour for one in styles]}, "text": [one.title for one in styles],
                   "hovertemplate": "%{text}: %{y:.0f} %, epoch %{x}<extra></extra>"}


def _levels(x: str) -> list[dict[str, Any]]:
    """Return the dotted lines at the levels at which an alarm (a sign of a collapse) begins."""
    return [{"type": "line", "xref": f"{x} domain", "x0": 0, "x1": 1, "yref": f"y{axis_of(row)}", "y0": level, "y1": level,
             "line": {"color": theme.ALARMS[name], "width": 1.2, "dash": "dot"}}
            for row, level, name in ((0, MOST_SKIPS, "info"), (1, 100 * MOST_PARAMETER_FREE, "warning"))]


def _alarms(rows: pd.DataFrame, x: str) -> list[dict[str, Any]]:
    """Return the shading of the epochs with an alarm (a sign of a collapse)."""
    shapes = []
    for level, spell in _spells(rows["epoch"], rows["level"]):
        if level:
            shapes.append({"type": "rect", "xref": x, "x0": spell[0] - 0.5, "x1": spell[-1] + 0.5, "yref": "paper", "y0": 0,
                           "y1": TOP, "line": {"width": 0}, "layer": "below",
                           "fillcolor": theme.faint(theme.ALARMS[level], 0.22 if level == "warning" else 0.13)})
    return shapes


def _names(rows: pd.DataFrame, x: str) -> list[dict[str, Any]]:
    """Return the names of operations that were dominant for many epochs, each in its colour above its longest spell."""
    longest: dict[str, list[int]] = {}
    for name, epochs in _spells(rows["epoch"], rows["dominant"]):
        longest[name] = max(longest.get(name, []), epochs, key=len)
    places: dict[str, float] = {}
    for name, count in rows["dominant"].value_counts().items():
        middle = (longest[str(name)][0] + longest[str(name)][-1]) / 2
        if count >= SHORTEST * len(rows) and all(abs(middle - one) >= APART * len(rows) for one in places.values()):
            places[str(name)] = middle
    return [{"text": f'<span style="color:{style.colour}"><b>{style.short}</b></span>', "x": middle, "xref": x, "y": 118,
             "yref": f"y{axis_of(len(ROWS) - 1)}", "showarrow": False, "font": SMALL}
            for style, middle in ((theme.operation(name), middle) for name, middle in places.items())]


def _spells(epochs: pd.Series, values: pd.Series) -> Iterable[tuple[str, list[int]]]:
    """Yield (value, epochs) for each spell of consecutive epochs with the same value."""
    for value, group in groupby(zip(values, epochs, strict=True), key=lambda pair: str(pair[0])):
        yield value, [int(epoch) for _, epoch in group]


def _standing(rows: pd.DataFrame, kind: str) -> str:
    """Return the present state of a cell kind as HTML, for example "3 skips, last healthy epoch 12"."""
    if kind == REDUCTION:
        return "not judged"
    level, healthy = rows["level"].iloc[-1], last_healthy_epoch(rows)
    if healthy is None:
        return "no sign"
    words = "collapsed" if level == "warning" else f"{int(rows['skips'].iloc[-1])} skips"
    since = "in every epoch" if healthy < 0 else f"last healthy epoch {healthy}"
    return f'<span style="color:{theme.ALARMS[level]}">{words}</span>, {since}'
