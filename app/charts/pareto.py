"""The plot of attacked networks in two or three measures, with their Pareto front."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app import theme
from app.charts.categories import OTHERS, looks_of
from app.charts.frame import Figure, themed
from app.charts.geometry import Range, add_band, add_line, boundary, padded, spread
from app.charts.labels import places_of
from app.formats import capitalised, duration, escape, plural, with_interval
from engine.report.dominance import Standing
from engine.report.latency import milliseconds
from engine.report.pareto import Measure, Value

SMALLEST, LARGEST, EQUAL = 9.0, 26.0, 11.0  # marker diameter, pixels
WIDTH, HEIGHT = 640.0, 400.0  # pixels of the plot on a narrow screen, for which labels are placed
WIDEST_TITLE = 44  # characters per line of an axis title
MOST_LINES = 8  # lines that the reasons of a badge may take in a hover text
MOST_LABELS = 24
LOOKS = {Standing.FRONT: (theme.FRONT, "circle"), Standing.OPEN: (theme.FRONT, "circle-open"),
         Standing.DOMINATED: (theme.DOMINATED, "x-thin-open")}


@dataclass(frozen=True)
class Mark:
    """A network as a point of the plot.

    Attributes:
        run: id of the attack run.
        label: name of the network.
        title: method with unusual settings, or name of a hand-made network.
        badge: colour of the reliability badge.
        reasons: reasons of the badge.
        values: {name of a measure: value}.
        standing: place relative to the front.
        selected: True if the reader has selected the network.
    """

    run: str
    label: str
    title: str
    badge: str
    reasons: str
    values: Mapping[str, Value]
    standing: Standing
    selected: bool = False


@dataclass(frozen=True)
class View:
    """The reader's choices for the plot of networks.

    Attributes:
        x, y: measures on the axes.
        third: a third objective; None without one.
        colour: what the colour shows: "standing" (position relative to the front), "title", or the name of a measure.
        size: name of the measure that the size of the markers shows; "" for markers of one size.
    """

    x: Measure
    y: Measure
    third: Measure | None = None
    colour: str = "standing"
    size: str = ""


def marker_sizes(values: Sequence[float | None]) -> list[float]:
    """Return the diameter in pixels of each marker. The area of a marker grows linearly with its value.

    Markers without a value get the smallest diameter. If all known values are equal, or no value is known, all diameters are
    equal.
    """
    known = [float(value) for value in values if value is not None and value == value]
    if not known or max(known) == min(known):
        return [EQUAL] * len(values)
    low, span = min(known), max(known) - min(known)
    return [(SMALLEST**2 + (LARGEST**2 - SMALLEST**2) * (float(value) - low) / span) ** 0.5
            if value is not None and value == value else SMALLEST for value in values]


def networks_figure(marks: Sequence[Mark], view: View, measures: Mapping[str, Measure]) -> Figure:
    """Return the plot of networks. Unless there is a third objective, the plot includes their front.

    Networks with equal values stand side by side. The names of the front and of the selected networks are written beside their
    points where there is space. Selected networks also have error bars. The other intervals are drawn by the browser, for the
    network under the pointer (`components/plot_picks.py`).

    Args:
        marks: the networks, at least one.
        view: the measures to show.
        measures: all measures of the networks.
    """
    figure = Figure()
    values = [(one.values[view.x.name].value * view.x.factor, one.values[view.y.name].value * view.y.factor) for one in marks]
    ranges = _ranges(marks, view, values)
    places = spread(values, ranges, (WIDTH, HEIGHT))
    if view.third is None:
        _add_front(figure, marks, view, ranges)
    _add_markers(figure, marks, view, measures, places)
    _add_selected(figure, [(mark, place) for mark, place in zip(marks, places, strict=True) if mark.selected], view)
    _add_labels(figure, marks, places, ranges)
    themed(figure, margin={"l": 74, "r": 20, "t": 44, "b": 58})
    figure.update_layout(hovermode="closest", dragmode="zoom", clickmode="event")
    if scale := measures.get(view.third.name if view.third else view.colour):
        figure.update_layout(coloraxis=scale_axis(scale))
    figure.update_xaxes({"title": {"text": axis_title(view.x, 90)}, "range": ranges[0], **_ticks(view.x)})
    figure.update_yaxes({"title": {"text": axis_title(view.y, WIDEST_TITLE)}, "range": ranges[1], **_ticks(view.y)})
    return figure


def axis_title(measure: Measure, widest: int) -> str:
    """Return the title of an axis, with unit and conditions, in lines of at most `widest` characters."""
    unit = f" ({measure.unit})" if measure.unit else ""
    words = ", ".join(filter(None, (measure.title, measure.where, "" if measure.larger else "smaller is better")))
    return "<br>".join(textwrap.wrap(f"{words}{unit}", widest))


def value_text(measure: Measure, value: Value | None) -> str:
    """Return the value of a measure as text. For an accuracy, this includes its interval and number of images."""
    if value is None:
        return "not measured"
    if measure.is_accuracy:
        return f"{with_interval(value.value, value.low, value.high)}, {plural(measure.images, 'image')}"
    if measure.unit == "ms":
        return milliseconds(value.value)
    return duration(value.value) if measure.unit == "s" else f"{value.value:,.0f}"


def _ticks(measure: Measure) -> dict[str, str]:
    return {"ticksuffix": f" {measure.unit}"} if measure.unit else {"tickformat": "~s"}


def _ranges(marks: Sequence[Mark], view: View, values: Sequence[tuple[float, float]]) -> tuple[Range, Range]:
    """Return the ranges of both axes. They include all points, and all intervals of the front and of the selected networks."""
    ranges = []
    for place, measure in enumerate((view.x, view.y)):
        ends = [end * measure.factor for mark in marks
                if mark.selected or (mark.standing is Standing.FRONT and view.third is None)
                for value in (mark.values[measure.name],) for end in (value.low, value.high)]
        ranges.append(padded([*(value[place] for value in values), *ends]))
    return ranges[0], ranges[1]


def _add_front(figure: Figure, marks: Sequence[Mark], view: View, ranges: tuple[Range, Range]) -> None:
    """Draw the front as a dotted line, with a band around it if an axis shows an accuracy.

    The band lies between two lines through the same networks: one at the lower ends of their intervals, one at the upper ends.
    """
    larger = (view.x.larger, view.y.larger)
    ends: dict[str, list[tuple[float, float]]] = {"value": [], "low": [], "high": []}
    for mark in marks:
        if mark.standing is Standing.FRONT:
            for end, points in ends.items():
                points.append((getattr(mark.values[view.x.name], end) * view.x.factor,
                               getattr(mark.values[view.y.name], end) * view.y.factor))
    paths = {end: boundary(points, larger, ranges) for end, points in ends.items()}
    if view.x.is_accuracy or view.y.is_accuracy:
        add_band(figure, paths["high"], paths["low"], theme.FRONT, 0.1)
    add_line(figure, paths["value"], theme.FRONT, dash="dot")


def _add_markers(figure: Figure, marks: Sequence[Mark], view: View, measures: Mapping[str, Measure],
                 places: Sequence[tuple[float, float]]) -> None:
    sizes = marker_sizes([mark.values[view.size].value if view.size in mark.values else None for mark in marks]) \
        if view.size else [EQUAL] * len(marks)
    texts = hover_texts(marks, view)
    for name, members, marker in _groups(marks, view, measures):
        figure.add_scatter(
            x=[places[place][0] for place in members], y=[places[place][1] for place in members], name=name, mode="markers",
            customdata=[_custom(marks[place], view) for place in members], hovertext=[texts[place] for place in members],
            hoverinfo="text", marker={"size": [sizes[place] for place in members], "line": {"width": 1.6}, **marker})


def _custom(mark: Mark, view: View) -> list[object]:
    """Return what the browser needs to know about a point: the run id and, for each axis, the value with its interval."""
    return [mark.run, *(end * one.factor for one in (view.x, view.y) for value in (mark.values[one.name],)
                        for end in (value.value, value.low, value.high))]


def _groups(marks: Sequence[Mark], view: View, measures: Mapping[str, Measure],
            ) -> list[tuple[str, list[int], dict[str, Any]]]:
    """Return one tuple per trace: (name in the legend, indices of its networks in `marks`, Plotly style of the markers)."""
    scale = measures.get(view.third.name if view.third else view.colour)
    if scale is None and view.colour == "title":
        return _title_groups(marks)
    groups = []
    for standing, (colour, symbol) in LOOKS.items():
        members = [place for place, mark in enumerate(marks)
                   if mark.standing is standing and (scale is None or scale.name in mark.values)]
        look = {"color": colour} if scale is None else {
            "color": [marks[place].values[scale.name].value * scale.factor for place in members], "coloraxis": "coloraxis"}
        if members:
            groups.append((standing.value, members, {"symbol": symbol, **look}))
    return groups


def _title_groups(marks: Sequence[Mark]) -> list[tuple[str, list[int], dict[str, Any]]]:
    """Return the traces of a plot coloured by title, in the form that `_groups` returns.

    There is one trace for each frequent title, and one for all other titles. Networks on the front have filled markers.
    """
    looks = looks_of(mark.title for mark in marks)
    names = [mark.title if mark.title in looks else OTHERS for mark in marks]
    groups = []
    for name, look in looks.items():
        members = [place for place, one in enumerate(names) if one == name]
        symbols = [look.symbol if marks[place].standing is Standing.FRONT else f"{look.symbol}-open" for place in members]
        groups.append((name, members, {"color": look.colour, "symbol": symbols}))
    return groups


def scale_axis(measure: Measure) -> dict[str, Any]:
    """Return the layout of a colour scale that shows a measure."""
    return {"colorscale": "Viridis", "reversescale": not measure.larger, "colorbar": {
        "title": {"text": axis_title(measure, 34), "side": "right"}, "thickness": 12, "outlinewidth": 0, **_ticks(measure)}}


def _add_selected(figure: Figure, selected: Sequence[tuple[Mark, tuple[float, float]]], view: View) -> None:
    """Draw a ring and error bars for each selected network."""
    if not selected:
        return
    bars = {name: interval_bars([mark.values[one.name] for mark, _ in selected], one.factor)
            for name, one in (("error_x", view.x), ("error_y", view.y)) if one.is_accuracy}
    figure.add_scatter(x=[x for _, (x, _) in selected], y=[y for _, (_, y) in selected], mode="markers", hoverinfo="skip",
                       showlegend=False, marker={"size": 19, "symbol": "circle-open", "color": theme.SERIES["accent"],
                                                 "line": {"width": 2.4}}, **bars)


def interval_bars(values: Sequence[Value], factor: float) -> dict[str, object]:
    """Return Plotly error bars that show the 95 % intervals of accuracies.

    Args:
        values: the accuracies.
        factor: factor that converts the accuracies to the unit of the axis (`Measure.factor`).
    """
    return {"type": "data", "symmetric": False, "thickness": 1.4, "width": 4, "color": theme.SERIES["accent"],
            "array": [(one.high - one.value) * factor for one in values],
            "arrayminus": [(one.value - one.low) * factor for one in values]}


def _add_labels(figure: Figure, marks: Sequence[Mark], places: Sequence[tuple[float, float]],
                ranges: tuple[Range, Range]) -> None:
    """Write the names of the selected networks and of the front beside their points, as far as there is space."""
    together = Counter((mark.standing, places_key(mark)) for mark in marks)
    named: list[tuple[int, str]] = []
    seen = set()
    for place, mark in sorted(enumerate(marks), key=lambda one: not one[1].selected):
        key = (mark.standing, places_key(mark))
        if mark.selected or (mark.standing is Standing.FRONT and key not in seen):
            more = f" + {together[key] - 1}" if together[key] > 1 and not mark.selected else ""
            named.append((place, f"{mark.label} {glyph_of(mark.badge)}{more}"))
            seen.add(key)
    named = named[:MOST_LABELS]
    pixels = [tuple((places[place][axis] - ranges[axis][0]) / (ranges[axis][1] - ranges[axis][0]) * size
                    for axis, size in enumerate((WIDTH, HEIGHT))) for place, _ in named]
    positions = places_of([(x, y) for x, y in pixels], [text for _, text in named], (WIDTH, HEIGHT))
    shown = [(place, text, position) for (place, text), position in zip(named, positions, strict=True) if position]
    figure.add_scatter(x=[places[place][0] for place, _, _ in shown], y=[places[place][1] for place, _, _ in shown], mode="text",
                       text=[escape(text) for _, text, _ in shown], textposition=[position for _, _, position in shown],
                       hoverinfo="skip", showlegend=False)


def places_key(mark: Mark) -> tuple[float, ...]:
    """Return the values of a network in all its measures as a key. Networks with equal keys are drawn at the same point."""
    return tuple(one.value for one in mark.values.values())


def glyph_of(badge: str) -> str:
    """Return the character that stands for a reliability badge, given the colour of the badge."""
    return theme.BADGES.get(badge, theme.BADGES["amber"])[1]


def hover_texts(marks: Sequence[Mark], view: View) -> list[str]:
    """Return the hover text of each network: values with intervals, position relative to the front, and reliability."""
    shown = dict.fromkeys(filter(None, (view.x, view.y, view.third)))
    return ["<br>".join([
        f"<b>{escape(mark.label)}</b>", *(f"{capitalised(one.title)}: {value_text(one, mark.values.get(one.name))}"
                                          for one in shown), capitalised(mark.standing.value), _reliability(mark), mark.run])
        for mark in marks]


def _reliability(mark: Mark) -> str:
    """Return the badge of a network with its reasons, for a hover text. The reasons are cut to a few lines."""
    _, glyph, word = theme.BADGES.get(mark.badge, theme.BADGES["amber"])
    lines = textwrap.wrap(f"{glyph} {word}: {' '.join(mark.reasons.split())}", 70, max_lines=MOST_LINES, placeholder=" …")
    return "<br>".join(map(escape, lines))
