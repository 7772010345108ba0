"""The alerts of one run, at the top of the Overview tab of the run's page."""

from __future__ import annotations

import streamlit as st

from app import session
from app.components.alert_list import list_html
from app.components.run_header import why
from app.formats import plural
from engine.insight.alerts import Alert, alerts_of
from engine.log import RunLog

MOST = 4  # alerts that are always shown; an expander holds the others


def alerts(run_id: str) -> None:
    """Show the alerts of a run, worst first, except the reason why the run failed, which is shown above the tabs."""
    log = session.run_log()
    run = log.run(run_id)
    told = why(run) if run["status"] == "failed" else ""
    found = [alert for alert in of_run(log, run_id) if alert.sentence.rstrip(".") not in told]
    if found:
        st.html(list_html(found[:MOST]))
    if more := found[MOST:]:
        with st.expander(plural(len(more), "further alert")):
            st.html(list_html(more))


def of_run(log: RunLog, run_id: str) -> list[Alert]:
    """Return the alerts about a run, worst first, and after them the problems that were found in its files."""
    faults = log.alerts(run_id)
    return [*(alert for alert in alerts_of(log, [run_id]) if alert.run),
            *(Alert("warning", "run", run_id, None, None, str(text)) for text in faults[faults["source"] == "run log"]["text"])]
