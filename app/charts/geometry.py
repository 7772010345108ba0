"""Shapes in a plot of two measures: boundaries of regions, bands between two boundaries, and separate places for equal points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import cos, pi, sin, sqrt

from app import theme
from app.charts.frame import Figure
from engine.report.attainment import stairs

Point = tuple[float, float]
Range = tuple[float, float]

GOLDEN = pi * (3 - sqrt(5))  # angle between successive points of a spiral that fills a disc evenly
SPREAD, WIDEST = 9.0, 34.0  # pixels: distance between points of equal values, and largest distance from their place
PADDING = 0.07  # of the span of the values, at each end of an axis


def padded(values: Sequence[float]) -> Range:
    """Return the range of an axis that shows all values with some space around them."""
    low, high = min(values), max(values)
    space = PADDING * (high - low) or PADDING * abs(high) or 1.0
    return low - space, high + space


def boundary(points: Sequence[Point], larger: tuple[bool, bool], ranges: tuple[Range, Range]) -> list[Point]:
    """Return the boundary of the region in which every position is equalled or beaten by some point in both measures.

    The boundary is returned as the corners of a line through the plot.

    Args:
        points: the points.
        larger: for each axis, True if larger values are better.
        ranges: (lower end, upper end) of each axis. The line starts where the vertical measure is worst, and stops where the
            horizontal measure is worst.
    """
    signs = [1 if one else -1 for one in larger]
    worst = [min(sign * end for end in ends) for sign, ends in zip(signs, ranges, strict=True)]
    corners = stairs([(signs[0] * x, signs[1] * y) for x, y in points])
    if not corners:
        return []
    path = [(corners[0][0], worst[1])]
    for (x, y), (following, _) in zip(corners, [*corners[1:], (worst[0], 0.0)], strict=True):
        path += [(x, y), (following, y)]
    return [(signs[0] * x, signs[1] * y) for x, y in path]


def add_band(figure: Figure, best: Sequence[Point], worst: Sequence[Point], colour: str, strength: float = 0.14) -> None:
    """Fill the space between two boundaries. `best` and `worst` hold their corners, from `boundary`."""
    outline = [*best, *reversed(worst)]
    figure.add_scatter(x=[x for x, _ in outline], y=[y for _, y in outline], mode="lines", line={"width": 0}, fill="toself",
                       fillcolor=theme.faint(colour, strength), hoverinfo="skip", showlegend=False)


def add_line(figure: Figure, path: Sequence[Point], colour: str, **look: object) -> None:
    """Draw a boundary as a line. `path` holds its corners, from `boundary`."""
    figure.add_scatter(x=[x for x, _ in path], y=[y for _, y in path], mode="lines", hoverinfo="skip", showlegend=False,
                       line={"color": colour, "width": 1.6, **look})


def spread(points: Sequence[Point], ranges: tuple[Range, Range], size: Point) -> list[Point]:
    """Return a position for each point. Points with equal values are placed side by side around their common position.

    The result depends only on the arguments. A point stays in place if no other point has the same values.

    Args:
        points: values of the points.
        ranges: ranges of the two axes.
        size: width and height of the plot in pixels.
    """
    members: dict[Point, list[int]] = defaultdict(list)
    for number, point in enumerate(points):
        members[point].append(number)
    unit = [(high - low) / pixels for (low, high), pixels in zip(ranges, size, strict=True)]
    places = list(points)
    for (x, y), together in members.items():
        step = min(SPREAD, WIDEST / sqrt(len(together)))
        for turn, number in enumerate(together if len(together) > 1 else []):
            radius = step * sqrt(turn)
            places[number] = (x + unit[0] * radius * cos(turn * GOLDEN), y + unit[1] * radius * sin(turn * GOLDEN))
    return places
