"""Accuracy under each attack as dots with whiskers (95 % Wilson intervals), one row per network."""

from __future__ import annotations

import textwrap

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import themed
from app.formats import with_interval

# Column prefix -> (title, colour, symbol, vertical offset within the network's row). The weakest attack is at the top.
MEASURES = {
    "natural": ("natural", theme.SERIES["natural"], "circle", -0.24),
    "fgsm": ("FGSM", theme.OPERATIONS["max_pool_3x3"].colour, "triangle-up", -0.08),
    "pgd20": ("PGD-20", theme.OPERATIONS["dil_conv_5x5"].colour, "diamond", 0.08),
    "autoattack": ("AutoAttack, worst case", theme.SERIES["adversarial"], "square", 0.24),
}
ENDS = ("accuracy", "low", "high")
ROW_HEIGHT, FRAME_HEIGHT = 74, 100  # pixels
WIDEST_LABEL = 24  # characters per line of a network's name, so that the intervals keep their space


def height_of(networks: int) -> int:
    """Return the height of the figure in pixels."""
    return FRAME_HEIGHT + ROW_HEIGHT * max(1, networks)


def intervals_figure(frame: pd.DataFrame) -> go.Figure:
    """Return the figure.

    Args:
        frame: one row per network: label, and for each of `MEASURES` the columns `<prefix>_accuracy`, `_low`, `_high`
            (fractions; NaN where not measured) and `_images`.
    """
    figure = go.Figure()
    rows = range(len(frame))
    for prefix, (title, colour, symbol, offset) in MEASURES.items():
        measured = frame[f"{prefix}_accuracy"].notna().to_numpy()
        if not measured.any():
            continue
        part = frame[measured]
        value, low, high = (part[f"{prefix}_{end}"] * 100 for end in ENDS)
        hover = [f"<b>{row['label']}</b><br>{title} {with_interval(*(row[f'{prefix}_{end}'] for end in ENDS))}, "
                 f"{row[f'{prefix}_images']:,.0f} images" for row in part.to_dict("records")]
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
