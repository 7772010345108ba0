"""The chart of accuracy against the radius of the ball as SVG, drawn for reports without a chart library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, log10

from engine.attack.protocol import NORM_TITLES
from engine.config import pixels_text
from engine.report.curves import BOTTOM, LEFT, RIGHT, TOP
from engine.report.robustness import Measurement
from engine.report.sweeps import Curve
from engine.report.words import measured_text

WIDTH, HEIGHT = 720.0, 300.0
MOST_STEPS = 7  # between the labels of the radius axis


def radius_chart(curves: Sequence[Curve], epsilon: float) -> str:
    """Return a chart with a legend as an HTML figure, or "" without curves.

    A curve from an attack that gives all radii at once (`Curve.whole`) is a line with a band. Other curves are marks with error
    bars. Bands and bars are 95 % Wilson intervals. Hovering over a mark, or over a point of a line, shows its numbers.

    Args:
        curves: curves over the radius, all in one norm.
        epsilon: radius of the protocol, which is marked.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        return ""
    right = max(max(radius for radius, _ in points), epsilon)
    title = f"accuracy against radius, test split, {points[0][1].images:,} images"
    shapes = "".join(_whole(curve, right) if curve.whole else _marks(curve, right) for curve in curves)
    norm = NORM_TITLES.get(curves[0].norm, curves[0].norm)
    legend = "".join(_entry(curve) for curve in curves)
    return (f'<figure><figcaption>{escape(title)}</figcaption><div class="scroll"><svg class="chart" width="{WIDTH:.0f}" '
            f'height="{HEIGHT:.0f}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{escape(title)}">'
            f'{_axes(right, f"radius in {norm}, pixels in 0 to 1")}{_guides(right, epsilon)}{shapes}</svg></div>'
            f'<div class="rp-legend">{legend}</div></figure>')


def _x(radius: float, right: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * radius / right


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _whole(curve: Curve, right: float) -> str:
    high, low = ([f"{_x(radius, right):.1f},{_y(getattr(one, end)):.1f}" for radius, one in curve.points]
                 for end in ("high", "low"))
    line = " ".join(f"{_x(radius, right):.1f},{_y(one.accuracy):.1f}" for radius, one in curve.points)
    dots = "".join(_dot(curve, radius, one, right, 2.5, "adversarial") for radius, one in curve.points)
    return (f'<polygon style="fill:var(--adversarial);fill-opacity:.15" points="{" ".join([*high, *reversed(low)])}"/>'
            f'<polyline class="line" style="stroke:var(--adversarial)" points="{line}"/>{dots}')


def _marks(curve: Curve, right: float) -> str:
    bars = "".join(f'<line x1="{_x(radius, right):.1f}" x2="{_x(radius, right):.1f}" y1="{_y(one.low):.1f}" '
                   f'y2="{_y(one.high):.1f}" style="stroke:var(--natural);stroke-width:1.5"/>' for radius, one in curve.points)
    return bars + "".join(_dot(curve, radius, one, right, 4.5, "natural") for radius, one in curve.points)


def _dot(curve: Curve, radius: float, one: Measurement, right: float, size: float, series: str) -> str:
    words = escape(f"{curve.title}, radius {pixels_text(radius)}: {measured_text(one)}")
    return (f'<circle cx="{_x(radius, right):.1f}" cy="{_y(one.accuracy):.1f}" r="{size}" style="fill:var(--{series})">'
            f"<title>{words}</title></circle>")


def _guides(right: float, epsilon: float) -> str:
    """Return two lines as SVG: one at an accuracy of 50 %, and one at the protocol's epsilon."""
    place, half = _x(epsilon, right), _y(0.5)
    beside, anchor = (place - 6, "end") if place > WIDTH / 2 else (place + 6, "start")
    look = 'style="stroke:var(--soft);stroke-dasharray:3 4"'
    return (f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{half:.1f}" y2="{half:.1f}" {look}/>'
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" {look}/>'
            f'<text x="{beside:.1f}" y="{HEIGHT - BOTTOM - 6:.1f}" text-anchor="{anchor}">'
            f"epsilon {escape(pixels_text(epsilon))}</text>")


def _axes(right: float, title: str) -> str:
    base, marks = HEIGHT - BOTTOM, []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        marks.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>')
    marks += [f'<text x="{_x(radius, right):.1f}" y="{base + 15:.1f}" text-anchor="middle">{radius:.4g}</text>'
              for radius in _round_radii(right)]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return f'{"".join(marks)}<text x="{middle:.1f}" y="{base + 31:.1f}" text-anchor="middle">{escape(title)}</text>'


def _round_radii(right: float) -> list[float]:
    """Return round numbers from 0 to `right` for the labels of the axis, at most eight."""
    power = 10.0 ** (floor(log10(right)) - 1)
    step = next(factor * power for factor in (1, 2, 5, 10, 20, 50) if factor * power * MOST_STEPS >= right)
    return [number * step for number in range(int(right / step + 1e-9) + 1)]


def _entry(curve: Curve) -> str:
    """Return the entry of a curve in the legend as HTML."""
    sign = ('<line x1="1" x2="33" y1="6" y2="6" stroke-width="2" style="stroke:var(--adversarial)"/>' if curve.whole else
            '<circle cx="17" cy="6" r="4.5" style="fill:var(--natural)"/>')
    words = f"{curve.title}, the nearest adversarial images" if curve.whole else f"{curve.title}, a run at each radius"
    return f'<span><svg width="34" height="12" aria-hidden="true">{sign}</svg>{escape(words)}</span>'
