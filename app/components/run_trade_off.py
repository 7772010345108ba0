"""The trade-off of a search or retraining: natural and adversarial accuracy over its epochs, and the front of comparable runs."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.charts.frame import PlainFigure
from app.charts.trail import trail_figure
from app.components.live import feed_of
from app.components.live_plot import live_plot
from app.components.run_curves import CHANGING
from app.components.run_sentence import told
from app.components.states import empty_state, page_link, section
from app.formats import dataset_title, epsilon, escape
from engine.log import RunLog

PARETO_PAGE = "views/pareto.py"
SUPERNET = ("A supernet shares its weights among all architectures, so these accuracies show the course of a search and are "
            "not a result.")
CHECKPOINT = "These accuracies choose the checkpoint, so they flatter it and are not a result."


def trade_off_trail(run_id: str) -> None:
    """Draw the accuracies of a run over its epochs, and the front of all runs that have the same dataset, split and attack."""
    log = session.run_log()
    run = log.run(run_id)
    trail = log.pareto_epochs([run_id], run["kind"])
    section("Trade-off", "natural against adversarial accuracy, one point per epoch, not a result")
    told(run_id, "trade_off")
    if trail.empty:
        empty_state("No epoch with both accuracies yet", "Each epoch becomes a point: natural accuracy to the right, adversarial "
                    "accuracy upwards.")
        return
    everyone = log.pareto_epochs(kind=run["kind"])
    alike = everyone[everyone["group"] == trail["group"].iloc[0]]
    live_plot(trail_of(log, run_id, run["kind"], alike), key="run_trail", height=460, data=lambda: alike,
              feed=feed_of(f"training:{run_id}", partial(trail_of, others=alike), run_id, run["kind"])
              if run["status"] in CHANGING else None,
              label="Natural and adversarial accuracy of each epoch, over the front of all runs with this dataset and attack")
    st.html(f'<p class="rp-note">{escape(explained(run, trail.iloc[0]))}</p>')
    chosen = {"searches": str(trail["group"].iloc[0]), "trails": run_id} if run["kind"] == "search" else {}
    page_link(PARETO_PAGE, "All searches on the Pareto page" if chosen else "Attacked networks on the Pareto page", **chosen)


def trail_of(log: RunLog, run_id: str, kind: str, others: pd.DataFrame) -> PlainFigure:
    """Return the figure with all epochs of a run so far, read from the run log now, and the epochs of comparable runs.

    Args:
        log: the run log.
        run_id: id of the run.
        kind: kind of the run.
        others: rows of `RunLog.pareto_epochs` for the comparable runs, read when the panel was drawn.
    """
    return trail_figure(log.pareto_epochs([run_id], kind), others, kind)


def explained(run: dict[str, Any], first: pd.Series) -> str:
    """Return the explanation below the plot: what its crosses, its dotted front and its accuracies mean.

    Args:
        run: row of the run, from `RunLog.run`.
        first: row of `RunLog.pareto_epochs` for any epoch of this run.
    """
    runs = "searches" if run["kind"] == "search" else "retrainings"
    return (f"Crosses are the newest epochs of other {runs} with {dataset_title(first['dataset'])}, {first['attack_title']} and "
            f"epsilon {epsilon(first['epsilon'])}; no epoch of any of them is better in both accuracies than the dotted front. "
            f"An epoch's accuracies are means over batches of the {first['measured'].split(',')[0]} and have no interval. "
            f"{SUPERNET if run['kind'] == 'search' else CHECKPOINT}")
