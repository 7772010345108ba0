"""A notice that appears on an open page when the dashboard has stopped, in place of Streamlit's dialog for developers."""

from __future__ import annotations

import streamlit as st

from app.assets import asset

_component = st.components.v2.component("rampart_connection", html='<div class="rp-offline" role="alert"></div>',
                                        js=asset("connection.js"), isolate_styles=False)


def connection_notice() -> None:
    """Add to the page a notice that the dashboard has stopped. The notice stays invisible while the dashboard answers."""
    with st.container(key="rp-connection"):
        _component(key="connection")
