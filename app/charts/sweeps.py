"""Charts of accuracy against radius and accuracy against number of steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app import theme
from app.charts.categories import CATEGORY_COLOURS, SYMBOLS
from app.charts.frame import Figure, themed
from app.formats import with_interval
from engine.attack.protocol import NORM_TITLES
from engine.config import pixels_text
from engine.report.sweeps import Curve

DASHES = ("solid", "dash", "dot", "dashdot")


def sweep_figure(curves: Sequence[Curve]) -> Figure:
    """Return a figure of accuracy curves with 95 % Wilson intervals. Each network has one colour.

    If a single run of the attack gives a whole curve (`Curve.whole`), the curve is drawn as a line with a band. Other curves are
    drawn as markers with error bars.

    Args:
        curves: at least one curve. Either all curves are over the radius, or all are over the number of steps.
    """
    figure = Figure()
    runs, attacks = (list(dict.fromkeys(getattr(curve, name) for curve in curves)) for name in ("run", "attack"))
    for curve in curves:
        place, kind = runs.index(curve.run), attacks.index(curve.attack)
        colour = CATEGORY_COLOURS[place % len(CATEGORY_COLOURS)]
        x = [radius for radius, _ in curve.points]
        low, y, high = ([100 * getattr(result, end) for _, result in curve.points] for end in ("low", "accuracy", "high"))
        name = curve.label if len(attacks) == 1 else f"{curve.label}, {curve.title}"
        hover = [f"<b>{curve.label}</b><br>{curve.title} at {_at(curve, radius)}: "
                 f"{with_interval(result.accuracy, result.low, result.high)}, {result.images:,} images"
                 for radius, result in curve.points]
        if curve.whole:
            figure.add_scatter(x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", mode="lines", hoverinfo="skip",
                               fillcolor=theme.faint(colour, 0.13), line={"width": 0}, showlegend=False)
        bars = {} if curve.whole else {"error_y": {
            "type": "data", "symmetric": False, "array": np.subtract(high, y), "arrayminus": np.subtract(y, low),
            "color": colour, "thickness": 1.2, "width": 3}}
        figure.add_scatter(
            x=x, y=y, name=name, mode="lines" if curve.whole else "lines+markers", hovertext=hover, hoverinfo="text",
            line={"color": colour, "width": 2 if curve.whole else 1.2, "dash": DASHES[kind % len(DASHES)]},
            marker={"color": colour, "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8}, **bars)
    themed(figure, margin={"l": 62, "t": 40, "b": 50})
    first = curves[0]
    title = (f"Radius of the {NORM_TITLES.get(first.norm, first.norm)} ball (pixels in 0 to 1)" if first.sweep == "epsilon"
             else "Steps of the attack")
    figure.update_layout(hovermode="closest", xaxis={"title": {"text": title}},
                         yaxis={"title": {"text": "Accuracy, test split (%)"}, "ticksuffix": " %", "range": [-2, 102]})
    if first.sweep == "epsilon":
        figure.add_hline(y=50, line={"color": theme.SERIES["neutral"], "width": 1, "dash": "dot"})
    else:
        steps = sorted({value for curve in curves for value, _ in curve.points})
        figure.update_xaxes(type="log", tickvals=steps, ticktext=[f"{value:g}" for value in steps])
    return figure


def _at(curve: Curve, value: float) -> str:
    return f"radius {pixels_text(value)}" if curve.sweep == "epsilon" else f"{value:g} steps"
