"""Two plots of natural versus adversarial accuracy: attacked networks with their Pareto front, and the epochs of searches.

The two plots are separate because they show different quantities. Attacked networks are measured on the test split. The supernet
of a search is measured on the alphas split (the images that train the alphas).
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import themed
from app.formats import epsilon, escape, percent, plural, with_interval
from engine.attack.protocol import ball_text

# Quantities that a marker's area or colour can show: column -> name.
QUANTITIES = {"parameters": "parameters", "macs": "MACs"}
SMALLEST, LARGEST = 9.0, 26.0  # marker diameter, pixels
MOST_LABELS = 12
WIDEST_LABEL = 44  # characters per line of a label, so that it stays inside the chart
# The colours of operations, which stay distinct under colour-vision deficiencies. The strongest contrast comes first.
CATEGORY_COLOURS = tuple(theme.OPERATIONS[name].colour for name in (
    "sep_conv_5x5", "avg_pool_3x3", "dil_conv_3x3", "dil_conv_5x5", "sep_conv_3x3", "max_pool_3x3", "skip_connect"))
MOST_TOGETHER = 3  # networks of one point that its hover text describes
MOST_LINES = 8  # lines that the reasons of a badge may take in a hover text
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")


def marker_sizes(values: Sequence[float | None]) -> list[float]:
    """Return the diameter in pixels of each marker. The area of a marker grows linearly with its value.

    Markers without a value get the smallest diameter. If all known values are equal, or no value is known, all diameters are
    equal.
    """
    known = [float(value) for value in values if value is not None and value == value]
    if not known or max(known) == min(known):
        return [12.0] * len(values)
    low, span = min(known), max(known) - min(known)
    return [(SMALLEST**2 + (LARGEST**2 - SMALLEST**2) * (float(value) - low) / span) ** 0.5
            if value is not None and value == value else SMALLEST for value in values]


def networks_figure(frame: pd.DataFrame, attack: str, *, size: str = "", colour: str = "front",
                    dominated: bool = True) -> go.Figure:
    """Return the plot of the attacked networks of one group, with their Pareto front.

    Args:
        frame: rows of `RunLog.pareto_networks` that share one fingerprint (the same attack on the same images), with an
            additional columns `label`, the name of the network in the plot, `badge`, the colour of its reliability badge, and
            `badge_reasons`, from `RunLog.runs`.
        attack: title of the attack, for the label of the axis.
        size: quantity that the area of a marker shows: "parameters" or "macs". "" draws all markers in one size.
        colour: property that the colour of a marker shows: "front" (whether the network is on the front), "method", "parameters"
            or "macs".
        dominated: True to draw dominated networks as well.
    """
    frame = frame.assign(diameter=marker_sizes(list(frame[size])) if size else 12.0)
    figure = go.Figure()
    front = frame[frame["is_front"]].sort_values(["natural", "adversarial"])
    figure.add_scatter(x=front["natural"] * 100, y=front["adversarial"] * 100, mode="lines", line_shape="vh", hoverinfo="skip",
                       line={"color": theme.FRONT, "width": 1.6, "dash": "dot"}, showlegend=False)
    shown = frame if dominated else frame[frame["is_front"]]
    marked = [f"{row.label}\u00a0{_badge(row)[1]}" for row in shown.itertuples()]
    shown = shown.assign(hover=_hovers(shown, attack), name=labels_of(shown.assign(label=marked)))
    if len(shown) > MOST_LABELS:  # only the glyphs of doubtful networks
        shown["name"] = ["" if row.badge == "green" else _badge(row)[1] for row in shown.itertuples()]
    for name, rows, marker in _groups(shown, colour):
        figure.add_scatter(
            x=rows["natural"] * 100, y=rows["adversarial"] * 100, name=name, customdata=rows[["run"]].to_numpy(),
            mode="markers+text", text=rows["name"], textposition="top right",
            hovertext=rows["hover"], hoverinfo="text",
            marker={"size": rows["diameter"], "line": {"width": 1, "color": "rgba(127,127,127,.6)"}, **marker},
            error_x=interval_bars(rows, "natural"), error_y=interval_bars(rows, "adversarial"))
    first, images = frame.iloc[0], "{:,} images of the test split (%)"
    natural = images.format(first["natural_images"]) if frame["natural_images"].nunique() == 1 else "test split (%)"
    ball = ball_text(first["norm"], first["epsilon"])
    accuracy_axes(figure, f"Natural accuracy, {natural}", f"{attack} accuracy, {ball}, {images.format(first['images'])}")
    return figure


def _badge(row: Any) -> tuple[str, str, str]:
    """Return (tone, glyph, word) of the reliability badge of a network."""
    return theme.BADGES.get(row.badge, theme.BADGES["amber"])


def labels_of(frame: pd.DataFrame) -> list[str]:
    """Return the label of each network's point.

    If the points of several networks coincide, the first network's label lists the names of all of them. The labels of the others
    are "".
    """
    points = list(zip(frame["natural"], frame["adversarial"], strict=True))
    together = {point: [label for label, other in zip(frame["label"], points, strict=True) if other == point] for point in points}
    return ["<br>".join(textwrap.wrap(", ".join(together.pop(point, [])), WIDEST_LABEL)) for point in points]


def _groups(frame: pd.DataFrame, colour: str) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """Return the traces of the plot, each as a tuple (name in the legend, rows of its networks, Plotly style of its markers).

    If the colour shows the number of parameters or MACs, there is a single trace. Otherwise the traces differ in colour and in
    the shape or fill of their markers.
    """
    if colour in QUANTITIES:
        bar = {"title": {"text": QUANTITIES[colour], "side": "right"}, "thickness": 12, "outlinewidth": 0}
        return [("networks", frame, {"color": frame[colour], "colorscale": "Viridis", "colorbar": bar, "symbol": "circle"})]
    if colour == "method":
        names = sorted(set(frame["method"].astype(str)))
        return [(name, frame[frame["method"].astype(str) == name],
                 {"color": CATEGORY_COLOURS[k % len(CATEGORY_COLOURS)], "symbol": SYMBOLS[k % len(SYMBOLS)]})
                for k, name in enumerate(names)]
    groups = [("on the front", frame[frame["is_front"]], {"color": theme.FRONT, "symbol": "circle"}),
              ("dominated", frame[~frame["is_front"]], {"color": theme.DOMINATED, "symbol": "circle-open"})]
    return [group for group in groups if len(group[1])]


def interval_bars(rows: pd.DataFrame, name: str) -> dict[str, object]:
    """Return Plotly error bars that show 95 % Wilson intervals in per cent.

    Args:
        rows: table with the columns <name>, <name>_low and <name>_high, as fractions.
        name: prefix of the columns, "natural" or "adversarial".
    """
    return {"type": "data", "symmetric": False, "array": (rows[f"{name}_high"] - rows[name]) * 100, "thickness": 1, "width": 3,
            "arrayminus": (rows[name] - rows[f"{name}_low"]) * 100, "color": "rgba(127,127,127,.55)"}


def _hovers(frame: pd.DataFrame, attack: str) -> list[str]:
    """Return the hover text of each network's point.

    The browser shows the text of only one of several points that coincide, so their text describes all their networks.
    """
    points = list(zip(frame["natural"], frame["adversarial"], strict=True))
    texts: dict[tuple[float, float], list[str]] = defaultdict(list)
    for point, row in zip(points, frame.itertuples(), strict=True):
        texts[point].append(_hover(row, attack))
    return ["<br><br>".join([*texts[point][:MOST_TOGETHER], *(
        [f"and {plural(len(texts[point]) - MOST_TOGETHER, 'more network')}"] if len(texts[point]) > MOST_TOGETHER else [])])
        for point in points]


def _hover(row: Any, attack: str) -> str:
    def measured(name: str) -> str:
        images = row.natural_images if name == "natural" else row.images
        return f"{with_interval(*(getattr(row, name + end) for end in ('', '_low', '_high')))}, {images:,.0f} images"

    size = f"<br>{row.parameters:,.0f} parameters, {row.macs:,.0f} MACs" if row.parameters == row.parameters else ""
    return (f"<b>{row.label}</b><br>natural {measured('natural')}<br>{attack} {measured('adversarial')}<br>"
            f"{ball_text(row.norm, row.epsilon)}, fingerprint {row.fingerprint[:6]}<br>{_reliability(row)}{size}"
            f"<br>{row.run}, preset {row.preset}")


def _reliability(row: Any) -> str:
    """Return the badge of a network with its reasons, for a hover text. The reasons are cut to a few lines."""
    _, glyph, word = _badge(row)
    lines = textwrap.wrap(f"{glyph} {word}: {' '.join(row.badge_reasons.split())}", 70, max_lines=MOST_LINES, placeholder=" …")
    return "<br>".join(map(escape, lines))


def epochs_figure(frame: pd.DataFrame, attack: str) -> go.Figure:
    """Return a plot with one line per search and one marker per epoch. The marker of the latest epoch is large and filled.

    Args:
        frame: rows of `RunLog.pareto_epochs` that share one group (the same attack on the same dataset), with an additional
            column `label`, the name of the search in the plot.
        attack: title of the attack, for the label of the axis.
    """
    figure = go.Figure()
    for k, (_, rows) in enumerate(frame.groupby("run", sort=False)):
        rows = rows.sort_values("epoch")
        colour, symbol = CATEGORY_COLOURS[k % len(CATEGORY_COLOURS)], SYMBOLS[k % len(SYMBOLS)]
        last = len(rows) - 1
        hover = [f"<b>{row.label}</b><br>epoch {row.epoch:g}<br>natural {percent(row.natural)}<br>{row.attack_title}, epsilon "
                 f"{epsilon(row.epsilon)}: {percent(row.adversarial)}<br>alphas split, batch statistics, not a result<br>"
                 f"{row.run}" for row in rows.itertuples()]
        figure.add_scatter(
            x=rows["natural"] * 100, y=rows["adversarial"] * 100, mode="lines+markers", name=str(rows["label"].iloc[0]),
            line={"color": colour, "width": 1.6}, hovertext=hover, hoverinfo="text", customdata=rows[["run"]].to_numpy(),
            marker={"color": colour, "size": [13 if i == last else 6 for i in range(last + 1)],
                    "symbol": [symbol if i == last else f"{symbol}-open" for i in range(last + 1)]})
    accuracy_axes(figure, "Natural accuracy, alphas split, batch statistics (%)",
                  f"{attack} accuracy, alphas split, batch statistics (%)")
    return figure


def accuracy_axes(figure: go.Figure, x: str, y: str) -> None:
    """Apply the shared look to a plot of two accuracies in per cent, and set the titles of its axes to `x` and `y`."""
    themed(figure, margin={"l": 70, "t": 40, "b": 56})
    figure.update_layout(xaxis={"title": {"text": x}, "ticksuffix": " %"}, yaxis={"title": {"text": y}, "ticksuffix": " %"},
                         hovermode="closest")
