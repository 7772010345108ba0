"""Charts of how a search weighs its objectives, apart from the weights themselves: norms of gradients, stationarity, and the
share of steps that a single objective decided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from app import theme
from app.charts.frame import AXIS, PlainFigure, blank, common_layout
from app.charts.objectives import label_of, looks
from engine.insight.objectives import Vertices

PLAIN = {"size": 12.5}
PANELS = ((0.0, 0.46), (0.54, 1.0))  # the two charts of `vertices`, as shares of the width
FEW = 12  # epochs up to which each has a tick
NEAR = 50  # ratio of the largest to the smallest value up to which a logarithmic axis has ticks between powers of ten
WIDEST = 132  # end of the horizontal axes in per cent, with space for the text of a full bar


def gradients(objectives: pd.DataFrame, stationarity: pd.DataFrame) -> PlainFigure:
    """Return a figure of gradient norms: the objectives' single gradients above, and the weighted sum of these gradients below.

    Args:
        objectives: table from `RunLog.objectives`.
        stationarity: table from `RunLog.stationarity`.
    """
    measured = objectives[objectives["norm"] > 0]
    if measured.empty:
        return blank("The first gradients appear after the first step")
    lines = looks(objectives["objective"])
    traces = [_line(points["step"], points["norm"], f"{label_of(str(name))} gradient", lines[str(name)])
              for name, points in measured.sort_values("step").groupby("objective", sort=False)]
    combined = stationarity[stationarity["stationarity"] > 0]
    traces.append(_line(combined["step"], combined["stationarity"], "weighted sum",
                        {"color": theme.SERIES["training"], "width": 1.6}) | {"yaxis": "y2", "showlegend": False})
    return {"data": traces, "layout": common_layout(margin={"l": 66, "b": 42}) | {
        "xaxis": AXIS | {"title": {"text": "step", "font": PLAIN}, "anchor": "y2"},
        "yaxis": _logarithmic(measured["norm"]) | {"title": {"text": "norm", "font": PLAIN}, "domain": [0.52, 1]},
        "yaxis2": _logarithmic(combined["stationarity"]) | {"title": {"text": "stationarity", "font": PLAIN},
                                                            "domain": [0, 0.42]}}}


def _logarithmic(values: pd.Series) -> dict[str, Any]:
    """Return a logarithmic axis for positive values, with ticks at powers of ten, or at three values if the range is narrow."""
    if values.empty or values.max() / values.min() > NEAR:
        return AXIS | {"type": "log", "dtick": 1, "tickformat": "~g"}
    marks = {float(f"{value:.2g}") for value in np.geomspace(values.min(), values.max(), 3)}
    return AXIS | {"type": "log", "tickvals": sorted(marks), "tickformat": "~g"}


def _line(steps: pd.Series, values: pd.Series, name: str, line: dict[str, Any]) -> dict[str, Any]:
    return {"type": "scatter", "x": steps.tolist(), "y": values.tolist(), "mode": "lines", "name": name, "line": line,
            "hovertemplate": f"{name} %{{y:.3g}}<extra></extra>"}


def vertices(whole: Vertices, newest: Vertices) -> PlainFigure:
    """Return a figure that shows the share of steps in which each objective decided alone, and in which it was ignored.

    An objective decides alone if its weight is 1, and is ignored if its weight is 0. Bars show shares of all steps. A line across
    a bar shows the share of the newest steps, unless these are all steps.

    Args:
        whole: shares of all steps of the search.
        newest: shares of the newest steps of the search.
    """
    if not whole.steps:
        return blank("Shares appear after the first step")
    lines, names = looks(whole.alone), list(whole.alone)
    labels, colours = [label_of(name) for name in names], [lines[name]["color"] for name in names]
    figure: PlainFigure = {"data": [], "layout": common_layout(legend=False, margin={"l": 150, "t": 30, "b": 42}) | {
        "annotations": [], "bargap": 0.35, "hovermode": "closest",
        "yaxis": AXIS | {"autorange": "reversed", "showgrid": False, "type": "category", "ticklabelstandoff": 8}}}
    for number, (title, shares, recent) in enumerate((("decides alone (weight 1)", whole.alone, newest.alone),
                                                      ("is ignored (weight 0)", whole.ignored, newest.ignored))):
        axis = str(number + 1) if number else ""
        figure["layout"][f"xaxis{axis}"] = AXIS | {
            "domain": PANELS[number], "range": [0, WIDEST], "tickvals": [0, 50, 100], "title": {"text": "% of the steps",
                                                                                                "font": PLAIN}}
        values = [100 * shares[name] for name in names]
        figure["data"].append({
            "type": "bar", "orientation": "h", "y": labels, "x": values, "xaxis": f"x{axis}", "yaxis": "y", "showlegend": False,
            "text": [f"{value:.0f} %" for value in values], "textposition": "outside", "cliponaxis": False,
            "marker": {"color": colours}, "hovertemplate": f"%{{y}} {title} in %{{x:.1f}} % of all steps<extra></extra>"})
        if newest.steps < whole.steps:
            figure["data"].append(_marks(labels, [100 * recent.get(name, 0.0) for name in names], newest.steps, f"x{axis}"))
        figure["layout"]["annotations"].append({
            "text": f"<b>{title}</b>", "x": PANELS[number][0], "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left",
            "yanchor": "bottom", "showarrow": False, "font": PLAIN})
    return figure


def _marks(labels: list[str], values: list[float], steps: int, axis: str) -> dict[str, Any]:
    """Return the trace of the lines that cross the bars. Each line marks the share of the newest steps.

    Args:
        labels: label of each objective.
        values: share of the newest steps in per cent, one per objective.
        steps: number of the newest steps.
        axis: Plotly name of the horizontal axis.
    """
    return {"type": "scatter", "y": labels, "x": values, "xaxis": axis, "yaxis": "y", "mode": "markers", "showlegend": False,
            "marker": {"symbol": "line-ns-open", "size": 22, "color": theme.SERIES["neutral"], "line": {"width": 2.4}},
            "hovertemplate": f"%{{x:.1f}} % of the last {steps:,} steps<extra></extra>"}


def ignored_by_epoch(epochs: pd.DataFrame) -> PlainFigure:
    """Return a figure with the share of steps in which each objective was ignored (had the weight 0), by epoch.

    Args:
        epochs: table from `RunLog.objective_epochs`.
    """
    if epochs.empty:
        return blank("The first shares appear after the first step")
    lines = looks(epochs["objective"])
    traces = [{"type": "scatter", "x": points["epoch"].tolist(), "y": (100 * points["ignored"]).round(2).tolist(),
               "mode": "lines+markers", "name": label_of(str(name)), "line": lines[str(name)], "marker": {"size": 5},
               "hovertemplate": f"{label_of(str(name))} ignored in %{{y:.1f}} % of the steps<extra></extra>"}
              for name, points in epochs.groupby("objective", sort=False)]
    return {"data": traces, "layout": common_layout(margin={"l": 62, "b": 42}) | {
        "xaxis": AXIS | {"title": {"text": "epoch", "font": PLAIN}} | (
            {"dtick": 1} if epochs["epoch"].nunique() <= FEW else {"nticks": 8}),
        "yaxis": AXIS | {"title": {"text": "ignored (% of the steps)", "font": PLAIN}, "range": [-4, 104],
                         "tickvals": [0, 50, 100]}}}
