"""The buttons of a study: stop, resume, extend, duplicate and delete."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import session
from app.components import run_actions
from app.components.act_button import act_button
from app.components.run_actions import Action, answer
from app.components.states import STUDIES_PAGE, problem
from app.components.study_example import NOTICE, removal
from app.components.study_questions import STARTED
from app.formats import markdown, plural
from app.studies import ACTIVE
from engine.errors import RampartError
from engine.study import actions
from engine.study.deletion import delete
from engine.study.folder import StudyFolder
from engine.study.overview import Overview

STOP = Action("Stop", "stop", "Launch no further runs, and stop those that wait or run. The study can be resumed.",
              "Stopping: each run writes a checkpoint and ends within seconds.", actions.stop)
RESUME = Action("Resume", "play_arrow", "Continue the stopped runs from their checkpoints, and launch the runs that are missing.",
                "Resuming: the study continues.", actions.resume)
AGAIN = Action("Try failed cells again", "replay", "Continue the failed and stopped runs from their checkpoints.",
               "The failed runs continue.", actions.resume)
MOST_SEEDS = 20


def perform(action: Action, study_id: str) -> None:
    """Request an action for a study, and make the pages read its runs again.

    Args:
        action: the action, for example `STOP`.
        study_id: id of the study.
    """
    run_actions.perform(action, study_id)
    session.hub().studies.refresh()


def buttons(overview: Overview) -> None:
    """Show the buttons of a study, and a message about the last click. A button appears only where its action is possible.

    The example study launches no runs, and is removed together with its runs.
    """
    study_id, is_example = overview.study.id, overview.study.example
    with st.container(horizontal=True, key="rp-study-buttons"):
        if not is_example:
            _launching(overview)
        if st.button("Duplicate and edit", key="study.edit", icon=":material/edit:",
                     help="Open a copy of this study's text in the editor."):
            st.session_state.pop(STARTED, None)
            st.switch_page(STUDIES_PAGE, query_params={"new": "own", "edit": study_id})
        if is_example:
            removal([overview])
        else:
            _delete(overview)
    refusal, done = answer(study_id)
    if refusal:
        problem(refusal, link=None)
    elif done:
        st.caption(markdown(done))


def _launching(overview: Overview) -> None:
    """Show the buttons that stop, resume and extend a study."""
    study_id = overview.study.id
    if overview.status in ACTIVE:
        _button(STOP, "study.stop", study_id)
    if overview.status == "stopped":
        _button(RESUME, "study.resume", study_id, primary=True)
    elif any(cell.status in ("failed", "stopped") for cell in overview.results.cells):
        _button(AGAIN, "study.again", study_id, primary=overview.status == "failed")
    _extend(overview)


def _button(action: Action, key: str, study_id: str, *, primary: bool = False) -> None:
    act_button(action.label, key=key, icon=f":material/{action.icon}:", help=action.help, on_click=perform,
              args=(action, study_id), type="primary" if primary else "secondary")


def _extend(overview: Overview) -> None:
    """Show the menu for repeating every arm of a study for more search seeds."""
    with st.popover("Extend", icon=":material/add:", key="study.extend.open"):
        looked = (" Results are known already. The report will say so, because extending a study until a difference shows raises "
                  "the rate of false claims." if overview.results.done else "")
        st.caption(f"Repeat every arm for more search seeds; the study has {len(overview.study.search_seeds)}.{looked}")
        seeds = int(st.number_input("More search seeds", 1, MOST_SEEDS, 5, key="study.seeds"))
        cells = seeds * len(overview.study.arms) * overview.study.retrainings
        extend = Action(f"Extend by {plural(seeds, 'seed')}", "add", "", f"Extended by {plural(seeds, 'search seed')}.",
                        partial(_extended, seeds))
        act_button(f"{extend.label}: {plural(cells, 'more cell')}", key="study.extend",
                  type="primary", on_click=perform, args=(extend, overview.study.id))


def _extended(seeds: int, runs: object, study_id: str) -> None:
    actions.extend(session.runs_root(), study_id, seeds)


def _own_runs(overview: Overview) -> int:
    """Return the number of runs of a study that were launched for it or taken over from a deleted study."""
    inherited = set(StudyFolder(session.runs_root(), overview.study.id).inherited())
    return len({step.run for cell in overview.results.cells for step in cell.steps
                if step.run and (not step.reused or step.run in inherited)})


def _delete(overview: Overview) -> None:
    """Show the menu for deleting a study. The user can choose to delete its runs, too."""
    busy = overview.status in ACTIVE
    with st.popover("Delete", icon=":material/delete:", disabled=busy, key="study.delete.open",
                    help="Stop the study first: some of its runs wait or run." if busy else None):
        own = _own_runs(overview)
        with_runs = own > 0 and st.checkbox(f"Also delete {'the run' if own == 1 else f'the {own} runs'} launched for it",
                                            key="study.with_runs", help="Runs that another study uses are kept until that "
                                            "study is deleted with its runs.")
        st.caption("The runs and everything they measured are removed from the disk." if with_runs else
                   "The runs stay in the list of runs." if own else "All its runs were launched otherwise, and stay.")
        if act_button("Delete the study and its runs" if with_runs else "Delete the study", role="admin", key="study.delete",
                      type="primary"):
            try:
                deletion = delete(session.runs_root(), overview.study.id, with_runs=with_runs)
            except RampartError as refusal:
                problem(str(refusal), link=None)
                return
            session.hub().studies.refresh()
            st.session_state[NOTICE] = f"The study “{overview.study.question}” is deleted{deletion.words}."
            st.switch_page(STUDIES_PAGE)
