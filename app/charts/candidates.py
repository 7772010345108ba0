"""Plots of a search's candidates: natural against adversarial accuracy, and accuracy after training against inherited accuracy.

The inherited accuracy of a candidate is its accuracy with the weights of a supernet, without training of its own.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from app import theme
from app.charts.accuracies import accuracy_axes, table_bars
from app.charts.frame import Figure, PlainFigure, blank
from app.formats import count, with_interval


def scatter(candidates: pd.DataFrame, attack: str, split: str) -> PlainFigure:
    """Return a plot with one numbered point per candidate and 95 % Wilson intervals. Only the best candidate's point is filled.

    Args:
        candidates: table from `RunLog.candidates`, best first.
        attack: title of the attack, for the label of the axis.
        split: name of the split that both accuracies were measured on.
    """
    if candidates.empty:
        return blank("The first point appears when a candidate has been measured")
    figure = Figure()
    for name, rows, colour, symbol in (("first in rank", candidates[:1], theme.FRONT, "circle"),
                                       ("others", candidates[1:], theme.DOMINATED, "circle-open")):
        if len(rows):
            _add_points(figure, rows, "natural", attack, split, name=name, colour=colour, symbol=symbol)
    accuracy_axes(figure, f"Natural accuracy, {split} split (%)", f"{attack} accuracy, {split} split (%)")
    return figure


def inherited_scatter(candidates: pd.DataFrame, attack: str, split: str) -> Figure:
    """Return a plot of accuracy after training (vertical) against accuracies with inherited weights (horizontal).

    The vertical accuracy is the one under attack. Inherited weights come from a supernet. Each candidate has two numbered points
    at the same height: one at its natural accuracy with inherited weights, and one at its accuracy under attack with inherited
    weights. The arguments are those of `scatter`.
    """
    measured = candidates[candidates["inherited_natural"].notna()]
    figure = Figure()
    for name, title, colour, symbol in (("inherited_natural", "inherited natural", theme.SERIES["natural"], "circle"),
                                        ("inherited_adversarial", f"inherited {attack}", theme.SERIES["adversarial"], "diamond")):
        _add_points(figure, measured, name, attack, split, name=title, colour=colour, symbol=symbol)
    accuracy_axes(figure, f"Accuracy with inherited weights, {split} split (%)",
                  f"{attack} accuracy after training, {split} split (%)")
    return figure


def _add_points(figure: Figure, rows: pd.DataFrame, x: str, attack: str, split: str, *, name: str, colour: str,
                symbol: str) -> None:
    """Add one numbered point per candidate with 95 % Wilson intervals, at the height of its accuracy under attack.

    Args:
        figure: figure to change.
        rows: candidates, as from `RunLog.candidates`.
        x: column of the accuracy on the horizontal axis.
        attack: title of the attack.
        split: name of the split that the accuracies were measured on.
        name: name of the points in the legend.
        colour, symbol: look of the points.
    """
    figure.add_scatter(
        x=rows[x] * 100, y=rows["adversarial"] * 100, name=name, mode="markers+text", text=rows["candidate"].astype(str),
        textposition="top right", hoverinfo="text", hovertext=[_hover(row, attack, split) for row in rows.to_dict("records")],
        marker={"size": 12, "color": colour, "symbol": symbol, "line": {"width": 1.6, "color": colour}},
        error_x=table_bars(rows, x), error_y=table_bars(rows, "adversarial"))


def _hover(row: dict[str, Any], attack: str, split: str) -> str:
    def accuracy(name: str) -> str:
        return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])

    inherited = "" if pd.isna(row["inherited_natural"]) else (
        f"<br>inherited: natural {accuracy('inherited_natural')}<br>inherited: {attack} {accuracy('inherited_adversarial')}")
    return (f"<b>Candidate {row['candidate']}, rank {row['rank']}</b><br>natural {accuracy('natural')}"
            f"<br>{attack} {accuracy('adversarial')}{inherited}"
            f"<br>{row['images']:,} images of the {split} split, not a result<br>"
            f"{count(row['parameters'])} parameters, {count(row['macs'])} MACs")
