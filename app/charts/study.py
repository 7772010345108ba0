"""Charts of a study: the compared accuracy of each arm, this accuracy against natural accuracy, and votes of the genotypes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from app import theme
from app.charts.alphas import written
from app.charts.frame import Figure, themed
from app.charts.robustness import COLOURS, SYMBOLS, network_axis
from app.formats import plural
from engine.architecture.genotype import NONE, PRIMITIVES, state_name
from engine.report.robustness import Measurement
from engine.report.words import measured_text
from engine.study.means import Mean, mean_of
from engine.study.results import ArmResult
from engine.study.votes import CellVotes

ROW_HEIGHT, FRAME_HEIGHT = 58, 96  # pixels
OFFSET = 0.2  # distance of the seeds from the middle of an arm's row, as a share of the row's height
STEP = 0.1  # distance of search seeds with equal means, as a share of the row's height
EDGE_HEIGHT, VOTES_FRAME = 26, 96  # pixels
VOTES = [[0, "rgba(43,123,212,0.02)"], [1, "rgba(43,123,212,0.7)"]]


def strip_height(arms: int) -> int:
    """Return the height in pixels of `strip_figure` for this number of arms."""
    return FRAME_HEIGHT + ROW_HEIGHT * max(1, arms)


def looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return {name of an arm: (colour, symbol)}. There are 42 different pairs of a colour and a symbol."""
    return {name: (COLOURS[place % len(COLOURS)], SYMBOLS[place % len(SYMBOLS)]) for place, name in enumerate(names)}


def strip_figure(arms: Mapping[str, ArmResult], endpoint: str) -> Figure:
    """Return a strip plot of the endpoint (the compared accuracy), with one row per arm.

    Each row shows the mean over the search seeds with its 95 % interval. Below it are the mean of each search seed and, if search
    seeds have several retrainings, the value of each retraining. Search seeds with equal means stand below one another.

    Args:
        arms: {name of the arm: its results}, from top to bottom.
        endpoint: title of the endpoint.
    """
    figure, look = Figure(), looks(list(arms))
    for row, (name, arm) in enumerate(arms.items()):
        colour, symbol = look[name]
        units = {seed: [cell.endpoint for cell in cells] for seed, cells in arm.by_seed.items()}
        if any(len(unit) > 1 for unit in units.values()):
            _add_points(figure, row + OFFSET, [(one.accuracy, f"search seed {seed}, one retraining: {measured_text(one)}")
                                               for seed, unit in units.items() for one in unit],
                        name, {"color": theme.faint(colour, 0.55), "symbol": "line-ns-open", "size": 9})
        _add_points(figure, row + OFFSET, [seed_point(seed, unit) for seed, unit in units.items()], name,
                    {"color": colour, "symbol": "circle-open", "size": 9, "line": {"width": 1.6}}, STEP)
        if mean := mean_of(arm.measured("endpoint")):
            figure.add_scatter(x=[100 * mean.value], y=[row - OFFSET / 2], mode="markers", hoverinfo="text",
                               marker={"color": colour, "symbol": symbol, "size": 12}, hovertext=[mean_words(name, mean)],
                               error_x=bars(mean, colour))
    themed(figure, legend=False, margin={"l": 10, "r": 24, "t": 14, "b": 46})
    network_axis(figure, list(arms))
    figure.update_layout(hovermode="closest", xaxis={"title": {"text": f"{endpoint} (%)"}, "ticksuffix": " %"})
    return figure


def seed_point(seed: int, unit: Sequence[Measurement]) -> tuple[float, str]:
    """Return the point of a search seed in the strip plot.

    Args:
        seed: the search seed.
        unit: accuracy of each of its retrainings.

    Returns:
        The mean of the accuracies (0..1).
        The hover text.
    """
    mean = mean_of([unit])
    assert mean is not None  # a search seed with results has a retraining
    what = f"search seed {seed}" if len(unit) == 1 else f"search seed {seed}, mean of {plural(len(unit), 'retraining')}"
    return mean.value, f"{what}: {mean.words}"


def _add_points(figure: Figure, height: float, points: Sequence[tuple[float, str]], name: str, marker: Mapping[str, object],
                step: float = 0.0) -> None:
    """Add the points of an arm to its row at the vertical position `height`.

    Points with the same value stand below one another, at distances of `step` rows.
    """
    values = [round(value, 6) for value, _ in points]
    heights = [height + step * values[:place].count(value) for place, value in enumerate(values)]
    figure.add_scatter(x=[100 * value for value in values], y=heights, mode="markers", marker=dict(marker), hoverinfo="text",
                       hovertext=[f"<b>{name}</b><br>{words}" for _, words in points])


def front_figure(arms: Mapping[str, ArmResult], endpoint: str) -> Figure:
    """Return a scatter plot with one point per arm: x is its mean natural accuracy, y its mean endpoint (compared accuracy).

    Both means have 95 % intervals. Arms with equal means share one point, whose name lists them. A dotted line joins the arms on
    the Pareto front of the two means.

    Args:
        arms: {name of the arm: its results}.
        endpoint: title of the endpoint.
    """
    figure, look = Figure(), looks(list(arms))
    means = {name: (natural, value) for name, arm in arms.items()
             if (natural := mean_of(arm.measured("natural"))) and (value := mean_of(arm.measured("endpoint")))}
    front = sorted(front_of({name: (natural.value, value.value) for name, (natural, value) in means.items()}))
    figure.add_scatter(x=[100 * natural for natural, _ in front], y=[100 * value for _, value in front], mode="lines",
                       hoverinfo="skip", line={"color": theme.FRONT, "width": 1.6, "dash": "dot", "shape": "vh"},
                       showlegend=False)
    for names in alike({name: (natural.value, value.value) for name, (natural, value) in means.items()}):
        _add_means(figure, {name: means[name] for name in names}, look, endpoint)
    themed(figure, margin={"l": 64, "r": 20, "t": 44, "b": 48})
    figure.update_layout(hovermode="closest", showlegend=True,
                         xaxis={"title": {"text": "Natural accuracy (%)"}, "ticksuffix": " %"},
                         yaxis={"title": {"text": f"{endpoint} (%)"}, "ticksuffix": " %"})
    return figure


