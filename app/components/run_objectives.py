"""The panel that shows how a search weighs its losses: weights, angles, gradients, and which loss decides alone.

While the run is active, the server sends new points to the charts without a rerun of the panel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from app import session
from app.charts import cockpit, mgda, objectives
from app.charts.frame import PlainFigure
from app.components.live import feed_of
from app.components.live_html import live_html
from app.components.run_curves import CHANGING, curve_plot
from app.components.run_sentence import told
from app.components.states import section
from app.formats import escape, percent, plural
from engine.insight.objectives import AGREES, LAST_STEPS, ClosedForm, closed_form, title_of
from engine.insight.objectives import vertices as vertices_of
from engine.log import RunLog
from engine.log.training_queries import EVERY
from engine.search.methods.registry import METHODS
from engine.search.registries import WEIGHTINGS, Weighting

STATIONARITY = ("The norm of a gradient is the one that the weighting sees, with coefficients. Stationarity is the norm of the "
                "weighted sum of all gradients: at 0, no small step lowers every loss.")
BARS = f"Bars: all steps. Lines across them: the last {LAST_STEPS} steps, once there are more."
CLOSED_FORM = ("For two gradients g₁ and g₂ at the angle θ, MGDA's weight of the first is (g₂ − g₁) · g₂ / |g₂ − g₁|², "
               "limited to 0..1. So the {first} is ignored exactly when cos θ ≥ |g₂| / |g₁|.")


def weighs(run: Mapping[str, Any]) -> bool:
    """Return True if a search computes weights for its losses, or if this version does not know its method."""
    return run["method"] not in METHODS or METHODS[run["method"]].config.weighs(run["config"])


def has_weights(run: Mapping[str, Any]) -> bool:
    """Return True if a search weighs its losses, or has losses other than the natural and the adversarial loss."""
    return weighs(run) or bool(objectives.further(session.run_log().objective_names(run["id"])))


def weighting(run_id: str) -> None:
    """Draw charts of how a search weighs its losses, and of its losses other than the natural and the adversarial loss."""
    run = session.run_log().run(run_id)
    if weighs(run):
        _weights(run)
        _vertices(run)
        _gradients(run)
    _further_losses(run)


def rule_of(run: Mapping[str, Any]) -> Weighting | None:
    """Return the rule by which a search weighs its losses; None if this version does not know the rule."""
    name = run["config"].get("weighting", "mgda")
    if name not in WEIGHTINGS:
        return None
    return WEIGHTINGS[name]


def _weights(run: dict[str, Any]) -> None:
    """Draw the weights of a search's losses and the angles between their gradients, with an explanation."""
    log, rule = session.run_log(), rule_of(run)
    solver = rule.title if rule and rule.follows_gradients else ""
    section("Weights of the losses", f"{f'chosen by {solver}' if solver else 'fixed'}, and the angle between the gradients")
    told(run["id"], "objectives")
    curve_plot(run, _weights_and_angle, key="run_mgda", height=400, data=partial(log.objectives, run["id"], EVERY),
               label="Weights of the losses and angle between their gradients over the steps")
    explained = mgda.explained(rule.words if rule and solver else "", log.objectives(run["id"])["objective"].nunique())
    st.html(f'<p class="rp-note">{escape(explained)}</p>')


def _vertices(run: dict[str, Any]) -> None:
    """Draw how often a loss had the whole weight (a vertex of the simplex of weights), and how often a loss had no weight.

    Show nothing unless the search computes its weights from gradients and the weights add up to 1.
    """
    rule, log = rule_of(run), session.run_log()
    if rule is None or not (rule.follows_gradients and rule.on_simplex):
        return
    section("Steps at each vertex", "how often one loss decides alone, and how often a loss is ignored")
    names = vertices_of(log, run["id"]).alone
    data = partial(log.objective_epochs, run["id"])
    left, right = st.columns([7, 5], gap="large")
    with left:
        curve_plot(run, _vertex_bars, key="run_vertices", height=110 + 44 * max(2, len(names)), data=data,
                   label="Share of the steps in which each loss decided alone and was ignored")
        st.html(f'<p class="rp-note">{BARS}</p>')
    with right:
        curve_plot(run, _ignored, key="run_ignored", height=110 + 44 * max(2, len(names)), data=data,
                   label="Share of the steps in which each loss was ignored, by epoch")
    live_html(feed_of(f"training:{run['id']}", closed_form_html, run["id"]), key="run_closed_form",
              live=run["status"] in CHANGING)


def _gradients(run: dict[str, Any]) -> None:
    section("Gradients", "norms on logarithmic scales, and the stationarity of the search")
    if curve_plot(run, _norms, key="run_gradients", height=360, data=partial(session.run_log().objective_epochs, run["id"]),
                  label="Norm of each loss's gradient, and of their weighted sum, over the steps"):
        st.html(f'<p class="rp-note">{STATIONARITY}</p>')


def _further_losses(run: dict[str, Any]) -> None:
    """Draw one chart for each loss of a search other than the natural and adversarial losses."""
    log = session.run_log()
    if names := objectives.further(log.objective_names(run["id"])):
        section("Further losses", "alphas split, before coefficients")
        curve_plot(run, _losses, key="run_further_losses", height=30 + 160 * objectives.rows_of(names),
                   label=f"Over the steps: {', '.join(map(objectives.title_of, names))}",
                   data=partial(log.objectives, run["id"], EVERY))


def closed_form_html(log: RunLog, run_id: str) -> str:
    """Return HTML that compares the recorded weights with the closed-form solution that MGDA has for two losses.

    Return "" for a run that does not weigh exactly two losses by MGDA.
    """
    found = closed_form(log, run_id)
    if found is None:
        return ""
    first = next(iter(vertices_of(log, run_id, 1).alone))
    text = f"{CLOSED_FORM.format(first=title_of(first))} {agreement(found)}"
    return f'<p class="rp-note">{escape(text)}</p>'


def agreement(found: ClosedForm) -> str:
    """Return a sentence that says how closely the recorded weights of two losses agree with MGDA's closed-form solution."""
    near = f"to within {AGREES:.6f}"
    if found.agreeing == 1:
        steps = f"all {found.steps:,} steps" if found.steps > 1 else "the only step"
        return f"In {steps}, the recorded weights are these {near}."
    return (f"The recorded weights are these {near} in {percent(found.agreeing)} of {plural(found.steps, 'step')}; the largest "
            f"difference is {found.largest_difference:.2g}.")


def _losses(log: RunLog, run_id: str) -> PlainFigure:
    return objectives.further_losses(log.objectives(run_id))


def _weights_and_angle(log: RunLog, run_id: str) -> PlainFigure:
    return mgda.weights_and_angle(log.objectives(run_id))


def _norms(log: RunLog, run_id: str) -> PlainFigure:
    return cockpit.gradients(log.objectives(run_id), log.stationarity(run_id))


def _vertex_bars(log: RunLog, run_id: str) -> PlainFigure:
    return cockpit.vertices(vertices_of(log, run_id), vertices_of(log, run_id, LAST_STEPS))


def _ignored(log: RunLog, run_id: str) -> PlainFigure:
    return cockpit.ignored_by_epoch(log.objective_epochs(run_id))
