"""The chart of accuracy (above) and loss (below) over the steps of a search or retraining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

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


class Point(NamedTuple):
    """A value of one quantity at a step of an epoch."""

    step: int
    epoch: int
    value: float


def trade_off(epochs: pd.DataFrame, steps: pd.DataFrame | None = None, *, split: str, joined: bool = True) -> PlainFigure:
    """Return a figure with natural and adversarial accuracy in its upper half and the losses in its lower half.

    Args:
        epochs: means over each epoch, from `RunLog.curves`, with columns epoch, step, split, statistics, name (of the metric) and
            value.
        steps: values at single steps, from `RunLog.steps_curve`, with the same columns. They are drawn as thin lines
            in the background, so that the chart also changes before an epoch ends.
        split: "alphas" or "select". Natural and adversarial values are drawn only if they were measured on this split. The
            training loss is drawn regardless of the split it was measured on.
        joined: True to connect the natural and adversarial values by lines. False if each value belongs to a different network.
    """
    means = _by_name(epochs, lambda name, where: name in LINES and (where == split or name == "train_loss"))
    singles = _by_name(steps, lambda name, _: name in LINES and (joined or name == "train_loss"))
    if not means and (steps is None or steps.empty):
        return blank("The first losses appear with the first step")
    traces = [_of_steps(singles[name], *LINES[name][:2]) for name in LINES if len(singles.get(name, ())) > 1]
    for name, (row, series, text, dash) in LINES.items():
        if name in means:
            where = f"{split} split, not a result, " if row == "accuracy" else ""
            traces.append(_of_epochs(means[name], row, series, text, dash, joined or name == "train_loss", where))
    return {"data": traces, "layout": common_layout(margin={"l": 62, "b": 42}) | {
        "xaxis": AXIS | {"title": {"text": "step", "font": {"size": 12.5}}, "anchor": "y2", "rangemode": "tozero"},
        "yaxis": AXIS | {"title": {"text": "accuracy", "font": {"size": 12.5}},
                         "domain": [0.55, 1.0], "ticksuffix": " %", "range": [0, 102]},
        "yaxis2": {"title": {"text": "loss (nats)", "font": {"size": 12.5}}, "domain": [0.0, 0.46], "rangemode": "tozero"}}}


def _by_name(table: pd.DataFrame | None, chosen: Callable[[str, str], bool]) -> dict[str, list[Point]]:
    """Return {name of a metric: its points in the order of the steps}.

    This uses lists, because the chart is drawn at every step, and grouping a data frame would take longer than its query.

    Args:
        table: table with columns epoch, step, split, name and value; None for no points.
        chosen: function that tells from the name and the split whether a point is drawn.
    """
    found: dict[str, list[Point]] = {}
    columns = () if table is None else [table[name].tolist() for name in ("name", "split", "step", "epoch", "value")]
    for name, split, *point in zip(*columns, strict=True):
        if chosen(name, split):
            found.setdefault(name, []).append(Point(*point))
    return {name: sorted(points, key=attrgetter("step")) for name, points in found.items()}


def _of_epochs(points: Sequence[Point], row: str, series: str, text: str, dash: str, joined: bool, where: str) -> dict[str, Any]:
    """Return the trace of the means of one quantity over each epoch. In the hover text, `where` comes before the epoch."""
    per_cent = row == "accuracy"
    return {
        "type": "scatter", "x": [one.step for one in points], "y": _drawn(points, row),
        "mode": "lines+markers" if joined else "markers", "name": text, "legendgroup": series,
        "showlegend": per_cent or series == "training", "yaxis": "y" if per_cent else "y2",
        "customdata": [one.epoch for one in points], "line": {"color": theme.SERIES[series], "width": 2.2, "dash": dash},
        "marker": {"size": 6}, "hovertemplate": f"{text} {row} " + ("%{y:.1f} %" if per_cent else "%{y:.3f}")
        + f" ({where}epoch %{{customdata}})<extra></extra>"}


def _of_steps(points: Sequence[Point], row: str, series: str) -> dict[str, Any]:
    """Return the trace of one quantity's values at single steps."""
    return {"type": "scatter", "x": [one.step for one in points], "y": _drawn(points, row), "mode": "lines",
            "legendgroup": series, "showlegend": False, "yaxis": "y" if row == "accuracy" else "y2",
            "line": {"color": theme.faint(theme.SERIES[series]), "width": 1}, "hoverinfo": "skip"}


def _drawn(points: Sequence[Point], row: str) -> list[float]:
    """Return the values of points for the chart: accuracies in per cent with two decimals, and losses unchanged."""
    return [round(100 * one.value, 2) if row == "accuracy" else one.value for one in points]
