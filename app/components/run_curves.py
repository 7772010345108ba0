"""The panel with the curves of a search or retraining: accuracies and losses.

While the run is active, the server sends new points to the charts without a rerun of the panel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.charts.frame import PlainFigure
from app.charts.training import NAMES, trade_off
from app.components.live import feed_of
from app.components.live_plot import live_plot
from app.components.run_candidates import measured_split
from app.components.states import section
from engine.log import RunLog
from engine.search.methods.registry import METHODS

CHANGING = ("queued", "running", "stopping")
THIN_LINES = {"search": "Each point is the mean over an epoch; the thin lines are single steps, each on one batch.",
              "retrain": "Each point is the mean over an epoch; the thin line shows single training batches; the last batch of "
                         "an epoch is smaller than the others."}
SPLITS = {"search": ("alphas", "alphas split, batch statistics, not a result"),
          "retrain": ("select", "select split, running statistics, not a result; training loss on the weights and alphas splits")}
CANDIDATE_WORDS = "{} split, running statistics, not a result, one point per candidate; training loss on the weights split"
CANDIDATE_POINTS = ("Each accuracy is the mean over the {} split after a candidate finished training; each training loss is the "
                    "mean of an epoch. The thin line shows single training batches. Each candidate starts from fresh weights.")


def curves(run_id: str) -> None:
    """Draw the natural and adversarial loss and accuracy of a run."""
    _accuracies_and_losses(session.run_log().run(run_id))


def on_supernet(run: dict[str, Any]) -> bool:
    """Return True if the search method of a run trains a supernet, or if this version does not know the method."""
    return run["method"] not in METHODS or METHODS[run["method"]].config.on_supernet


def _accuracies_and_losses(run: dict[str, Any]) -> None:
    split, words = SPLITS[run["kind"]]
    one_network = run["kind"] != "search" or on_supernet(run)
    split = split if one_network else measured_split(session.run_log(), run["id"])
    words = words if one_network else CANDIDATE_WORDS.format(split)
    section("Natural versus adversarial" if is_attacked(run) else "Loss and accuracy", words)
    label = f"{'Natural and adversarial' if is_attacked(run) else 'Natural'} accuracy and loss, {words}"
    if curve_plot(run, _trade_off, split, one_network, key="run_trade_off", height=400, label=label,
                  data=partial(session.run_log().scalars, run["id"])):
        st.html(f'<p class="rp-note">{THIN_LINES[run["kind"]] if one_network else CANDIDATE_POINTS.format(split)}</p>')


def curve_plot(run: dict[str, Any], draw: Callable[..., PlainFigure], *args: Any, key: str, height: int,
               data: Callable[[], pd.DataFrame], label: str) -> bool:
    """Show a chart that is updated whenever the run records new curves or weights. Return True if the chart has data now.

    Args:
        run: row of the run, from `RunLog.run`.
        draw: function that takes the run log, the id of the run and `args`, and returns the figure.
        args: further arguments of `draw`.
        key, height, data, label: passed on to `live_plot`.
    """
    feed = feed_of(f"training:{run['id']}", draw, run["id"], *args)
    figure = draw(session.run_log(), run["id"], *args)
    live_plot(figure, key=key, height=height, label=label, data=data, feed=feed if run["status"] in CHANGING else None)
    return bool(figure["data"])


def _trade_off(log: RunLog, run_id: str, split: str, one_network: bool) -> PlainFigure:
    return trade_off(log.curves(run_id), log.steps_curve(run_id, list(NAMES)), split=split, joined=one_network)


def is_attacked(run: dict[str, Any]) -> bool:
    """Return True if a search or retraining attacks images while it runs, or if this version does not know its method."""
    return run["kind"] != "search" or not (_lacks(run, "attack_steps") and _lacks(run, "attack_epsilon"))


def _lacks(run: dict[str, Any], name: str) -> bool:
    """Return True if the search method of a run is known and has no setting with this name."""
    return run["method"] in METHODS and name not in METHODS[run["method"]].config.model_fields
