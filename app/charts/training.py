"""The chart of accuracy (above) and loss (below) over the steps of a search or retraining."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import blank, themed

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


def trade_off(epochs: pd.DataFrame, steps: pd.DataFrame | None = None, *, split: str, joined: bool = True) -> go.Figure:
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
    figure = go.Figure()
    if steps is not None:
        _add_steps(figure, steps if joined else steps[steps["name"] == "train_loss"])
    for name, (row, series, text, dash) in LINES.items():
        points = shown[shown["name"] == name].sort_values("step")
        if not points.empty:
            where = f"{split} split, not a result, " if row == "accuracy" else ""
            _add_epochs(figure, points, row, series, text, dash, joined or name == "train_loss", where)
    themed(figure, margin={"l": 62, "b": 42})
    figure.update_layout(
        xaxis={"title": {"text": "step", "font": {"size": 12.5}}, "anchor": "y2", "rangemode": "tozero"},
        yaxis={"title": {"text": "accuracy", "font": {"size": 12.5}},
               "domain": [0.55, 1.0], "tickformat": ".0%", "range": [0, 1.02]},
        yaxis2={"title": {"text": "loss (nats)", "font": {"size": 12.5}}, "domain": [0.0, 0.46], "rangemode": "tozero"})
    return figure


def _add_epochs(figure: go.Figure, points: pd.DataFrame, row: str, series: str, text: str, dash: str, joined: bool,
                where: str) -> None:
    """Draw the means over epochs of one quantity. In the hover text, `where` comes before the epoch."""
    per_cent = row == "accuracy"
    figure.add_scatter(
        x=points["step"].tolist(), y=points["value"].tolist(), mode="lines+markers" if joined else "markers", name=text,
        legendgroup=series,
        showlegend=per_cent or series == "training", yaxis="y" if per_cent else "y2", customdata=points["epoch"].tolist(),
        line={"color": theme.SERIES[series], "width": 2.2, "dash": dash}, marker={"size": 6},
        hovertemplate=f"{text} {row} " + ("%{y:.1%}" if per_cent else "%{y:.3f}")
        + f" ({where}epoch %{{customdata}})<extra></extra>")


def _add_steps(figure: go.Figure, steps: pd.DataFrame) -> None:
    for name, (row, series, _, _) in LINES.items():
        points = steps[steps["name"] == name].sort_values("step")
        if len(points) < 2:
            continue
        figure.add_scatter(
            x=points["step"].tolist(), y=points["value"].tolist(), mode="lines", legendgroup=series, showlegend=False,
            yaxis="y" if row == "accuracy" else "y2", line={"color": theme.faint(theme.SERIES[series]), "width": 1},
            hoverinfo="skip")
