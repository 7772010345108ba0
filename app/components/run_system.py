"""The System tab of the Run page: the load of the machine on which a run computes."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from app import session
from app.charts import system as charts
from app.charts.frame import PlainFigure
from app.components.live import feed_of
from app.components.live_html import live_html
from app.components.live_plot import live_plot
from app.components.states import empty_state, section
from app.formats import escape
from engine.insight.sentences import sentence
from engine.log import RunLog
from engine.log.training_queries import EVERY


def system(run_id: str) -> None:
    """Show the load of a run's machine: one sentence, and charts of the measurements over time."""
    log = session.run_log()
    section("System", "the load of the machine, measured by the worker every ten seconds")
    is_over = log.state(run_id).is_over
    if log.telemetry(run_id, 1).empty and is_over:
        empty_state("No measurements", "This run ended before its first measurement, or was made by an older version, which "
                    "recorded no load of the machine.")
        return
    topic = f"system:{run_id}"
    live_html(feed_of(topic, words, run_id), key="run_system_words", live=not is_over)
    live_plot(figure(log, run_id), key="run_system", data=partial(data, log, run_id),
              feed=None if is_over else feed_of(topic, figure, run_id),
              label="Throughput, processor, memory, disk and GPUs over time")
    if not log.gpu_telemetry(run_id, 1).empty:
        st.html('<p class="rp-note">The numbers of a GPU include other programs that use it.</p>')


def words(log: RunLog, run_id: str) -> str:
    """Return the sentence about the load of the machine as HTML."""
    return f'<p class="rp-note">{escape(sentence(log, run_id, "system"))}</p>'


def figure(log: RunLog, run_id: str) -> PlainFigure:
    """Return the chart of all measurements of a run."""
    return charts.system(log.telemetry(run_id), log.gpu_telemetry(run_id))


def data(log: RunLog, run_id: str) -> pd.DataFrame:
    """Return all measurements of the machine, one row per time. Further columns hold the measurements of its GPUs."""
    load, gpus = log.telemetry(run_id, EVERY), log.gpu_telemetry(run_id, EVERY)
    if gpus.empty:
        return load
    return pd.merge_asof(load, gpus.drop(columns="step").sort_values("t"), on="t", direction="nearest", tolerance=1.0,
                         suffixes=("", "_gpu"))
