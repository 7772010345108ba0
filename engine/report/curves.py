"""Training and search curves as SVG, drawn for reports without a chart library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460.0, 210.0, 46.0, 12.0, 12.0, 34.0
# Name in the run log -> (panel, series of the style sheet, text in the legend, dash).
LINES = {
    "natural_accuracy": ("accuracy", "natural", "natural", ""),
    "adversarial_accuracy": ("accuracy", "adversarial", "adversarial", "7 4"),
    "natural_loss": ("loss", "natural", "natural", ""),
    "adversarial_loss": ("loss", "adversarial", "adversarial", "7 4"),
    "trades_loss": ("loss", "adversarial", "TRADES KL", "2 3"),
    "train_loss": ("loss", "training", "training batch", "2 3"),
}


def training_curves(curves: pd.DataFrame, split: str) -> str:
    """Return the charts of accuracy and loss of a run as HTML, or "" for a run without curves.

    Args:
        curves: means over each epoch, from `RunLog.curves`.
        split: split whose natural and adversarial values are shown. The training loss is shown regardless of the split it was
            measured on.
    """
    charts = [_figure(series, title_of(panel, split), top_of(panel)) for panel, series in panels(curves, split).items()]
    return f'<div class="side">{"".join(charts)}</div>' if charts else ""


def panels(curves: pd.DataFrame, split: str) -> dict[str, dict[str, Points]]:
    """Return {"accuracy" or "loss": {name in `LINES`: points (step, value)}} for a run, without panels that have no points.

    Args:
        curves: means over each epoch, from `RunLog.curves`.
        split: split whose natural and adversarial values are returned. The training loss is returned regardless of the split it
            was measured on.
    """
    shown = curves[(curves["split"] == split) | (curves["name"] == "train_loss")].sort_values("step")
    found: dict[str, dict[str, Points]] = {"accuracy": {}, "loss": {}}
    for name, rows in shown.groupby("name", sort=False):
        if name in LINES:
            points = list(zip(rows["step"].astype(float), rows["value"].astype(float), strict=True))
            found[LINES[str(name)][0]][str(name)] = points
    return {panel: series for panel, series in found.items() if series}


def title_of(panel: str, split: str) -> str:
    """Return the title of a panel, for example "accuracy over steps, select split"."""
    return f"{panel} over steps, {split} split"


def top_of(panel: str) -> float | None:
    """Return the upper end of a panel's y axis; None if the points determine it."""
    return 1.0 if panel == "accuracy" else None


def _figure(series: Mapping[str, Points], title: str, top: float | None) -> str:
    """Return a line chart with a legend as an HTML figure."""
    return (f"<figure><figcaption>{escape(title)}</figcaption>{chart_svg(series, title, top=top)}"
            f'<div class="rp-legend">{"".join(_entry(name) for name in series)}</div></figure>')


def chart_svg(series: Mapping[str, Points], title: str, *, top: float | None = None) -> str:
    """Return a line chart without a legend as one SVG element.

    Args:
        series: {name of a line: points (x, y)}. The names are those in `LINES`.
        title: description for screen readers.
        top: upper end of the y axis, or None to use the largest y of the points.
    """
    points = [point for line in series.values() for point in line]
    right = max(x for x, _ in points) or 1.0
    high = top if top is not None else max(y for _, y in points) or 1.0

    def at(x: float, y: float) -> str:
        return (f"{LEFT + (WIDTH - LEFT - RIGHT) * x / right:.1f},"
                f"{TOP + (HEIGHT - TOP - BOTTOM) * (1 - max(0.0, min(y, high)) / high):.1f}")

    lines = "".join(_line(name, [at(x, y) for x, y in line]) for name, line in series.items())
    return (f'<svg class="chart" width="{WIDTH:.0f}" height="{HEIGHT:.0f}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
            f'aria-label="{escape(title)}">{_axes(right, high)}{lines}</svg>')


def _line(name: str, points: Sequence[str]) -> str:
    _, series, _, dash = LINES[name]
    look = f'style="stroke:var(--{series})" stroke-dasharray="{dash}"'
    if len(points) == 1:
        x, y = points[0].split(",")
        return f'<circle cx="{x}" cy="{y}" r="3" style="fill:var(--{series})"/>'
    return f'<polyline class="line" {look} points="{" ".join(points)}"/>'


def _entry(name: str) -> str:
    _, series, text, dash = LINES[name]
    return (f'<span><svg width="34" height="8" aria-hidden="true"><line x1="1" x2="33" y1="4" y2="4" stroke-width="2" '
            f'style="stroke:var(--{series})" stroke-dasharray="{dash}"/></svg>{escape(text)}</span>')


def _axes(right: float, high: float) -> str:
    """Return the axes of a chart as SVG. The y axis has five labels, the x axis one at each end."""
    marks = []
    for step in range(5):
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - step / 4)
        marks.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{high * step / 4:.3g}</text>')
    base = HEIGHT - BOTTOM + 16
    return (f'{"".join(marks)}<text x="{LEFT}" y="{base}">0</text>'
            f'<text x="{WIDTH - RIGHT}" y="{base}" text-anchor="end">{right:,.0f} steps</text>')
