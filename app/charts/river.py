"""The river of a cell: the weights of its operations over the steps, in a small chart for each edge and a large one for one edge.

In a small chart, the operation with the largest weight at the newest step has its own colour and is named above the chart. The
other operations are faint. Ticks below the lines mark flips: steps at which another operation became the strongest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import ceil, floor, log2
from operator import attrgetter
from typing import Any, NamedTuple

from app import theme
from app.charts.alphas import COLUMNS, NARROWEST, ROWS, axis_of, edge_title, span
from app.charts.frame import AXIS, PlainFigure, blank, common_layout
from engine.architecture.genotype import EDGES, derive
from engine.insight.alphas import River
from engine.log.alpha_queries import Course

FAINT = theme.faint(theme.SERIES["neutral"], 0.5)
BELOW = 0.16  # space for the ticks below the lines, as a share of the range of the weights
WAITING = "The architecture weights appear after the first step"
SMALL, PLAIN = {"size": 11.5}, {"size": 12.5}
LINE, LOWER_LINE = 0.065, 0.13  # height of a line of text in the upper and in the lower chart of an edge


class Flip(NamedTuple):
    """A change of the strongest operation of an edge.

    Attributes:
        step, epoch: step and epoch of the change.
        before, after: the strongest operations before and after the change.
    """

    step: int
    epoch: int
    before: str
    after: str


def river(courses: Sequence[Course], course: River | None, *, growing: bool = False) -> PlainFigure:
    """Return a figure with one small chart per edge of a cell. Titles of the edges of the derived cell are bold.

    The charts form a triangle. A row contains the edges that end at one node. A column contains the edges that start at one state
    (an input or node). All charts of a row share one vertical axis, and all charts of a column share one horizontal axis, because
    a browser needs much longer to draw an axis than a line. For the same reason, the axes end at round numbers and, while the
    search goes on, leave room for further steps: most steps then change only lines (`assets/live_lines.js`). A click on a line
    reports its edge (`components.plot_picks`).

    Args:
        courses: the weights of each operation of each edge over the steps, from `RunLog.alpha_courses`.
        course: the same weights as arrays, with the entropy, the margin and the flips (changes of the strongest operation) of
            each edge; None before the first step.
        growing: True unless the search is over.
    """
    if not courses or course is None:
        return blank(WAITING)
    low, high = _rounded(*span(min(min(one.weights) for one in courses), max(max(one.weights) for one in courses)))
    lowest = low - BELOW * (high - low)
    across = [(column / COLUMNS + 0.008, column / COLUMNS + 0.182) for column in range(COLUMNS)]
    up = [(1 - (row + 1) / ROWS + 0.03, 1 - (row + 1) / ROWS + 0.185) for row in range(ROWS)]
    layout = common_layout(legend=False, margin={"l": 56, "r": 6, "t": 24, "b": 44}) | {
        f"xaxis{axis_of(column)}": AXIS | {
            "domain": domain, "anchor": f"y{axis_of(ROWS - 1)}", "nticks": 3, "showgrid": False,
            "title": {"text": "step", "font": SMALL, "standoff": 4}} | ({"matches": "x"} if column else {})
        for column, domain in enumerate(across)}
    layout |= {f"yaxis{axis_of(row)}": AXIS | {
        "domain": domain, "anchor": "x", "nticks": 3, "range": [lowest, high], "tickformat": ".2f",
        "title": {"text": "weight", "font": SMALL, "standoff": 6}} for row, domain in enumerate(up)}
    traces, notes, kept, flips = [], [], derived_edges(course), flips_of(course)
    for edge, lines in groupby(courses, key=attrgetter("edge")):
        source, target = EDGES[edge]
        strongest = course.primitives[course.strongest[-1, edge]]
        place = {"xaxis": f"x{axis_of(source)}", "yaxis": f"y{axis_of(target - 2)}", "meta": str(edge)}
        drawn = list(lines)
        traces += [_faint([one for one in drawn if one.operation != strongest]) | place, *(
            _strong(one) | place for one in drawn if one.operation == strongest)]
        if edge in flips:
            traces.append(_ticks(flips[edge], (lowest + low) / 2) | place)
        notes.append(_heading(edge, course, edge in kept, across[source], up[target - 2][1]))
    if growing:  # a point without a value, which all horizontal axes include
        traces[0]["x"].append(_rounded(0, courses[0].steps[-1])[1])
        traces[0]["y"].append(None)
    return {"data": traces, "layout": layout | {"annotations": notes, "hovermode": "closest"}}


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Return a range that contains the range from `low` to `high`, is at most a quarter longer and has round ends."""
    grain = 2.0 ** ceil(log2(max(high - low, NARROWEST))) / 16
    return floor(low / grain) * grain, ceil(high / grain) * grain


