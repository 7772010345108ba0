"""The button that fetches a dataset, the progress of the fetch, and the reason if it fails."""

from __future__ import annotations

import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.progress import progress_html
from app.components.states import problem
from app.fetching import fetch, fetches
from engine.command import program
from engine.data.catalogue import DATASETS
from engine.data.fetching import Presence

POLL_S = 0.5  # seconds between two looks at a running download


def fetch_panel(presence: Presence) -> None:
    """Show how to get a missing dataset: the command, and a button if the dataset can be downloaded or prepared."""
    name = presence.name
    package = name in DATASETS and DATASETS[name].package is not None
    current = fetches().get(name)
    if current is not None and not current.over:
        st.fragment(_watch, run_every=POLL_S)(name)
        return
    if current is not None and current.refusal:
        problem(current.refusal, link=None)
    if not package:
        act_button(_label(name), type="primary", icon=":material/download:", key="datasets.fetch", on_click=_start, args=(name,),
                  help="Downloads the official file, verifies its checksum and prepares it. A broken download continues where it "
                       "stopped. Runs never download anything.")
    st.caption("Or in a terminal:" if not package else "In a terminal:")
    st.code(presence.command.replace("rampart", program(), 1), language="bash", wrap_lines=True)


def _start(name: str) -> None:
    fetch(session.runs_root(), name)


def _label(name: str) -> str:
    size = sum(source.bytes for source in DATASETS[name].sources) if name in DATASETS else 0
    return f"Fetch ({size / 1e6:.0f} MB)" if size else "Prepare"


def _watch(name: str) -> None:
    """Show the progress of a fetch. Rerun the whole page when the fetch has ended."""
    current = fetches().get(name)
    if current is None or current.over:
        st.rerun()
        return
    images = current.what == "preparing"
    scale = 1 if images else 1e6
    st.html(progress_html(title="Preparing" if images else "Fetching", done=current.done / scale if current.total else None,
                          total=current.total / scale if current.total else None, unit="images" if images else "MB",
                          detail="" if images else current.what, pending="connecting"))
    st.button("Stop", key="datasets.stop", icon=":material/stop:", on_click=current.stop,
              help="The downloaded part is kept, and the next fetch continues from there.")
