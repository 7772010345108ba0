"""The part of the Study page on rank correlations, for a study that compares rankings of networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from app import address
from app.charts.study_data import networks_frame, study_columns
from app.charts.study_ranking import ranking_figure
from app.components.html_table import Markup, StaticColumn, html_table, with_label
from app.components.live_plot import live_plot
from app.components.states import section
from app.formats import EMPTY, escape, plural
from engine.report.words import signed_text
from engine.study.contrasts import Interval
from engine.study.measures import COUNTS, column_title
from engine.study.overview import Overview
from engine.study.ranking import RankCorrelation

Tau = tuple[float | None, Interval | None]  # a rank correlation and its interval
NO_TAU: Tau = (None, None)
Pair = tuple[RankCorrelation, RankCorrelation | None]  # of a measure: its plain and its partial tau


def correlations(overview: Overview) -> None:
    """Show how well each measure predicts the endpoint (the accuracy of main interest).

    The chart shows the measure that the user chooses. The sentences and the table cover all measures.
    """
    answer, study = overview.answer, overview.study
    if not answer.correlations:
        return
    target = column_title(study.endpoint)
    plain = [one for one in answer.correlations if not one.given]
    section("Rankings", f"{plural(plain[0].architectures, 'network')} with all measures, ranked by {target}")
    left, _ = st.columns([2, 3])
    measure = address.selectbox(left, "Measure", {one.first: one.first for one in plain}, name="measure", key="study.measure")
    live_plot(ranking_figure(overview.results, measure, target), key=f"study_ranking_{study.id}_{measure}", height=420,
              label=f"{measure} against {target} of each network", file=f"{study.id}-measures",
              data=partial(networks_frame, overview.results))
    st.html(f'<ul class="rp-sentences">{"".join(f"<li>{escape(text)}</li>" for text in answer.sentences)}</ul>')
    given = {one.first: one for one in answer.correlations if one.given}
    columns: tuple[StaticColumn[Pair], ...] = (
        StaticColumn("Measure", lambda pair: pair[0].first, names_row=True, look="rp-name"),
        tau_column("Kendall's tau", "tau", lambda pair: (pair[0].tau, pair[0].interval)),
        tau_column("Partial tau", "partial_tau", lambda pair: (pair[1].tau, pair[1].interval) if pair[1] else NO_TAU),
        tau_column("Under a Gaussian copula", "copula_tau",
                   lambda pair: (pair[1].latent, pair[1].latent_interval) if pair[1] else NO_TAU),
        StaticColumn("Beyond counting", verdict_words))
    st.html(html_table(columns, [(one, given.get(one.first)) for one in plain], label="Rank correlations", facts=study_columns(
        overview.results), note=(
        f"Rank correlation with {target}, with 95 % bootstrap intervals over networks. A network's accuracies are means over its "
        f"retrainings. The partial tau is given "
        f"{' and '.join(COUNTS)}. A ranking says more than counting only if both partial intervals are above 0.")))


def tau_column(title: str, name: str, of: Callable[[Pair], Tau]) -> StaticColumn[Pair]:
    """Return a column of the table: a rank correlation with its interval.

    Args:
        title: heading of the column.
        name: name of the columns in exported files.
        of: function that returns the rank correlation and its interval.
    """
    def data(pair: Pair) -> dict[str, object]:
        tau, interval = of(pair)
        low, high = interval or (None, None)
        return {name: tau, f"{name}_low": low, f"{name}_high": high}

    return StaticColumn(title, lambda pair: tau_html(*of(pair)), right=True, data=data)


def tau_html(tau: float | None, interval: Interval | None) -> str | Markup:
    """Return a rank correlation with its interval on a second line; a dash if undefined, for example for a constant measure."""
    if tau is None:
        return EMPTY
    return with_label(signed_text(tau, 2), "" if interval is None else " to ".join(signed_text(end, 2) for end in interval))


def verdict_words(pair: Pair) -> str | Markup:
    """Return a short text that says whether a measure tells more about the endpoint than parameters and MACs already do."""
    partial = pair[1]
    if partial is None:
        return "is a count"
    if partial.constant:
        return "nothing: all values are equal"
    if partial.interval is None:
        return "unknown, too few networks" if partial.tau is not None else "undefined"
    tone, words = ("good", "says more") if partial.adds else ("bad", "points the wrong way") if partial.contradicts else (
        "bad", "adds nothing")
    return Markup(f'<span class="rp-chip rp-tone-{tone}">{words}</span>')
