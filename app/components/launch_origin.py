"""The run from which the Launch page was filled: the settings that now differ from it, and a button that repeats it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.form import FormValues
from app.components.launch_choice import Choice, filled
from app.components.launch_details import origin_differences, origin_html
from app.components.states import RUN_PAGE, problem
from app.formats import escape, plural
from app.launching import draft_of_run
from engine import requests
from engine.errors import RampartError
from engine.grid import Grid, launches_of
from engine.run.folder import RunFolder


def origin(choice: Choice, forms: Mapping[str, FormValues]) -> None:
    """Show the run that filled the page, if any: name, settings that now differ, and the button that repeats it exactly."""
    run_id = filled()["draft"].origin
    if not run_id:
        return
    with st.container(border=True):
        words, again = st.columns([4, 1], vertical_alignment="center")
        with again:
            act_button("Re-run exactly", key="launch.again", icon=":material/replay:", on_click=_again, width="stretch",
                       args=(run_id, uuid4().hex), help="Launch the same runs with the same settings and seeds, without the "
                       "changes below.")
        try:
            title = str(RunFolder(session.runs_root(), run_id).read_run().get("title") or run_id)
            rows = origin_differences(choice, forms, run_id)
        except RampartError as refusal:
            problem(str(refusal), link=None)
            return
        told = ("its settings cannot be compared with this page" if rows is None else
                f"{plural(len(rows), 'setting')} {'differs' if len(rows) == 1 else 'differ'}" if rows else "no setting differs")
        words.html(f"Copy of <b>{escape(title)}</b> <code>{escape(run_id)}</code>: {told}.")
        if rows:
            st.html(origin_html(choice, rows, run_id))
        if refused := st.session_state.pop("launch.again.problem", ""):
            problem(refused, link=None)
    if launched := st.session_state.pop("launch.again.run", ""):
        st.switch_page(RUN_PAGE, query_params={"id": launched})


def _again(run_id: str, token: str) -> None:
    """Launch copies of a run and of the runs that followed it. A second call with the same token launches nothing."""
    root = session.runs_root()
    try:
        draft = draft_of_run(root, run_id, exactly=True)
        (ids,) = requests.submit_all(root, launches_of(draft, Grid({}), draft.parent or None), token, exact=True)
    except RampartError as refusal:
        st.session_state["launch.again.problem"] = str(refusal)
        return
    session.hub().refresh()
    st.session_state["launch.again.run"] = ids[0]