def _faint(courses: Sequence[Course]) -> dict[str, Any]:
    """Return one trace with the lines of several operations, separated by gaps."""
    steps: list[int | None] = []
    weights: list[float | None] = []
    for one in courses:
        steps += [*one.steps, None]
        weights += [*one.weights, None]
    return {"type": "scatter", "x": steps, "y": weights, "mode": "lines", "showlegend": False, "connectgaps": False,
            "line": {"color": FAINT, "width": 1}, "hovertemplate": "%{y:.3f}, step %{x}<extra></extra>"}


def _strong(course: Course) -> dict[str, Any]:
    style = theme.operation(course.operation)
    return {"type": "scatter", "x": course.steps, "y": course.weights, "mode": "lines", "name": style.short, "showlegend": False,
            "line": {"color": style.colour, "width": 2.2},
            "hovertemplate": f"{style.short} %{{y:.3f}}, step %{{x}}<extra></extra>"}


def derived_edges(course: River) -> list[int]:
    """Return the edges (0..13) that the derived cell keeps, by the rule of the search (`engine.architecture.genotype.derive`)."""
    weights = course.weights[-1] if course.edge_weights is None else course.weights[-1] * course.edge_weights[-1][:, None]
    cell = derive(weights.tolist(), course.primitives)
    return [EDGES.index((source, target)) for _, source, target in cell.incoming()]


def flips_of(course: River) -> dict[int, list[Flip]]:
    """Return {edge: its flips (changes of the strongest operation) in the order of the steps}."""
    found: dict[int, list[Flip]] = {}
    for edge, *flip in zip(*(course.flips[name].tolist() for name in ("edge", "step", "epoch", "before", "after")), strict=True):
        found.setdefault(edge, []).append(Flip(*flip))
    return found


def _ticks(flips: Sequence[Flip], height: float) -> dict[str, Any]:
    """Return the ticks of an edge: one at the step of each flip, that is, each change of the strongest operation.

    A tick has the colour of the operation that became the strongest. `height` is the vertical position of the ticks.
    """
    texts = [f"{theme.operation(one.before).short} → {theme.operation(one.after).short}, epoch {one.epoch}" for one in flips]
    return {"type": "scatter", "x": [one.step for one in flips], "y": [height] * len(flips), "mode": "markers",
            "showlegend": False, "cliponaxis": False, "text": texts, "hovertemplate": "%{text}, step %{x}<extra>flip</extra>",
            "marker": {"symbol": "line-ns-open", "size": 9, "line": {"width": 2},
                       "color": [theme.operation(one.after).colour for one in flips]}}


def _heading(edge: int, course: River, is_kept: bool, domain: tuple[float, float], top: float) -> dict[str, Any]:
    """Return the title of a small chart: its edge, the strongest operation, and below them the newest entropy and margin."""
    title, strongest = edge_title(edge), course.primitives[course.strongest[-1, edge]]
    numbers = f"H {course.relative_entropy[-1, edge]:.3f} · m {course.margin[-1, edge]:.3f}"
    return {"text": f"{f'<b>{title}</b>' if is_kept else title}  {_coloured(strongest)}<br>{numbers}", "x": domain[0],
            "y": top + 0.002, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "align": "left",
            "showarrow": False, "font": SMALL}


