"""The chart of a study that compares rankings: a measure of each network against the endpoint (the accuracy to predict)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from app.charts.frame import Figure, themed
from app.charts.study import looks
from app.formats import capitalised, escape, plural
from engine.report.words import measured_text
from engine.study.means import mean_of
from engine.study.results import CellResult, Results

Retrainings = Sequence[CellResult]  # the results of one network: one search seed of an arm


def ranking_figure(results: Results, measure: str, endpoint: str) -> Figure:
    """Return a scatter plot with one point per network: x is a measure, y the endpoint (the accuracy to predict).

    Both values are means over the retrainings of the network. A network stands for one arm and search seed.

    Args:
        results: results of the study.
        measure: name of the measure on the horizontal axis.
        endpoint: name of the measure on the vertical axis.
    """
    figure, look = Figure(), looks(list(results.arms))
    shares = _is_share(results, measure)
    for name, arm in results.arms.items():
        networks = [cells for cells in arm.by_seed.values()
                    if all(measure in cell.measures and endpoint in cell.measures for cell in cells)]
        colour, symbol = look[name]
        figure.add_scatter(
            x=[_mean(cells, measure) * (100 if shares else 1) for cells in networks],
            y=[100 * _mean(cells, endpoint) for cells in networks], name=name, mode="markers", hoverinfo="text",
            marker={"color": colour, "symbol": symbol, "size": 10}, hovertext=_hover(networks, measure, endpoint, shares))
    themed(figure, legend=sum(bool(trace["x"]) for trace in figure["data"]) > 1)
    figure.update_layout(hovermode="closest")
    unit = (" (%)", " %") if shares else ("", "")
    figure.update_xaxes(title={"text": f"{capitalised(measure)}{unit[0]}"}, ticksuffix=unit[1])
    figure.update_yaxes(title={"text": f"{endpoint} (%)"}, ticksuffix=" %")
    return figure


def _mean(cells: Retrainings, measure: str) -> float:
    return fmean(cell.measures[measure] for cell in cells)


def _is_share(results: Results, measure: str) -> bool:
    """Return True if all values of a measure are accuracies in 0..1."""
    values = [cell.measures[measure] for arm in results.arms.values() for cell in arm.cells if measure in cell.measures]
    return bool(values) and max(values) <= 1


def _hover(networks: Sequence[Retrainings], measure: str, endpoint: str, shares: bool) -> list[str]:
    return [f"<b>{escape(cells[0].cell.arm)}</b>, search seed {cells[0].cell.search_seed}{_average_words(cells)}<br>"
            f"{escape(measure)}: {_value(cells, measure, shares)}<br>{escape(endpoint)}: {_value(cells, endpoint, True)}"
            for cells in networks]


def _average_words(cells: Retrainings) -> str:
    return f", mean of {plural(len(cells), 'retraining')}" if len(cells) > 1 else ""


def _value(cells: Retrainings, measure: str, share: bool) -> str:
    """Return the mean of a measure over the retrainings of a network as text.

    The text of an accuracy from an attack run includes its confidence interval. Any other accuracy was measured on the select
    split, and the text says so.

    Args:
        cells: the retrainings.
        measure: name of the measure.
        share: True if the measure is an accuracy, False if it is a count.
    """
    accuracies = [accuracy for cell in cells if (accuracy := cell.accuracies.get(measure))]
    if len(accuracies) == 1:
        return measured_text(accuracies[0])
    if mean := mean_of([accuracies]):
        return mean.words
    value = _mean(cells, measure)
    return f"{100 * value:.1f} % (select split, not a result)" if share else f"{value:,.0f}"
