"""The chart of accuracy (above) and loss (below) over the steps of a search or retraining."""

from __future__ import annotations

from typing import Any

import pandas as pd

from app import theme
from app.charts.frame import AXIS, PlainFigure, blank, common_layout

# Name in the run log -> (row of the figure, series in theme.SERIES, text in the legend, dash).
LINES = {
    "natural_accuracy": ("accuracy", "natural", "natural", "solid"),
    "adversarial_accuracy": ("accuracy", "adversarial", "adversarial", "solid"),
    "natural_loss": ("loss", "natural", "natural", "solid"),
    "adversarial_loss": ("loss", "adversarial", "adversarial", "solid"),
    "trades_loss": ("loss", "adversarial", "TRADES KL", "dash"),
    "train_loss": ("loss", "training", "training batch", "dot"),
}
NAMES = tuple(LINES)


def trade_off(epochs: pd.DataFrame, steps: pd.DataFrame | None = None, *, split: str, joined: bool = True) -> PlainFigure:
    """Return a figure with natural and adversarial accuracy in its upper half and the losses in its lower half.

    Args:
        epochs: means over each epoch, from `RunLog.curves`, with columns epoch, step, split, statistics, name (of the metric) and
            value.
        steps: values at single steps, from `RunLog.steps_curve`, with columns step, name and value. They are drawn as thin lines
            in the background, so that the chart also changes before an epoch ends.
        split: "alphas" or "select". Natural and adversarial values are drawn only if they were measured on this split. The
            training loss is drawn regardless of the split it was measured on.
        joined: True to connect the natural and adversarial values by lines. False if each value belongs to a different network.
    """
    shown = epochs[epochs["name"].isin(NAMES) & ((epochs["split"] == split) | (epochs["name"] == "train_loss"))]
    if shown.empty and (steps is None or steps.empty):
        return blank("The first losses appear with the first step")
    traces = [] if steps is None else _of_steps(steps if joined else steps[steps["name"] == "train_loss"])
    means = dict(tuple(shown.sort_values("step").groupby("name")))
    for name, (row, series, text, dash) in LINES.items():
        if name in means:
            where = f"{split} split, not a result, " if row == "accuracy" else ""
            traces.append(_of_epochs(means[name], row, series, text, dash, joined or name == "train_loss", where))
    return {"data": traces, "layout": common_layout(margin={"l": 62, "b": 42}) | {
        "xaxis": AXIS | {"title": {"text": "step", "font": {"size": 12.5}}, "anchor": "y2", "rangemode": "tozero"},
        "yaxis": AXIS | {"title": {"text": "accuracy", "font": {"size": 12.5}},
                         "domain": [0.55, 1.0], "ticksuffix": " %", "range": [0, 102]},
        "yaxis2": {"title": {"text": "loss (nats)", "font": {"size": 12.5}}, "domain": [0.0, 0.46], "rangemode": "tozero"}}}


def _of_epochs(points: pd.DataFrame, row: str, series: str, text: str, dash: str, joined: bool, where: str) -> dict[str, Any]:
    """Return the trace of one metric, with one point per epoch.

    Args:
        points: rows of the metric, as in the table `epochs` of `trade_off`.
        row, series, text, dash: entry of the metric in `LINES`.
        joined: True to connect the points by a line.
        where: text that the hover text shows before the epoch.
    """
    per_cent = row == "accuracy"
    return {
        "type": "scatter", "x": points["step"].tolist(), "y": _drawn(points["value"], row),
        "mode": "lines+markers" if joined else "markers", "name": text, "legendgroup": series,
        "showlegend": per_cent or series == "training", "yaxis": "y" if per_cent else "y2",
        "customdata": points["epoch"].tolist(), "line": {"color": theme.SERIES[series], "width": 2.2, "dash": dash},
        "marker": {"size": 6}, "hovertemplate": f"{text} {row} " + ("%{y:.1f} %" if per_cent else "%{y:.3f}")
        + f" ({where}epoch %{{customdata}})<extra></extra>"}


def _of_steps(steps: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one trace per metric with its values at single steps. Metrics with fewer than two values are left out."""
    lines = dict(tuple(steps.sort_values("step").groupby("name")))
    return [{"type": "scatter", "x": lines[name]["step"].tolist(), "y": _drawn(lines[name]["value"], row), "mode": "lines",
             "legendgroup": series, "showlegend": False, "yaxis": "y" if row == "accuracy" else "y2",
             "line": {"color": theme.faint(theme.SERIES[series]), "width": 1}, "hoverinfo": "skip"}
            for name, (row, series, _, _) in LINES.items() if name in lines and len(lines[name]) > 1]


def _drawn(values: pd.Series, row: str) -> list[float]:
    """Return values as they are drawn: accuracies in per cent with two decimals, losses as they are."""
    drawn: list[float] = ((100 * values).round(2) if row == "accuracy" else values).tolist()
    return drawn
