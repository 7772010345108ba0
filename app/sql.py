"""The console that runs the SQL queries of all browser tabs. It copies the index of the run log once per change, for all tabs."""

from __future__ import annotations

import streamlit as st

from app import session
from engine.log.sql import Console


def console() -> Console:
    """Return the console of this server's run log."""
    return _console(session.hub().name)


@st.cache_resource(show_spinner=False, max_entries=1)
def _console(hub: str) -> Console:
    """Return a new console. Every hub has its own name, so the cache never returns the console of another run log."""
    return Console(session.run_log())
