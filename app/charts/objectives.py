"""The objectives of a search by name: their titles, the look of their lines, and charts of losses with units of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import AXIS, blank, themed
from engine.search.registries import OBJECTIVES

# Objectives that are drawn as a series with a fixed meaning.
SERIES_OF = {"natural": "natural", "adversarial": "adversarial", "trades": "adversarial"}
COLUMNS = 3
# Gaps between small charts as shares of width and height: space for numbers, a title of two lines and "step".
ACROSS, DOWN = 0.1, 0.42


def title_of(name: str) -> str:
    """Return the title inside a sentence: "natural loss". An objective outside the registry is a loss of its name."""
    return OBJECTIVES[name].title if name in OBJECTIVES else f"{name.replace('_', ' ').replace('macs', 'MACs')} loss"


def label_of(name: str) -> str:
    """Return the title as the label of a line: "natural"."""
    return title_of(name).removesuffix(" loss")


def unit_of(name: str) -> str:
    """Return the unit of the loss; "" if it is unknown."""
    return OBJECTIVES[name].unit if name in OBJECTIVES else ""


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return objective -> line: fixed series in their colours, all others in turn with a colour and dash of their own."""
    lines: dict[str, dict[str, Any]] = {}
    further = 0
    for name in dict.fromkeys(names):
        if name in SERIES_OF:
            lines[name] = {"color": theme.SERIES[SERIES_OF[name]], "width": 1.8}
            continue
        colour, dash = theme.FURTHER_SERIES[further % len(theme.FURTHER_SERIES)]
        lines[name], further = {"color": colour, "dash": dash, "width": 1.8}, further + 1
    return lines


def further(objectives: pd.DataFrame) -> list[str]:
    """Return the names of the objectives that are neither the natural nor the adversarial loss, in their order."""
    return [name for name in dict.fromkeys(objectives["objective"]) if name not in SERIES_OF]


def rows_of(names: Sequence[str]) -> int:
    """Return the number of rows of small charts in `further_losses`."""
    return -(-len(names) // COLUMNS)


def further_losses(objectives: pd.DataFrame) -> go.Figure:
    """Return a small chart for each of the `further` objectives, since each has its own unit and scale.

    Args:
        objectives: `RunLog.objectives`.
    """
    names = further(objectives)
    if not names:
        return blank("Further losses appear after the first step that has one")
    figure, lines = themed(go.Figure(), legend=False, margin={"l": 62, "t": 40, "b": 42}), looks(objectives["objective"])
    columns, rows = min(len(names), COLUMNS), rows_of(names)
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        points = objectives[objectives["objective"] == name].sort_values("step")
        _add_chart(figure, points, name, lines[name], str(i + 1) if i else "", _place(column, columns, ACROSS),
                   _place(rows - 1 - row, rows, DOWN))
    return figure


def _place(number: int, count: int, gap: float) -> tuple[float, float]:
    """Return start and end, in 0..1, of the number-th of `count` equal places with gaps between them."""
    size = (1 + gap) / count - gap
    return number * (size + gap), number * (size + gap) + size


def _add_chart(figure: go.Figure, points: pd.DataFrame, name: str, line: dict[str, Any], number: str,
               across: tuple[float, float], up: tuple[float, float]) -> None:
    """Add one small chart.

    Args:
        number: suffix of the names of its axes in Plotly.
    """
    label, unit = label_of(name), f"({unit_of(name)})" if unit_of(name) else ""
    figure.add_scatter(x=points["step"].tolist(), y=points["loss"].tolist(), mode="lines", name=label, xaxis=f"x{number}",
                       yaxis=f"y{number}", line=line, hovertemplate=f"{label} %{{y:.4g}} {unit}<extra></extra>")
    figure.add_annotation(text=f"{label}<br>{unit}" if unit else label, x=across[0], y=up[1], xref="paper", yref="paper",
                          xanchor="left", yanchor="bottom", align="left", showarrow=False, font={"size": 12.5})
    figure.update_layout({
        f"xaxis{number}": AXIS | {"domain": across, "anchor": f"y{number}", "nticks": 4, "rangemode": "tozero",
                                  "title": {"text": "step", "font": {"size": 12.5}}},
        f"yaxis{number}": AXIS | {"domain": up, "anchor": f"x{number}", "nticks": 4, "exponentformat": "SI"}})
