"""Charts of what methods attain with a given number of runs: bands of fronts, and hypervolume over the number of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app import theme
from app.charts.categories import Look
from app.charts.frame import Figure, themed
from app.charts.geometry import add_band, add_line, boundary, padded
from app.charts.pareto import WIDEST_TITLE, axis_title
from app.formats import escape, plural
from engine.report.attainment import LEVELS, attained, volumes
from engine.report.pareto import Measure

MOST_RUNS = 50  # longest curve of the hypervolume

Groups = Mapping[str, Sequence[tuple[float, float]]]  # {name: (natural, adversarial) of each run, as fractions}


def attainment_figure(groups: Groups, looks: Mapping[str, Look], x: Measure, y: Measure, runs: int) -> Figure:
    """Return a plot of the fronts that each group attains with a given number of runs.

    A draw of runs attains a point if one of the runs is at least as accurate in both accuracies. The line is the median front.
    The band reaches from the front that 90 % of all draws attain to the front that 10 % attain.

    Args:
        groups: the points of each group.
        looks: {name of a group: colour and dash}.
        x, y: the two accuracies.
        runs: number of runs drawn at random from each group.
    """
    figure = Figure()
    everything = [(100 * a, 100 * b) for points in groups.values() for a, b in points]
    ranges = (padded([a for a, _ in everything]), padded([b for _, b in everything]))
    for name, points in groups.items():
        colour, dash = looks[name].colour, looks[name].dash
        paths = [boundary([(100 * a, 100 * b) for a, b in attained(points, runs, level)], (True, True), ranges)
                 for level in LEVELS]
        add_band(figure, paths[0], paths[-1], colour)
        add_line(figure, paths[1], colour, dash=dash)
        figure.add_scatter(x=[100 * a for a, _ in points], y=[100 * b for _, b in points], mode="markers", name=name,
                           marker={"color": theme.faint(colour, 0.6), "size": 5}, hoverinfo="skip")
    themed(figure, margin={"l": 74, "r": 16, "t": 58, "b": 58})
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title={"text": axis_title(x, 60)}, range=ranges[0], ticksuffix=" %")
    figure.update_yaxes(title={"text": axis_title(y, WIDEST_TITLE)}, range=ranges[1], ticksuffix=" %")
    return figure


def volume_figure(groups: Groups, looks: Mapping[str, Look], runs: int) -> Figure:
    """Return a plot of the hypervolume that runs drawn at random from each group attain, over the number of runs drawn.

    The line is the expected hypervolume. The band contains 80 % of all draws, from the 10 % to the 90 % quantile. A curve ends at
    the number of measured runs of its group, or at `MOST_RUNS`. A vertical line marks `runs`, the chosen number of runs.
    """
    figure = Figure()
    for name, points in groups.items():
        colour, dash = looks[name].colour, looks[name].dash
        curve = volumes(points, min(len(points), MOST_RUNS))
        band = [(one.runs, 100 * one.high) for one in curve], [(one.runs, 100 * one.low) for one in curve]
        add_band(figure, *band, colour)
        figure.add_scatter(x=[one.runs for one in curve], y=[100 * one.mean for one in curve], mode="lines+markers", name=name,
                           line={"color": colour, "dash": dash, "width": 2}, marker={"size": 4}, hoverinfo="text", hovertext=[
                               f"<b>{escape(name)}</b><br>{plural(one.runs, 'run')}: {100 * one.mean:.1f} % of the unit square "
                               f"({100 * one.low:.1f} to {100 * one.high:.1f} in 80 % of draws)" for one in curve])
    themed(figure, margin={"l": 64, "r": 16, "t": 58, "b": 58})
    figure.update_layout(hovermode="closest")
    figure.add_vline(x=runs, line={"color": theme.SERIES["neutral"], "width": 1, "dash": "dot"})
    figure.update_xaxes(title={"text": "Number of runs"}, rangemode="tozero", tickformat="d")
    figure.update_yaxes(title={"text": "Hypervolume (% of the unit square)"}, ticksuffix=" %")
    return figure
