"""The part of the Pareto page that shows how well the accuracies of supernets rank the retrained networks."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd
import streamlit as st

from app import session
from app.charts.accuracies import accuracy_axes, table_bars
from app.charts.categories import OTHERS, looks_of
from app.charts.frame import Figure
from app.components.live_plot import live_plot
from app.components.states import section
from app.formats import escape, percent, plural, with_interval
from app.fronts import Front
from engine.report.pareto import Measure
from engine.study.ranking import FEWEST_ARCHITECTURES, RankCorrelation, correlate

FEWEST = 3
MOST_BARS = 30  # networks whose intervals are drawn


def ranking(front: Front, measure: Measure) -> None:
    """Plot an accuracy of each retrained network over the adversarial accuracy of the supernet that its search trained.

    The supernet was measured after the last epoch of the search. A caption gives the rank correlation of the two accuracies.

    Args:
        front: the networks of the page.
        measure: the accuracy of the retrained network to plot.
    """
    section("How well the supernet ranks the networks", "supernet after the last epoch, and the network that was retrained")
    rows = pairs(front, measure)
    if len(rows) < FEWEST:
        st.caption(f"Appears when {FEWEST} networks from searches with a supernet have been attacked under this protocol.")
        return
    live_plot(ranking_figure(rows, measure), key=f"pareto_ranking_{measure.name}", height=380,
              file=f"supernet-ranking-{measure.name}", data=lambda: rows.assign(value_is=measure.name, images=measure.images),
              label=f"{measure.title} of the retrained network over the adversarial accuracy of its supernet")
    result = _correlation(tuple(rows["supernet"]), tuple(rows["value"]), measure.phrase)
    few = "" if result.interval or result.tau is None else f" An interval needs {FEWEST_ARCHITECTURES} networks."
    st.caption(f"{result.sentence()}{few} Both axes are under attack: the search's own attack on the alphas split with batch "
               "statistics, and the attack of the vertical axis on the test split. "
               f"{'Bars are' if len(rows) <= MOST_BARS else 'Point at a network for'} 95 % Wilson intervals.")


@lru_cache(maxsize=8)
def _correlation(supernets: tuple[float, ...], values: tuple[float, ...], phrase: str) -> RankCorrelation:
    """Return the rank correlation between the accuracies of supernets and the accuracies of the retrained networks.

    The result is cached, because its interval takes up to a second for 300 networks.

    Args:
        supernets, values: accuracy of the supernet, and of the retrained network, of each search.
        phrase: name of the accuracy of the retrained network in sentences.
    """
    return correlate({"supernet accuracy": supernets, phrase: values}, "supernet accuracy", phrase)


def pairs(front: Front, measure: Measure) -> pd.DataFrame:
    """Return one row per network that comes from a search with a supernet.

    The columns are run, label, title, supernet (adversarial accuracy of the supernet after the last epoch), and value, value_low
    and value_high (accuracy of the network).
    """
    log = session.run_log()
    runs = log.runs().set_index("id")
    epochs = log.pareto_epochs()
    supernets = epochs[epochs["is_last"]].set_index("run")["adversarial"]
    found = []
    for row in front.rows:
        search = runs["parent"].get(row.parent, "")
        value = front.values[row.run].get(measure.name)
        if search in supernets.index and value is not None:
            found.append((row.run, row.label, row.title, supernets[search], value.value, value.low, value.high))
    return pd.DataFrame(found, columns=["run", "label", "title", "supernet", "value", "value_low", "value_high"])


def ranking_figure(rows: pd.DataFrame, measure: Measure) -> Figure:
    """Return a scatter plot of the table that `pairs` returns. Networks with the same title share a colour and a symbol."""
    figure, looks = Figure(), looks_of(rows["title"])
    bars = len(rows) <= MOST_BARS
    for title, look in looks.items():
        group = rows[~rows["title"].isin(looks)] if title == OTHERS else rows[rows["title"] == title]
        figure.add_scatter(
            x=group["supernet"] * 100, y=group["value"] * 100, name=title, mode="markers", hoverinfo="text",
            hovertext=[f"<b>{escape(row.label)}</b><br>supernet {percent(row.supernet)}, alphas split, not a result<br>"
                       f"{measure.title} {with_interval(row.value, row.value_low, row.value_high)}, "
                       f"{plural(measure.images, 'image')}" for row in group.itertuples()],
            marker={"color": look.colour, "symbol": look.symbol, "size": 10},
            error_y=table_bars(group, "value") if bars else None)
    accuracy_axes(figure, "Adversarial accuracy of the supernet, alphas split, batch statistics (%)",
                  f"{measure.title},<br>{plural(measure.images, 'image')} of the test split (%)")
    return figure
