"""A piece of HTML that changes without a rerun of its panel, such as the progress bar of a run."""

from __future__ import annotations

import streamlit as st

from app import session
from app.assets import asset
from app.live_values import Feed, Value

_component = st.components.v2.component("rampart_live_html", html='<div class="rp-live"></div>',
                                        js=asset("cells.js", "live_html.js"), isolate_styles=False)


def live_html(feed: Feed, *, key: str, live: bool) -> None:
    """Show the HTML that a feed draws.

    Args:
        feed: source of the HTML. Texts in it must be escaped already.
        key: name of this piece of HTML, unique on the page.
        live: True to keep it up to date; False if only a rerun of the panel changes it.
    """
    if not live:
        if html := feed.draw():
            st.html(str(html))
        return
    value, name = Value.of(feed.draw()), feed.name(key)
    session.hub().values.offer(name, feed, value)
    _component(data={"html": value.text, "revision": value.revision, "feed": name}, key=key)
