"""The chart of accuracy (above) and loss (below) over the steps of a search or retraining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
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


class Points(NamedTuple):
    """The values of one quantity, in the order of the steps.

    Attributes:
        steps, epochs: step and epoch of each value.
        values: the values.
    """

    steps: npt.NDArray[np.int64]
    epochs: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


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
    traces = [_of_steps(singles[name], *LINES[name][:2]) for name in LINES if name in singles and len(singles[name].steps) > 1]
    for name, (row, series, text, dash) in LINES.items():
        if name in means:
            where = f"{split} split, not a result, " if row == "accuracy" else ""
            traces.append(_of_epochs(means[name], row, series, text, dash, joined or name == "train_loss", where))
    return {"data": traces, "layout": common_layout(margin={"l": 62, "b": 42}) | {
        "xaxis": AXIS | {"title": {"text": "step", "font": {"size": 12.5}}, "anchor": "y2", "rangemode": "tozero"},
        "yaxis": AXIS | {"title": {"text": "accuracy", "font": {"size": 12.5}},
                         "domain": [0.55, 1.0], "ticksuffix": " %", "range": [0, 102]},
        "yaxis2": {"title": {"text": "loss (nats)", "font": {"size": 12.5}}, "domain": [0.0, 0.46], "rangemode": "tozero"}}}


def _by_name(table: pd.DataFrame | None, chosen: Callable[[str, str], bool]) -> dict[str, Points]:
    """Return {name of a metric: its points}.

    This uses arrays, because the chart is drawn at every step, and grouping a data frame would take longer than its query.

    Args:
        table: table with columns epoch, step, split, name and value; None for no points. Rows of one metric stand together.
        chosen: function that tells from the name and the split whether the points of a metric are drawn.
    """
    if table is None or table.empty:
        return {}
    names, splits, *columns = (table[name].to_numpy() for name in ("name", "split", "step", "epoch", "value"))
    starts = np.flatnonzero(np.append(True, (names[1:] != names[:-1]) | (splits[1:] != splits[:-1])))
    found: dict[str, list[slice]] = {}
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        if chosen(names[start], splits[start]):
            found.setdefault(names[start], []).append(slice(start, end))
    return {name: _in_order([np.concatenate([column[part] for part in parts]) for column in columns])
            for name, parts in found.items()}


def _in_order(columns: Sequence[npt.NDArray[Any]]) -> Points:
    """Return points, given their steps, epochs and values, in the order of their steps."""
    order = np.argsort(columns[0], kind="stable")
    return Points(*(column[order] for column in columns))


def _of_epochs(points: Points, row: str, series: str, text: str, dash: str, joined: bool, where: str) -> dict[str, Any]:
    """Return the trace of the means of one quantity over each epoch. In the hover text, `where` comes before the epoch."""
    per_cent = row == "accuracy"
    return {
        "type": "scatter", "x": points.steps.tolist(), "y": _drawn(points.values, row),
        "mode": "lines+markers" if joined else "markers", "name": text, "legendgroup": series,
        "showlegend": per_cent or series == "training", "yaxis": "y" if per_cent else "y2",
        "customdata": points.epochs.tolist(), "line": {"color": theme.SERIES[series], "width": 2.2, "dash": dash},
        "marker": {"size": 6}, "hovertemplate": f"{text} {row} " + ("%{y:.1f} %" if per_cent else "%{y:.3f}")
        + f" ({where}epoch %{{customdata}})<extra></extra>"}


def _of_steps(points: Points, row: str, series: str) -> dict[str, Any]:
    """Return the trace of one quantity's values at single steps."""
    return {"type": "scatter", "x": points.steps.tolist(), "y": _drawn(points.values, row), "mode": "lines",
            "legendgroup": series, "showlegend": False, "yaxis": "y" if row == "accuracy" else "y2",
            "line": {"color": theme.faint(theme.SERIES[series]), "width": 1}, "hoverinfo": "skip"}


def _drawn(values: npt.NDArray[np.float64], row: str) -> list[float]:
    """Return values for the chart: accuracies in per cent with two decimals, and losses unchanged."""
    drawn: list[float] = ((100 * values).round(2) if row == "accuracy" else values).tolist()
    return drawn
