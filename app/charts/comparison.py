"""Charts that compare runs: one metric of many runs over their steps, and parallel coordinates of settings and results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from app import theme
from app.charts.categories import Look
from app.charts.frame import Figure, themed
from app.formats import capitalised, escape

MOST_LINES = 10  # lines with a look of their own; with more, lines of one group share a look


@dataclass(frozen=True)
class Line:
    """A run in a chart: its id, its label, and the group that determines its colour, symbol and dash."""

    run: str
    label: str
    group: str


@dataclass(frozen=True)
class Coordinate:
    """An axis of the parallel coordinates.

    Attributes:
        title: name of the axis.
        places: position of each run on the axis, from 0 (lower end) to 1 (upper end); None for a run without a value.
        texts: value of each run as text.
        ends: labels on the axis, as {position: text}: at both ends and, for a setting with few values, also in between.
        values: value of each run at full precision; None on an axis of texts.
    """

    title: str
    places: tuple[float | None, ...]
    texts: tuple[str, ...]
    ends: Mapping[float, str]
    values: tuple[float | None, ...] | None = None


def overlay_figure(frame: pd.DataFrame, lines: Sequence[Line], looks: Mapping[str, Look], metric: str,
                   unit: str = "step") -> Figure:
    """Return a plot of one metric over the steps or the epochs, with one line per run.

    Args:
        frame: table from `RunLog.overlay`.
        lines: the runs.
        looks: {`Line.group` of a run: colour and dash of its line}.
        metric: name of the metric, for example "natural_accuracy". Accuracies are drawn in per cent.
        unit: column of the horizontal axis, "step" or "epoch".
    """
    figure = Figure()
    factor, suffix = (100.0, " %") if metric.endswith("accuracy") else (1.0, "")
    groups: set[str] = set()
    for line in lines:
        rows, look = frame[frame["run"] == line.run], looks[line.group]
        if rows.empty:
            continue
        title = capitalised(metric.replace("_", " "))
        figure.add_scatter(
            x=rows[unit].tolist(), y=(rows["value"] * factor).tolist(), mode="lines", name=escape(line.group),
            legendgroup=line.group, showlegend=line.group not in groups, customdata=rows[["step", "epoch"]].to_numpy(),
            line={"color": look.colour, "dash": look.dash, "width": 1.8 if len(lines) <= MOST_LINES else 1},
            opacity=1 if len(lines) <= MOST_LINES else 0.7,
            hovertemplate=f"<b>{escape(line.label)}</b><br>{title} %{{y:.4g}}{suffix}<br>"
                          "step %{customdata[0]}, epoch %{customdata[1]}<extra></extra>")
        groups.add(line.group)
    themed(figure, margin={"l": 70, "t": 44, "b": 52})
    unit_title = " (%)" if suffix else " (nats)" if metric.endswith("loss") else ""
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title={"text": capitalised(unit)}, rangemode="tozero")
    figure.update_yaxes(title={"text": f"{capitalised(metric.replace('_', ' '))}{unit_title}"}, ticksuffix=suffix)
    return figure


def parallel_figure(axes: Sequence[Coordinate], lines: Sequence[Line], looks: Mapping[str, Look]) -> Figure:
    """Return parallel coordinates: one vertical axis per setting or result, and one line per run.

    Args:
        axes: the axes from left to right.
        lines: the runs, in the same order as `places` and `texts` of each axis.
        looks: {`Line.group` of a run: colour and dash of its line}.
    """
    figure = Figure()
    for place in range(len(axes)):
        figure.add_scatter(x=[place, place], y=[0, 1], mode="lines", line={"color": theme.DOMINATED, "width": 1},
                           hoverinfo="skip", showlegend=False)
    groups: set[str] = set()
    for number, line in enumerate(lines):
        look = looks[line.group]
        words = "<br>".join(f"{escape(axis.title)}: {escape(axis.texts[number])}" for axis in axes)
        figure.add_scatter(
            x=list(range(len(axes))), y=[axis.places[number] for axis in axes], mode="lines+markers", name=escape(line.group),
            legendgroup=line.group, showlegend=line.group not in groups, connectgaps=True, hoverinfo="text",
            hovertext=[f"<b>{escape(line.label)}</b><br>{words}"] * len(axes),
            line={"color": theme.faint(look.colour, 0.8 if len(lines) <= MOST_LINES else 0.45), "dash": look.dash, "width": 1.6},
            marker={"color": look.colour, "symbol": look.symbol, "size": 7})
        groups.add(line.group)
    for place, axis in enumerate(axes):
        for height, text in axis.ends.items():
            at_end = height in (0, 1)
            figure.add_annotation(x=place, y=height, text=escape(text), showarrow=False, xanchor="center" if at_end else "right",
                                  xshift=0 if at_end else -8, yshift={0.0: -15, 1.0: 15}.get(height, 0))
    themed(figure, margin={"l": 30, "r": 30, "t": 44, "b": 56})
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(tickvals=list(range(len(axes))), ticktext=[escape(axis.title).replace(": ", ":<br>") for axis in axes],
                        showgrid=False, range=[-0.4, len(axes) - 0.6])
    figure.update_yaxes(visible=False, range=[-0.14, 1.14])
    return figure


def numbers_axis(title: str, values: Sequence[float | None], texts: Sequence[str],
                 short: Callable[[float], str] | None = None) -> Coordinate:
    """Return an axis of numbers. The smallest value is at the lower end and the largest at the upper end.

    Args:
        title: name of the axis.
        values: value of each run, or None. At least one is known.
        texts: value of each run as text.
        short: function that formats the values at the two ends of the axis; None to use the texts of the runs there.
    """
    known = {value: text for value, text in zip(values, texts, strict=True) if value is not None}
    low, high = min(known), max(known)
    ends = [known[end] if short is None else short(end) for end in (low, high)]
    span = high - low
    places = tuple(None if value is None else (value - low) / span if span else 0.5 for value in values)
    return Coordinate(title, places, tuple(texts), {0.0: ends[0], 1.0: ends[1]} if span else {0.5: ends[0]}, tuple(values))


def words_axis(title: str, texts: Sequence[str]) -> Coordinate:
    """Return an axis of texts. The different texts are at equal distances, upwards in the order of their first runs."""
    different = list(dict.fromkeys(texts))
    steps = max(1, len(different) - 1)
    at = {text: number / steps for number, text in enumerate(different)}
    return Coordinate(title, tuple(at[text] for text in texts), tuple(texts), {place: text for text, place in at.items()})
