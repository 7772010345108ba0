"""Live panels: a panel reruns when something that it shows has changed, and only then.

    @live_panel("runs", key="runs_table")
    def table() -> None:
        ...draw from session.run_log()...

    table()

A panel is a Streamlit fragment with one invisible component. In the browser, all these components share one timer, which
fetches the signature file of the server (`session.Hub`) three times a second. A component whose topic has a new signature
reruns its fragment alone, one panel after the other. While nothing changes, nothing runs and no DOM node is touched. A
hidden tab does not fetch. While the file cannot be fetched, panels rerun every three seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import streamlit as st

from app import session
from app.assets import asset

_ticker = st.components.v2.component("rampart_ticker", html="<span hidden></span>", js=asset("live.js"), isolate_styles=False)


def live_panel(topic: str, *, key: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that turns a function into a panel that follows `topic`.

    Args:
        topic: "runs", or a topic of one run: "run:<id>", "training:<id>", "architecture:<id>" or "log:<id>" (see `session`).
        key: unique on the page, constant between script runs.

    Widgets in the panel rerun only the panel. It must not write to containers created outside it.
    """
    def decorate(draw: Callable[..., Any]) -> Callable[..., Any]:
        @st.fragment
        @wraps(draw)
        def panel(*args: Any, **kwargs: Any) -> None:
            shared = session.hub()
            signature = shared.watch(topic)
            draw(*args, **kwargs)
            with st.container(key=f"rampart-ticker-{key}"):
                _ticker(data={"key": key, "topic": topic, "signature": signature, "url": shared.live_url},
                        key=f"ticker_{key}", on_changed_change=_nothing)
        return panel
    return decorate


def _nothing() -> None:
    """Do nothing: Streamlit reports a trigger only to components with a callback for it."""
