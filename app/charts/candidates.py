"""Plots of the candidates that a search trained and measured: natural versus adversarial accuracy, and accuracies under attack
with inherited weights versus after training.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import blank
from app.charts.pareto import accuracy_axes, interval_bars
from app.formats import count, with_interval


def scatter(candidates: pd.DataFrame, attack: str, split: str) -> go.Figure:
    """Return a plot with one numbered point per candidate and 95 % Wilson intervals. Only the best candidate's point is filled.

    Args:
        candidates: table from `RunLog.candidates`, best first.
        attack: title of the attack, for the label of the axis.
        split: name of the split that both accuracies were measured on.
    """
    if candidates.empty:
        return blank("The first point appears when a candidate has been measured")
    figure = _points(candidates, "natural", "adversarial", attack, split)
    accuracy_axes(figure, f"Natural accuracy, {split} split (%)", f"{attack} accuracy, {split} split (%)")
    return figure


def inherited_scatter(candidates: pd.DataFrame, attack: str, split: str) -> go.Figure:
    """Return a plot of each candidate's accuracy under attack: with the weights of a supernet, and after its own training.

    The points are those of `scatter`, and the arguments as well. A point on the dotted diagonal has equal accuracies.
    """
    measured = candidates[candidates["inherited_adversarial"].notna()]
    figure = _points(measured, "inherited_adversarial", "adversarial", attack, split)
    low, high = (100 * function(measured[["adversarial", "inherited_adversarial"]].to_numpy().ravel()) for function in (min, max))
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", name="equal", hoverinfo="skip",
                       line={"color": theme.DOMINATED, "width": 1, "dash": "dot"})
    accuracy_axes(figure, f"{attack} accuracy with inherited weights, {split} split (%)",
                  f"{attack} accuracy after training, {split} split (%)")
    return figure


def _points(candidates: pd.DataFrame, x: str, y: str, attack: str, split: str) -> go.Figure:
    """Return a figure with one numbered point per candidate and 95 % Wilson intervals.

    Args:
        candidates: table from `RunLog.candidates`, best first.
        x, y: columns of the two accuracies.
        attack: title of the attack.
        split: name of the split that the accuracies were measured on.
    """
    figure = go.Figure()
    best = candidates["rank"] == 1
    for name, rows, colour, symbol in (("first in rank", candidates[best], theme.FRONT, "circle"),
                                       ("others", candidates[~best], theme.DOMINATED, "circle-open")):
        if len(rows):
            figure.add_scatter(
                x=rows[x] * 100, y=rows[y] * 100, name=name, mode="markers+text",
                text=rows["candidate"].astype(str), textposition="top right", hoverinfo="text",
                hovertext=[_hover(row, attack, split) for row in rows.to_dict("records")],
                marker={"size": 12, "color": colour, "symbol": symbol, "line": {"width": 1.6, "color": colour}},
                error_x=interval_bars(rows, x), error_y=interval_bars(rows, y))
    return figure


def _hover(row: dict[str, Any], attack: str, split: str) -> str:
    def accuracy(name: str) -> str:
        return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])

    inherited = "" if pd.isna(row["inherited_natural"]) else (
        f"<br>inherited: natural {accuracy('inherited_natural')}<br>inherited: {attack} {accuracy('inherited_adversarial')}")
    return (f"<b>Candidate {row['candidate']}, rank {row['rank']}</b><br>natural {accuracy('natural')}"
            f"<br>{attack} {accuracy('adversarial')}{inherited}"
            f"<br>{row['images']:,} images of the {split} split, not a result<br>"
            f"{count(row['parameters'])} parameters, {count(row['macs'])} MACs")
