"""Charts of the architecture weights of one cell kind.

A heat map shows the weights at one epoch. Two other charts show the weights over the steps of the search. The weights of
operations are drawn as lines, the weights of edges as areas.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import AXIS, blank, common_layout
from engine.architecture.genotype import EDGES, state_name

SUBSCRIPTS = {"c_{k-2}": "c<sub>k−2</sub>", "c_{k-1}": "c<sub>k−1</sub>"}
COLUMNS = 5
NARROWEST = 0.02  # smallest length of an axis of weights


def edge_title(edge: int) -> str:
    """Return the chart label of an edge (0..13) of a cell, for example "c(k-1) → 2" with k-1 as a subscript."""
    source, target = EDGES[edge]
    return f"{written(source)} → {state_name(target)}"


def written(state: int) -> str:
    """Return the chart label of a state (an input or node of a cell). The index of an input is a subscript."""
    return SUBSCRIPTS.get(state_name(state), state_name(state))


def heat_map(matrix: pd.DataFrame) -> go.Figure:
    """Return a heat map of the weights of one cell at one epoch.

    Each row is an edge. Its label includes the edge weight if the method has edge weights. Each column is an operation. The
    colour of a square shows the column `weight` of the table. On each edge, a frame marks the operation with the largest weight.

    Args:
        matrix: table from `RunLog.alpha_matrix` with columns edge (0..13), operation, alpha, weight and edge_weight. edge_weight
            is NaN if the method has no edge weights.
    """
    if matrix.empty:
        return blank("The architecture weights appear after the first step")
    operations = [name for name in theme.OPERATIONS if name in set(matrix["operation"])]
    operations += sorted(set(matrix["operation"]) - set(operations))
    table = matrix.pivot(index="edge", columns="operation", values="weight")[operations].sort_index()
    columns = [_stacked(theme.operation(name).short) for name in operations]
    weights = matrix.groupby("edge")["edge_weight"].first()
    rows = [edge_title(int(edge)) + ("" if weights.isna()[edge] else f"   <b>{weights[edge]:.2f}</b>") for edge in table.index]
    values = table.to_numpy()
    low, high = span(table.stack())
    squares = {
        "type": "heatmap", "z": values.tolist(), "x": columns, "y": rows, "xgap": 2, "ygap": 2, "zmin": low, "zmax": high,
        "showscale": False, "colorscale": [[0, "rgba(43,123,212,0.03)"], [1, "rgba(43,123,212,0.62)"]],
        "texttemplate": "%{z:.3f}" if high - low < 0.15 else "%{z:.2f}",
        "hovertemplate": "edge %{y}, %{x}: weight %{z:.3f}<extra></extra>"}
    frames = [{"type": "rect", "x0": int(column) - 0.47, "x1": int(column) + 0.47, "y0": row - 0.45, "y1": row + 0.45,
               "line": {"color": theme.operation(operations[column]).colour, "width": 2.4}}
              for row, column in enumerate(values.argmax(axis=1))]
    margin = {"l": 78 if weights.isna().all() else 116, "t": 58, "r": 8, "b": 12}
    return go.Figure({"data": [squares], "layout": common_layout(legend=False, margin=margin) | {
        "hovermode": "closest", "shapes": frames,
        "xaxis": AXIS | {"side": "top", "showgrid": False, "tickangle": 0, "tickfont": {"size": 11.5}},
        "yaxis": AXIS | {"autorange": "reversed", "showgrid": False}}})


def lines(history: pd.DataFrame) -> go.Figure:
    """Return a figure with one small chart per edge of a cell, showing the weight of each operation over the steps.

    The charts form a triangle. A row contains the edges that end at one node. A column contains the edges that start at one state
    (an input or node).

    Args:
        history: table from `RunLog.alpha_lines` with columns edge, operation, step and weight.
    """
    if history.empty:
        return blank("The architecture weights appear after the first step")
    low, high = span(history["weight"])
    layout: dict[str, Any] = {}
    titles = []
    for edge, (source, target) in enumerate(EDGES):
        number = _axis(edge)
        left, bottom = source / COLUMNS, 1 - (target - 1) / 4
        layout["xaxis" + number] = AXIS | {
            "domain": [left + 0.008, left + 0.182], "anchor": "y" + number, "nticks": 3, "showgrid": False,
            "matches": "x" if edge else None, "showticklabels": target == 5,
            "title": {"text": "step" if target == 5 else "", "font": {"size": 11.5}, "standoff": 4}}
        layout["yaxis" + number] = AXIS | {
            "domain": [bottom + 0.03, bottom + 0.205], "anchor": "x" + number, "nticks": 3, "range": [low, high],
            "tickformat": ".2f", "showticklabels": source == 0,
            "title": {"text": "weight" if source == 0 else "", "font": {"size": 11.5}, "standoff": 6}}
        titles.append({"text": edge_title(edge), "x": left + 0.008, "y": bottom + 0.207, "xref": "paper", "yref": "paper",
                       "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"size": 11.5}})
    layout |= common_layout(margin={"l": 56, "r": 6, "t": 22, "b": 44})
    layout |= {"annotations": titles, "hovermode": "closest",
               "legend": {"orientation": "v", "x": 0.66, "y": 1.0, "xanchor": "left", "yanchor": "top"}}
    # The figure is built in one call, because adding traces to an existing figure takes Plotly several times as long.
    return go.Figure(data=[_line(*course) for course in _courses(history)], layout=layout)


def _courses(history: pd.DataFrame) -> Iterator[tuple[int, str, list[int], list[float]]]:
    """Yield (edge, operation, steps, weights) for each line, in order. Plain lists are faster than groups of rows."""
    ordered = history.sort_values(["edge", "operation", "step"])
    rows = zip(ordered["edge"].tolist(), ordered["operation"].tolist(), ordered["step"].tolist(),
               ordered["weight"].round(4).tolist(), strict=True)
    for (edge, name), points in groupby(rows, key=itemgetter(0, 1)):
        _, _, steps, weights = zip(*points, strict=True)
        yield edge, name, list(steps), list(weights)


def edge_weights(history: pd.DataFrame) -> go.Figure:
    """Return a figure with one chart per node of a cell.

    Each chart shows the weights of the node's incoming edges over the steps, as stacked areas.

    Args:
        history: table from `RunLog.edge_lines` with columns edge, step and edge_weight. At each step, the weights of the edges
            into one node add up to 1.
    """
    if history.empty:
        return blank("Edge weights appear after the first step")
    nodes = sorted({target for _, target in EDGES})
    layout: dict[str, Any] = {}
    titles = []
    for place, node in enumerate(nodes):
        number, left, width = _axis(place), place / len(nodes), 1 / len(nodes)
        layout["xaxis" + number] = AXIS | {
            "domain": [left + 0.008, left + width - 0.018], "anchor": "y" + number, "nticks": 4, "showgrid": False,
            "matches": "x" if place else None, "title": {"text": "step", "font": {"size": 11.5}, "standoff": 4}}
        layout["yaxis" + number] = AXIS | {
            "domain": [0, 0.9], "anchor": "x" + number, "range": [0, 1], "nticks": 3, "tickformat": ".1f",
            "showticklabels": not place, "title": {"text": "" if place else "share", "font": {"size": 11.5}, "standoff": 6}}
        titles.append({"text": f"into node {state_name(node)}", "x": left + 0.008, "y": 0.91, "xref": "paper", "yref": "paper",
                       "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"size": 11.5}})
    layout |= common_layout(margin={"l": 56, "r": 6, "t": 40, "b": 44})
    layout |= {"annotations": titles}
    layout["legend"] |= {"y": 1.04, "traceorder": "normal"}
    courses = history.sort_values("step").groupby("edge", sort=True)
    return go.Figure(data=[_area(*EDGES[int(edge)], points) for edge, points in courses], layout=layout)


def _area(source: int, node: int, points: pd.DataFrame) -> dict[str, Any]:
    number = _axis(node - 2)
    return {"type": "scatter", "x": points["step"].tolist(), "y": points["edge_weight"].round(4).tolist(), "mode": "lines",
            "name": f"from {written(source)}", "legendgroup": str(source), "legendrank": source, "showlegend": node == 5,
            "xaxis": "x" + number, "yaxis": "y" + number, "stackgroup": str(node),
            "line": {"color": theme.SERIES["accent"], "width": 1},
            "fillcolor": theme.faint(theme.SERIES["accent"], 0.08 + 0.18 * source),
            "hovertemplate": f"from {written(source)} %{{y:.3f}}<extra></extra>"}


def span(weights: pd.Series) -> tuple[float, float]:
    """Return the range of an axis for weights in 0..1. It is slightly wider than the range of the weights.

    On an axis from 0 to 1, the first epochs would look flat, because the weights start almost equal and change slowly. The axis
    is at least `NARROWEST` long, so that noise does not look like a preference.

    Returns:
        The lower end of the axis.
        The upper end of the axis.
    """
    low, high = float(weights.min()), float(weights.max())
    pad = max(0.05 * (high - low), (NARROWEST - (high - low)) / 2)
    return max(0.0, low - pad), min(1.0, high + pad)


def _axis(edge: int) -> str:
    return "" if edge == 0 else str(edge + 1)


def _line(edge: int, name: str, steps: list[int], weights: list[float]) -> dict[str, Any]:
    style = theme.operation(name)
    rank = list(theme.OPERATIONS).index(name) if name in theme.OPERATIONS else len(theme.OPERATIONS)
    return {"type": "scatter", "x": steps, "y": weights, "mode": "lines", "name": style.short,
            "legendgroup": name, "legendrank": rank, "showlegend": edge == 0,
            "xaxis": "x" + _axis(edge), "yaxis": "y" + _axis(edge),
            "line": {"color": style.colour, "width": style.width * 0.7, "dash": style.dash},
            "hovertemplate": f"{style.short} %{{y:.3f}}, step %{{x}}<extra></extra>"}


def _stacked(text: str) -> str:
    return "<br>".join(text.split(" "))
