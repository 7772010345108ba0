"""Accuracy under each attack as dots with whiskers (95 % Wilson intervals), one row a network. Frame -> figure, pure."""

from __future__ import annotations

import textwrap

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import themed

# Column prefix -> (name in print, colour, symbol, vertical offset inside the network's row). Weakest attack on top.
MEASURES = {
    "natural": ("natural", theme.SERIES["natural"], "circle", -0.24),
    "fgsm": ("FGSM", theme.OPERATIONS["max_pool_3x3"].colour, "triangle-up", -0.08),
    "pgd20": ("PGD-20", theme.OPERATIONS["dil_conv_5x5"].colour, "diamond", 0.08),
    "autoattack": ("AutoAttack, worst case", theme.SERIES["adversarial"], "square", 0.24),
}
ROW_HEIGHT, FRAME_HEIGHT = 74, 100  # pixels
WIDEST_LABEL = 24  # characters of a network's name on one line, so that the intervals keep their room


def height_of(networks: int) -> int:
    """Pixels that the figure needs."""
    return FRAME_HEIGHT + ROW_HEIGHT * max(1, networks)


def intervals_figure(frame: pd.DataFrame) -> go.Figure:
    """Dots and whiskers.

    Args:
        frame: one row a network: label, and for each of `MEASURES` the columns `<prefix>_accuracy`, `_low`, `_high`
            (fractions; NaN where not measured) and `_images`.
    """
    figure = go.Figure()
    rows = range(len(frame))
    for prefix, (title, colour, symbol, offset) in MEASURES.items():
        measured = frame[f"{prefix}_accuracy"].notna().to_numpy()
        if not measured.any():
            continue
        part = frame[measured]
        value, low, high = (part[f"{prefix}_{end}"] * 100 for end in ("accuracy", "low", "high"))
        hover = [f"<b>{label}</b><br>{title} {v:.1f} % ({lo:.1f}-{hi:.1f}), {n:,.0f} images" for label, v, lo, hi, n in
                 zip(part["label"], value, low, high, part[f"{prefix}_images"])]
        figure.add_scatter(
            x=value, y=[row + offset for row in rows if measured[row]], mode="markers", name=title, hovertext=hover,
            hoverinfo="text", marker={"color": colour, "symbol": symbol, "size": 9},
            error_x={"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, "color": colour,
                     "thickness": 1.6, "width": 4})
    themed(figure, margin={"l": 10, "r": 24, "t": 40, "b": 50})
    ticks = ["<br>".join(textwrap.wrap(label, WIDEST_LABEL)) for label in frame["label"]]
    figure.update_layout(
        hovermode="closest",
        xaxis={"title": {"text": "Accuracy, test split (%), with 95 % Wilson interval"}, "ticksuffix": " %", "range": [-1, 101]},
        yaxis={"tickvals": list(rows), "ticktext": ticks, "range": [len(frame) - 0.5, -0.5], "automargin": True,
               "zeroline": False, "showgrid": False})
    return figure
