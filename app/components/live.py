"""Live panels: parts of a page that are redrawn whenever their data change, and only then.

    @live_panel("runs", key="runs_table")
    def table() -> None:
        ...draw from session.run_log()...

    table()

A panel is a Streamlit fragment with one invisible component. Each panel shows data of one topic, such as "runs" for the list of
runs. For each topic, the server (`hub.Hub`) computes a signature, a short text that changes when the data change. In the browser,
all panels share one WebSocket (`live_channel`), which brings the new signatures. When the signature of a topic has changed, the
panels of this topic that are on the screen rerun, one after another. The other panels rerun when the reader scrolls to them. A
hidden browser tab shows no topic. While there is no connection, panels rerun every three seconds.

Progress and curves of an active run change all the time. They need no rerun: a chart or text with a feed (`feed_of`) receives its
changes over the same WebSocket.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import streamlit as st

from app import session
from app.assets import asset
from app.charts.frame import PlainFigure
from app.live_values import Feed
from engine.acts import why_not

_ticker = st.components.v2.component("rampart_ticker", html="<span hidden></span>", js=asset("live.js"), isolate_styles=False)


def live_panel(topic: str, *, key: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that turns a drawing function into a panel. The panel is redrawn whenever the data of a topic change.

    A widget inside the panel reruns only the panel. The function must not draw into containers that were created outside it.

    Args:
        topic: for example "runs", or "log:<id>" for a run. The docstring of `app.hub` explains all topics.
        key: name of the panel, unique on the page and the same each time Streamlit runs the script.
    """
    def decorate(draw: Callable[..., Any]) -> Callable[..., Any]:
        @st.fragment
        @wraps(draw)
        def panel(*args: Any, **kwargs: Any) -> None:
            session.run_log()  # takes in what has happened until now, so that the signature belongs to the drawn data
            shared = session.hub()
            signature = shared.signature(topic)
            with st.container(key=f"rampart-panel-{key}"):
                draw(*args, **kwargs)
                with st.container(key=f"rampart-ticker-{key}"):
                    _ticker(data={"key": key, "topic": topic, "signature": signature, "url": f"live/{shared.name}"},
                            key=f"ticker_{key}", on_changed_change=_nothing)
        return panel
    return decorate


def feed_of(topic: str, draw: Callable[..., PlainFigure | str], *args: Any) -> Feed:
    """Return a feed, which keeps a chart or text up to date without reruns of its panel.

    Args:
        topic: topic of the data.
        draw: function that takes the run log and `args`, and returns a figure or HTML. It must not use the page's session.
        args: further arguments of `draw`. The name of the feed contains those that are texts or integers. Two feeds with the same
            topic and key therefore need different texts or integers; other arguments do not tell them apart.
    """
    shared = session.hub()
    about = " ".join(str(one) for one in args if isinstance(one, (str, int)))
    return Feed(topic, partial(draw, shared.log, *args), shared.signature(topic), about)


def expect_launch(threads: int | None) -> None:
    """Have a worker with `threads` threads made ready while the page is open: draw an empty panel whose topic asks for it.

    Draw nothing if the user may not launch runs. None stands for the number of threads that a run takes by default.
    """
    if not why_not("runner"):
        live_panel(f"{session.hub().launch_topic}{threads or 0}", key="launch_expected")(lambda: None)()


def _nothing() -> None:
    """Do nothing. Streamlit reports a trigger of a component only if the trigger has a callback."""
