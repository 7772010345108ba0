"""A place on the page to which the browser scrolls, for example to an editor that a button has filled."""

from __future__ import annotations

import streamlit as st

from app.assets import asset

_component = st.components.v2.component("rampart_scroll", html='<span class="rp-place"></span>', js=asset("scroll.js"),
                                        isolate_styles=False)


def scroll_here(token: str, *, key: str) -> None:
    """Scroll to this place, once for each token.

    Args:
        token: text that changes when the browser should scroll here again.
        key: name of the place, unique on the page.
    """
    _component(data={"token": token}, key=key)
