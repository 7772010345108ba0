"""The notice that the queue is paused, for the Queue page and for pages that launch or list runs."""

from __future__ import annotations

import time

import streamlit as st

from app import session
from app.components.live import live_panel
from app.formats import escape, markdown, plural
from engine import queueing
from engine.errors import RampartError
from engine.run.queue import PAUSING, Queue


def pause_html(decisions: Queue, waiting: int, *, link: bool) -> str:
    """Return a notice that the queue is paused, as HTML; "" if the queue is not paused.

    Args:
        decisions: what users have decided about the queue, including whether and since when it is paused.
        waiting: number of waiting runs.
        link: True to add a link to the Queue page.
    """
    if decisions.paused_at is None:
        return ""
    limited = decisions.hold("") == PAUSING
    words = "Begun chains go on to their end, nothing else starts" if limited else "Running runs go on, nothing new starts"
    wait = "nothing waits" if not waiting else f"{plural(waiting, 'run')} {'waits' if waiting == 1 else 'wait'}"
    more = '<span class="rp-note"><a href="queue" target="_self">Open the queue</a></span>' if link else ""
    return (f'<div class="rp-row" role="status"><span class="rp-chip rp-tone-warn">Queue paused</span>'
            f'<span>{escape(f"Since {since_text(decisions.paused_at)}. {words}; {wait}.")}</span>{more}'
            "</div>")


def since_text(seconds: float) -> str:
    """Return a Unix time as local time, with the date unless it is today."""
    at = time.localtime(seconds)
    return time.strftime("%H:%M" if at[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", at)


@live_panel("queue", key="queue_note")
def queue_note() -> None:
    """Show a notice while the queue is paused, with a link to the Queue page."""
    paused_note()


def paused_note() -> None:
    """Show the notice if the queue is paused now. Unlike `queue_note`, do not update the notice later.

    The Launch page uses this function. A launch changes the queue, and a live panel that reran at that moment would disturb the
    switch to the page of the new run.
    """
    try:
        decisions = queueing.decisions_of(session.runs_root())
    except RampartError as trouble:  # a damaged file must not hide the page; the Queue page tells what to do
        st.caption(markdown(trouble))
        return
    if decisions.is_paused:
        st.html(pause_html(decisions, int((session.run_log().runs()["status"] == "queued").sum()), link=True))