def alike(points: Mapping[str, tuple[float, float]]) -> list[list[str]]:
    """Group the names of `points`: names with equal points are in one group. Names and groups keep their order."""
    groups: dict[tuple[float, float], list[str]] = {}
    for name, (x, y) in points.items():
        groups.setdefault((round(x, 6), round(y, 6)), []).append(name)
    return list(groups.values())


def _add_means(figure: Figure, means: Mapping[str, tuple[Mean, Mean]], look: Mapping[str, tuple[str, str]],
               endpoint: str) -> None:
    """Add one visible point for one or more arms with equal means, and the intervals of each of these arms.

    Args:
        figure: the chart.
        means: {name of the arm: (natural mean, mean endpoint)}.
        look: {name of the arm: (colour, symbol)}.
        endpoint: title of the endpoint.
    """
    title = "<br>".join(textwrap.wrap(", ".join(means), 28))
    hover = "<br>".join(f"<b>{name}</b><br>natural {natural.words}<br>{endpoint.lower()} {value.words}"
                        for name, (natural, value) in means.items())
    first, *others = means
    for name in (*others, first):  # the visible marker is drawn last
        (natural, value), (colour, symbol) = means[name], look[name]
        figure.add_scatter(
            x=[100 * natural.value], y=[100 * value.value], mode="markers", name=title, showlegend=name == first,
            legendgroup=title, marker={"color": colour, "symbol": symbol, "size": 12, "opacity": float(name == first)},
            error_x=bars(natural, colour), error_y=bars(value, colour), hoverinfo="text", hovertext=[hover])


def front_of(points: Mapping[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other point dominates. Larger is better on both axes."""
    values = list(points.values())
    return [one for one in values if not any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in values)]


def mean_words(name: str, mean: Mean) -> str:
    """Return the hover text of a mean over search seeds."""
    return f"<b>{name}</b><br>mean of {plural(mean.units, 'search seed')}: {mean.words}"


def bars(mean: Mean, colour: str) -> dict[str, object]:
    """Return Plotly error bars for the interval of a mean, in per cent."""
    return {"type": "data", "symmetric": False, "color": colour, "thickness": 1.6, "width": 4,
            "array": [100 * (mean.high - mean.value)], "arrayminus": [100 * (mean.value - mean.low)]}


def votes_height(votes: CellVotes) -> int:
    """Return the height in pixels of `votes_figure`."""
    return VOTES_FRAME + EDGE_HEIGHT * len(votes.votes)


def votes_figure(votes: CellVotes, genotypes: int) -> Figure:
    """Return a heat map of the number of genotypes that have each operation on each edge of a cell.

    Each row is an edge, each column an operation. The last column counts the genotypes without the edge. A frame marks the
    largest number of a row, unless this number occurs more than once in the row.

    Args:
        votes: votes of the genotypes.
        genotypes: number of genotypes, which is the maximum number of votes.
    """
    cast = {name for on_edge in votes.votes.values() for name in on_edge}
    names = [name for name in (*PRIMITIVES, *sorted(cast - {*PRIMITIVES, NONE})) if name in cast] + [NONE]
    numbers = [[on_edge.get(name, 0) for name in names] for on_edge in votes.votes.values()]
    edges = [f"{written(source)} → {state_name(node)}" for source, node in votes.votes]
    titles = [column_title(name) for name in names]
    figure = Figure()
    figure.add_heatmap(
        z=numbers, x=titles, y=edges, zmin=0, zmax=genotypes, xgap=2, ygap=2, showscale=False, colorscale=VOTES,
        text=[[str(number or "") for number in row] for row in numbers], texttemplate="%{text}",
        hovertemplate=f"edge %{{y}}, %{{x}}: %{{z}} of {genotypes}<extra></extra>")
    frames = [{"type": "rect", "x0": column - 0.47, "x1": column + 0.47, "y0": row - 0.45, "y1": row + 0.45,
               "line": {"color": colour_of(names[column]), "width": 2.2}}
              for row, column in enumerate(row.index(max(row)) for row in numbers) if numbers[row].count(max(numbers[row])) == 1]
    themed(figure, legend=False, margin={"l": 78, "t": 62, "r": 8, "b": 12})
    figure.update_layout(hovermode="closest", shapes=frames)
    figure.update_xaxes(side="top", showgrid=False, tickangle=0, tickfont={"size": 11.5})
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def column_title(name: str) -> str:
    """Return the title of an operation, broken into several lines for the heading of a column."""
    return "no<br>edge" if name == NONE else theme.operation(name).short.replace(" ", "<br>")


def colour_of(name: str) -> str:
    """Return the colour of an operation; a neutral colour for "none", the absence of an edge."""
    return theme.SERIES["neutral"] if name == NONE else theme.operation(name).colour
