"""Titles, units, line styles and small charts of a search's objectives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from app import theme
from app.charts.frame import AXIS, PlainFigure, blank, common_layout
from engine.insight.objectives import title_of as title_of
from engine.search.registries import OBJECTIVES

# Objectives that take the colour of a series in `theme.SERIES`: objective -> series.
SERIES_OF = {"natural": "natural", "adversarial": "adversarial", "trades": "adversarial"}
COLUMNS = 3
# Gaps between small charts, as shares of the figure's width and height. They contain axis numbers, two-line titles and "step".
ACROSS, DOWN = 0.1, 0.42


def label_of(name: str) -> str:
    """Return the label of an objective's line: the title of the objective without "loss", for example "natural"."""
    return title_of(name).removesuffix(" loss")


def unit_of(name: str) -> str:
    """Return the unit of an objective's loss, or "" if this version does not know the objective."""
    return OBJECTIVES[name].unit if name in OBJECTIVES else ""


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return {name of an objective: Plotly style of its line}.

    The natural and adversarial losses have fixed colours. Each of the other objectives takes the next colour and dash of
    `theme.FURTHER_SERIES`.
    """
    lines: dict[str, dict[str, Any]] = {}
    further = 0
    for name in dict.fromkeys(names):
        if name in SERIES_OF:
            lines[name] = {"color": theme.SERIES[SERIES_OF[name]], "width": 1.8}
            continue
        colour, dash = theme.FURTHER_SERIES[further % len(theme.FURTHER_SERIES)]
        lines[name], further = {"color": colour, "dash": dash, "width": 1.8}, further + 1
    return lines


def further(names: Iterable[str]) -> list[str]:
    """Return the names of objectives that are neither the natural nor an adversarial loss, each once, in order of appearance."""
    return [name for name in dict.fromkeys(names) if name not in SERIES_OF]


def rows_of(names: Sequence[str]) -> int:
    """Return the number of rows in which `further_losses` arranges the small charts of these objectives."""
    return -(-len(names) // COLUMNS)


def further_losses(objectives: pd.DataFrame) -> PlainFigure:
    """Return a figure with one small chart for each objective that is neither the natural nor an adversarial loss.

    The charts are separate because the losses have different units and scales.

    Args:
        objectives: table from `RunLog.objectives`.
    """
    names = further(objectives["objective"])
    if not names:
        return blank("Further losses appear after the first step that has one")
    figure: PlainFigure = {"data": [], "layout": common_layout(legend=False, margin={"l": 62, "t": 40, "b": 42}) | {
        "annotations": []}}
    lines = looks(objectives["objective"])
    columns, rows = min(len(names), COLUMNS), rows_of(names)
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        points = objectives[objectives["objective"] == name].sort_values("step")
        _add_chart(figure, points, name, lines[name], str(i + 1) if i else "", _place(column, columns, ACROSS),
                   _place(rows - 1 - row, rows, DOWN))
    return figure


def _place(number: int, count: int, gap: float) -> tuple[float, float]:
    """Divide 0..1 into `count` equal intervals that are `gap` apart, and return the ends of one interval.

    Args:
        number: which interval, counted from 0.
        count: number of intervals.
        gap: distance between two intervals.

    Returns:
        The lower end of the interval.
        The upper end of the interval.
    """
    size = (1 + gap) / count - gap
    return number * (size + gap), number * (size + gap) + size


def _add_chart(figure: PlainFigure, points: pd.DataFrame, name: str, line: dict[str, Any], number: str,
               across: tuple[float, float], up: tuple[float, float]) -> None:
    """Add the small chart of one objective to a figure.

    Args:
        figure: the figure.
        points: rows of the objective, from `RunLog.objectives`.
        name, line: name of the objective, and Plotly style of its line.
        number: suffix of Plotly's names for the axes of the chart, for example "2" for "xaxis2" and "yaxis2".
        across: left and right edge of the chart, as fractions of the figure's width.
        up: lower and upper edge of the chart, as fractions of the figure's height.
    """
    label, unit = label_of(name), f"({unit_of(name)})" if unit_of(name) else ""
    figure["data"].append({
        "type": "scatter", "x": points["step"].tolist(), "y": points["loss"].tolist(), "mode": "lines", "name": label,
        "xaxis": f"x{number}", "yaxis": f"y{number}", "line": line, "hovertemplate": f"{label} %{{y:.4g}} {unit}<extra></extra>"})
    figure["layout"]["annotations"].append({
        "text": f"{label}<br>{unit}" if unit else label, "x": across[0], "y": up[1], "xref": "paper", "yref": "paper",
        "xanchor": "left", "yanchor": "bottom", "align": "left", "showarrow": False, "font": {"size": 12.5}})
    figure["layout"] |= {
        f"xaxis{number}": AXIS | {"domain": across, "anchor": f"y{number}", "nticks": 4, "rangemode": "tozero",
                                  "title": {"text": "step", "font": {"size": 12.5}}},
        f"yaxis{number}": AXIS | {"domain": up, "anchor": f"x{number}", "nticks": 4, "exponentformat": "SI"}}
