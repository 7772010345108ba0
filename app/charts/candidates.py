"""The plot of natural versus adversarial accuracy of the candidates that a search trained and measured."""

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
    figure = go.Figure()
    for name, rows, colour, symbol in (("first in rank", candidates[:1], theme.FRONT, "circle"),
                                       ("others", candidates[1:], theme.DOMINATED, "circle-open")):
        if len(rows):
            figure.add_scatter(
                x=rows["natural"] * 100, y=rows["adversarial"] * 100, name=name, mode="markers+text",
                text=rows["candidate"].astype(str), textposition="top right", hoverinfo="text",
                hovertext=[_hover(row, attack, split) for row in rows.to_dict("records")],
                marker={"size": 12, "color": colour, "symbol": symbol, "line": {"width": 1.6, "color": colour}},
                error_x=interval_bars(rows, "natural"), error_y=interval_bars(rows, "adversarial"))
    accuracy_axes(figure, f"Natural accuracy, {split} split (%)", f"{attack} accuracy, {split} split (%)")
    return figure


def _hover(row: dict[str, Any], attack: str, split: str) -> str:
    def accuracy(name: str) -> str:
        return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])

    return (f"<b>Candidate {row['candidate']}, rank {row['rank']}</b><br>natural {accuracy('natural')}"
            f"<br>{attack} {accuracy('adversarial')}<br>{row['images']:,} images of the {split} split, not a result<br>"
            f"{count(row['parameters'])} parameters, {count(row['macs'])} MACs")
