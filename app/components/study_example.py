"""The example study, made of real runs. A click adds it, so that every page has contents; another click removes it."""

from __future__ import annotations

import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.states import STUDIES_PAGE, STUDY_PAGE, problem
from engine.errors import RampartError
from engine.study.archive import EXAMPLE, open_example, remove_example
from engine.study.overview import Overview

NOTICE = "studies.notice"  # in the session: what the last click on the list of studies or on a deletion did


def offer() -> None:
    """Show the box with the button that adds the example study."""
    if not EXAMPLE.exists():
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="rp-study-example"):
        st.html('<div class="rp-question"><h2>See a study of real runs</h2><p class="rp-note">Real searches, retrainings and '
                "attacks on handwritten digits, with their answer. They fill every page within seconds, are marked as example, "
                "and can be removed with one click.</p></div>")
        if act_button("Open an example study", key="studies.example", icon=":material/science:"):
            show_example()


def show_example() -> None:
    """Add the example studies, and open the page of the first one."""
    try:
        ids = open_example(session.runs_root())
    except RampartError as refusal:
        problem(str(refusal), link=None)
        return
    session.hub().refresh()
    session.hub().studies.refresh()
    if ids:
        st.switch_page(STUDY_PAGE, query_params={"id": ids[0]})
    st.switch_page(STUDIES_PAGE)  # another tab has added the example meanwhile


def removal(studies: list[Overview]) -> None:
    """Show the button that removes the example study. Show nothing if the example is not among the studies."""
    if any(one.study.example for one in studies) and act_button(
            "Remove the example", key="studies.example.remove", icon=":material/delete:",
            help="Removes the example studies and their runs. Your own studies and runs stay."):
        _remove()


def _remove() -> None:
    """Remove the example, and show the list of studies with a notice. The page of a removed study has nothing to show."""
    try:
        remove_example(session.runs_root())
    except RampartError as refusal:
        problem(str(refusal), link=None)
        return
    session.hub().refresh()
    session.hub().studies.refresh()
    st.session_state[NOTICE] = "The example has been removed."
    st.switch_page(STUDIES_PAGE)
