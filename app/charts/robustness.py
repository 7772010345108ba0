"""The chart of accuracies under each attack, as points with 95 % Wilson intervals, in one row per network."""

from __future__ import annotations

import textwrap

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import themed
from app.formats import with_interval
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.attack.declaration import Attack

# Colours and symbols of single attacks, assigned in the order of the catalogue. With seven colours and six symbols, the first 42
# attacks look different.
COLOURS = [theme.OPERATIONS[name].colour for name in (
    "max_pool_3x3", "dil_conv_5x5", "dil_conv_3x3", "sep_conv_5x5", "skip_connect", "sep_conv_3x3", "avg_pool_3x3")]
SYMBOLS = ("triangle-up", "diamond", "pentagon", "triangle-down", "hexagon", "star")


def _look(attack: Attack, place: int) -> tuple[str, str]:
    if attack.parts:
        return theme.SERIES["adversarial"], "square"
    return COLOURS[place % len(COLOURS)], SYMBOLS[place % len(SYMBOLS)]


# Prefix of columns -> (name in print, colour, symbol), in the order in which a network's row shows them from top to bottom.
MEASURES = {NATURAL: ("natural", theme.SERIES["natural"], "circle")} | {
    attack.prefix: (attack.header, *_look(attack, place)) for place, (_, attack) in enumerate(ATTACKS.items())}
SPREAD = 0.24  # distance from the middle of a row to its first and last measure, as a share of the row's height
ENDS = ("accuracy", "low", "high")
ROW_HEIGHT, FRAME_HEIGHT = 74, 100  # pixels
WIDEST_LABEL = 24  # characters per line of a network's name; more would leave too little space for the intervals


def height_of(networks: int) -> int:
    """Return the height in pixels of a figure with this number of networks."""
    return FRAME_HEIGHT + ROW_HEIGHT * max(1, networks)


def intervals_figure(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of accuracies with their 95 % Wilson intervals, in one row per network.

    Args:
        frame: one row per network, with the column label and, for each prefix in `MEASURES`, the columns <prefix>_accuracy,
            <prefix>_low, <prefix>_high (fractions, NaN if not measured) and <prefix>_images. The columns of a measure that no
            network has may be missing.
    """
    figure = go.Figure()
    rows = range(len(frame))
    shown = [prefix for prefix in MEASURES if f"{prefix}_accuracy" in frame and frame[f"{prefix}_accuracy"].notna().any()]
    for place, prefix in enumerate(shown):
        title, colour, symbol = MEASURES[prefix]
        offset = SPREAD * (2 * place / max(1, len(shown) - 1) - 1)
        measured = frame[f"{prefix}_accuracy"].notna().to_numpy()
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