def _coloured(operation: str) -> str:
    """Return the short name of an operation in its colour, as markup of Plotly."""
    style = theme.operation(operation)
    return f'<span style="color:{style.colour}"><b>{style.short}</b></span>'


def edge_river(course: River | None, edge: int) -> PlainFigure:
    """Return a large figure of one edge: the weights of all operations as stacked areas, and entropy and margin below.

    Args:
        course: the operation weights of all edges of the cell, with their entropy and margin; None before the first step.
        edge: the edge (0..13).
    """
    if course is None:
        return blank(WAITING)
    layout = common_layout(legend=False, margin={"l": 58, "r": 104, "t": 10, "b": 42}) | {
        "xaxis": AXIS | {"title": {"text": "step", "font": PLAIN}, "anchor": "y2"},
        "yaxis": AXIS | {"title": {"text": "weight", "font": PLAIN}, "domain": [0.42, 1], "tickformat": ".1f", "range": [0, 1]},
        "yaxis2": AXIS | {"title": {"text": "share", "font": PLAIN}, "domain": [0, 0.32], "tickformat": ".2f"}}
    steps, weights = course.steps.tolist(), course.weights[:, edge].round(4)
    middles = weights[-1].cumsum() - weights[-1] / 2
    notes = [_at_the_end(_coloured(name), height, "y")
             for name, height in zip(course.primitives, apart(middles.tolist(), LINE), strict=True)]
    traces = [_area(name, steps, weights[:, column].tolist()) for column, name in enumerate(course.primitives)]
    lower = sorted((("entropy", course.relative_entropy[:, edge], theme.SERIES["training"]),
                    ("margin", course.margin[:, edge], theme.SERIES["adversarial"])), key=lambda one: float(one[1][-1]))
    heights = apart([float(values[-1]) for _, values, _ in lower], LOWER_LINE)
    for (name, values, colour), height in zip(lower, heights, strict=True):
        traces.append({"type": "scatter", "x": steps, "y": values.round(4).tolist(), "mode": "lines", "name": name, "yaxis": "y2",
                       "line": {"color": colour, "width": 2}, "hovertemplate": f"{name} %{{y:.3f}}<extra></extra>"})
        notes.append(_at_the_end(f'<span style="color:{colour}">{name}</span>', height, "y2"))
    flips = flips_of(course).get(edge, [])
    shapes = [{"type": "line", "xref": "x", "x0": one.step, "x1": one.step, "yref": "y domain", "y0": 0, "y1": 1,
               "line": {"color": theme.operation(one.after).colour, "width": 1, "dash": "dot"}} for one in flips]
    return {"data": traces, "layout": layout | {"annotations": notes, "shapes": shapes}}


def apart(heights: list[float], gap: float) -> list[float]:
    """Return `heights` (0..1, in increasing order), moved so that neighbours are at least `gap` apart."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + gap) if places else height)
    top = 1.0
    for position in reversed(range(len(places))):
        places[position] = min(places[position], top)
        top = places[position] - gap
    return places


def _at_the_end(text: str, height: float, axis: str) -> dict[str, Any]:
    return {"text": text, "x": 1.005, "xref": "paper", "y": height, "yref": axis, "xanchor": "left", "showarrow": False,
            "font": SMALL}


def _area(operation: str, steps: list[int], weights: list[float]) -> dict[str, Any]:
    style = theme.operation(operation)
    return {"type": "scatter", "x": steps, "y": weights, "mode": "lines", "name": style.short, "stackgroup": "edge",
            "line": {"color": style.colour, "width": 1}, "fillcolor": theme.faint(style.colour, 0.45),
            "hovertemplate": f"{style.short} %{{y:.3f}}<extra></extra>"}
