"""Charts of the architecture weights of one cell kind.

A heat map shows the weights of operations at one epoch. Stacked areas show the weights of edges over the steps of the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app import theme
from app.charts.frame import AXIS, PlainFigure, blank, common_layout
from engine.architecture.genotype import EDGES, state_name
from engine.log.alpha_queries import Course

SUBSCRIPTS = {"c_{k-2}": "c<sub>k−2</sub>", "c_{k-1}": "c<sub>k−1</sub>"}
COLUMNS, ROWS = 5, 4  # states at which an edge can start, and nodes at which it can end
NARROWEST = 0.02  # smallest length of an axis of weights


def edge_title(edge: int) -> str:
    """Return the chart label of an edge (0..13) of a cell, for example "c(k-1) → 2" with k-1 as a subscript."""
    source, target = EDGES[edge]
    return f"{written(source)} → {state_name(target)}"


def written(state: int) -> str:
    """Return the chart label of a state (an input or node of a cell), with the index of an input as a subscript."""
    return SUBSCRIPTS.get(state_name(state), state_name(state))


def heat_map(matrix: pd.DataFrame) -> PlainFigure:
    """Return a heat map of the weights of one cell at one epoch.

    Each row is an edge. Its label includes the edge weight if the method has edge weights. Each column is an operation. The
    colour of a square shows the column `weight` of the table. On each edge, a frame marks the operation with the largest weight.

    Args:
        matrix: table from `RunLog.alpha_matrix` with columns edge (0..13), operation, alpha, weight and edge_weight. edge_weight
            is NaN if the method has no edge weights.
    """
    if matrix.empty:
        return blank("The architecture weights appear after the first step")
    recorded, table = weights_of(matrix)
    order = sorted(range(len(recorded)), key=lambda column: (_rank(recorded[column]), recorded[column]))
    operations, values = [recorded[column] for column in order], table[:, order]
    columns = [_stacked(theme.operation(name).short) for name in operations]
    shares = matrix["edge_weight"].to_numpy()[::len(operations)]
    rows = [edge_title(edge) + ("" if np.isnan(share) else f"   <b>{share:.2f}</b>") for edge, share in enumerate(shares)]
    low, high = span(float(values.min()), float(values.max()))
    squares = {
        "type": "heatmap", "z": values.tolist(), "x": columns, "y": rows, "xgap": 2, "ygap": 2, "zmin": low, "zmax": high,
        "showscale": False, "colorscale": [[0, "rgba(43,123,212,0.03)"], [1, "rgba(43,123,212,0.62)"]],
        "texttemplate": "%{z:.3f}" if high - low < 0.15 else "%{z:.2f}",
        "hovertemplate": "edge %{y}, %{x}: weight %{z:.3f}<extra></extra>"}
    frames = [{"type": "rect", "x0": int(column) - 0.47, "x1": int(column) + 0.47, "y0": row - 0.45, "y1": row + 0.45,
               "line": {"color": theme.operation(operations[column]).colour, "width": 2.4}}
              for row, column in enumerate(values.argmax(axis=1))]
    margin = {"l": 78 if np.isnan(shares).all() else 116, "t": 58, "r": 8, "b": 12}
    return {"data": [squares], "layout": common_layout(legend=False, margin=margin) | {
        "hovermode": "closest", "shapes": frames,
        "xaxis": AXIS | {"side": "top", "showgrid": False, "tickangle": 0, "tickfont": {"size": 11.5}},
        "yaxis": AXIS | {"autorange": "reversed", "showgrid": False}}}


def weights_of(matrix: pd.DataFrame) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Return the operations of a table from `RunLog.alpha_matrix`, and their weights as an array [edges, operations]."""
    operations = list(dict.fromkeys(matrix["operation"]))
    return operations, matrix["weight"].to_numpy(float).reshape(-1, len(operations))


def edge_weights(courses: Sequence[Course]) -> PlainFigure:
    """Return a figure with one chart per node of a cell.

    Each chart shows the weights of the node's incoming edges over the steps, as stacked areas.

    Args:
        courses: weights of edges, from `RunLog.edge_courses`. At each step, the weights of the edges into one node add up to 1.
    """
    if not courses:
        return blank("Edge weights appear after the first step")
    nodes = sorted({target for _, target in EDGES})
    layout: dict[str, Any] = {}
    titles = []
    for place, node in enumerate(nodes):
        number, left, width = axis_of(place), place / len(nodes), 1 / len(nodes)
        layout["xaxis" + number] = AXIS | {
            "domain": [left + 0.008, left + width - 0.018], "anchor": "y" + number, "nticks": 4, "showgrid": False,
            "title": {"text": "step", "font": {"size": 11.5}, "standoff": 4}} | ({"matches": "x"} if place else {})
        layout["yaxis" + number] = AXIS | {
            "domain": [0, 0.9], "anchor": "x" + number, "range": [0, 1], "nticks": 3, "tickformat": ".1f",
            "showticklabels": not place, "title": {"text": "" if place else "share", "font": {"size": 11.5}, "standoff": 6}}
        titles.append({"text": f"into node {state_name(node)}", "x": left + 0.008, "y": 0.91, "xref": "paper", "yref": "paper",
                       "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"size": 11.5}})
    layout |= common_layout(margin={"l": 56, "r": 6, "t": 40, "b": 44})
    layout |= {"annotations": titles}
    layout["legend"] |= {"y": 1.04, "traceorder": "normal"}
    return {"data": [_area(one) for one in courses], "layout": layout}


def _area(course: Course) -> dict[str, Any]:
    source, node = EDGES[course.edge]
    number = axis_of(node - 2)
    return {"type": "scatter", "x": course.steps, "y": course.weights, "mode": "lines",
            "name": f"from {written(source)}", "legendgroup": str(source), "legendrank": source, "showlegend": node == 5,
            "xaxis": "x" + number, "yaxis": "y" + number, "stackgroup": str(node),
            "line": {"color": theme.SERIES["accent"], "width": 1},
            "fillcolor": theme.faint(theme.SERIES["accent"], 0.08 + 0.18 * source),
            "hovertemplate": f"from {written(source)} %{{y:.3f}}<extra></extra>"}


def span(low: float, high: float) -> tuple[float, float]:
    """Return the range of an axis or colour scale that shows weights from `low` to `high` (0..1), with a small margin.

    With the range 0 to 1, the first epochs would look flat, because the weights start almost equal and change slowly. The range
    is at least `NARROWEST` long, so that noise does not look like a preference.

    Returns:
        The lower end of the range.
        The upper end of the range.
    """
    pad = max(0.05 * (high - low), (NARROWEST - (high - low)) / 2)
    return max(0.0, low - pad), min(1.0, high + pad)


def _rank(operation: str) -> int:
    """Return the place of an operation in the order of `theme.OPERATIONS`. Unknown operations come last."""
    return list(theme.OPERATIONS).index(operation) if operation in theme.OPERATIONS else len(theme.OPERATIONS)


def axis_of(number: int) -> str:
    """Return the suffix of Plotly's name for an axis, given its number from 0: "" for 0, "2" for 1 and so on."""
    return "" if number == 0 else str(number + 1)


def _stacked(text: str) -> str:
    return "<br>".join(text.split(" "))
