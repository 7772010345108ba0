"""Axes and error bars that plots of two accuracies share."""

from __future__ import annotations

import pandas as pd

from app.charts.frame import Figure, themed


def accuracy_axes(figure: Figure, x: str, y: str) -> None:
    """Apply the shared look to a plot of two accuracies in per cent, and set the titles of its axes to `x` and `y`."""
    themed(figure, margin={"l": 70, "t": 40, "b": 56})
    figure.update_layout(xaxis={"title": {"text": x}, "ticksuffix": " %"}, yaxis={"title": {"text": y}, "ticksuffix": " %"},
                         hovermode="closest")


def table_bars(rows: pd.DataFrame, name: str) -> dict[str, object]:
    """Return Plotly error bars that show 95 % Wilson intervals in per cent.

    Args:
        rows: table with the columns <name>, <name>_low and <name>_high, as fractions.
        name: prefix of the columns, for example "natural".
    """
    return {"type": "data", "symmetric": False, "array": (rows[f"{name}_high"] - rows[name]) * 100, "thickness": 1, "width": 3,
            "arrayminus": (rows[name] - rows[f"{name}_low"]) * 100, "color": "rgba(127,127,127,.55)"}
