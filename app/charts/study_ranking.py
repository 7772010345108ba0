"""The chart of a study that compares rankings: a measure of each network against the endpoint (the accuracy to predict)."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from app.charts.frame import themed
from app.charts.study import looks
from app.formats import escape
from engine.report.words import measured_text
from engine.study.results import CellResult, Results


def ranking_figure(results: Results, measure: str, endpoint: str) -> go.Figure:
    """Return a scatter plot with one point per network: x is a measure, y the endpoint (the accuracy to predict).

    Args:
        results: results of the study.
        measure: name of the measure.
        endpoint: name of the endpoint, which is a measure, too.
    """
    figure, look = go.Figure(), looks(list(results.arms))
    shares = _is_share(results, measure)
    for name, arm in results.arms.items():
        cells = [cell for cell in arm.cells if measure in cell.measures and endpoint in cell.measures]
        colour, symbol = look[name]
        figure.add_scatter(
            x=[cell.measures[measure] * (100 if shares else 1) for cell in cells],
            y=[100 * cell.measures[endpoint] for cell in cells], name=name, mode="markers", hoverinfo="text",
            marker={"color": colour, "symbol": symbol, "size": 10}, hovertext=_hover(cells, measure, endpoint, shares))
    themed(figure, legend=sum(bool(trace.x) for trace in figure.data) > 1)
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title=f"{measure[:1].upper()}{measure[1:]}{' (%)' if shares else ''}", ticksuffix=" %" if shares else "")
    figure.update_yaxes(title=f"{endpoint} (%)", ticksuffix=" %")
    return figure


def _is_share(results: Results, measure: str) -> bool:
    """Return True if all values of a measure are accuracies in 0..1."""
    values = [cell.measures[measure] for arm in results.arms.values() for cell in arm.cells if measure in cell.measures]
    return bool(values) and max(values) <= 1


def _hover(cells: Sequence[CellResult], measure: str, endpoint: str, shares: bool) -> list[str]:
    return [f"<b>{escape(cell.cell.arm)}</b>, search seed {cell.cell.search_seed}<br>{escape(measure)}: "
            f"{_value(cell, measure, shares)}<br>{escape(endpoint)}: {_value(cell, endpoint, True)}" for cell in cells]


def _value(cell: CellResult, measure: str, share: bool) -> str:
    """Return a measure as text.

    An accuracy from an attack run has its interval. Any other accuracy is marked as one of the select split, which is no result.

    Args:
        cell: the repetition of an arm.
        measure: name of the measure.
        share: True if the measure is an accuracy, False if it is a count.
    """
    if accuracy := cell.accuracies.get(measure):
        return measured_text(accuracy)
    value = cell.measures[measure]
    return f"{100 * value:.1f} % (select split, not a result)" if share else f"{value:,.0f}"
