"""The Runs page. It lists all runs with status, accuracies and progress. Buttons open, stop and resume the selected run."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from app import session, theme
from app.components.badge import BADGE_HELP, badge_cell, badge_of
from app.components.live import live_panel
from app.components.queue_note import queue_note
from app.components.run_actions import KILL, RESUME, STOP, Action, answer, perform
from app.components.states import LAUNCH_PAGE, RUN_PAGE, empty_state, heading, page_link, problem
from app.components.status import status_chip_html
from app.components.table import NO_SORT, CellText, Column, Row, age_text, table
from app.formats import EMPTY, NOT_MEASURED, accuracy, coarse, dataset_title, duration, escape, interval, missing, plural, shown
from engine import requests
from engine.config.run import KINDS
from engine.errors import RampartError
from engine.report.robustness import WORST_TITLE
from engine.run.state import STATUSES, RunState

COLUMNS = (
    Column("title", "Run"), Column("status", "Status"), Column("kind", "Kind"), Column("dataset", "Dataset"),
    Column("natural", "Natural", "right", "Accuracy on unchanged images. Attack runs measure it on the test split, with a 95 % "
           "Wilson interval. Figures on another split guide a run and are not a result."),
    Column("adversarial", "Adversarial", "right", "Accuracy in the worst case over all attacks, or under the attack named. "
           "Attack runs measure it on the test split, with a 95 % Wilson interval. Figures on another split guide a run and are "
           "not a result."),
    Column("badge", "Badge", help=BADGE_HELP), Column("progress", "Progress"),
    Column("age", "Age", "right", "Time since it was launched."),
)
# The split on which each kind of run measures its accuracies. Accuracies on different splits are not comparable.
SPLITS = {"search": "alphas split", "retrain": "select split", "attack": "test split"}


def filtered(frame: pd.DataFrame, text: str, statuses: list[str], kinds: list[str]) -> pd.DataFrame:
    """Return the rows of the runs that match a filter.

    Args:
        frame: table of runs, from `RunLog.runs`.
        text: words. Each word must occur in the id, title, preset, dataset or study of the run. Case is ignored.
        statuses: allowed statuses. An empty list allows all.
        kinds: allowed kinds. An empty list allows all.
    """
    searched = pd.Series("", index=frame.index)
    for column in ("id", "title", "preset", "dataset", "study"):
        searched += " " + frame[column].fillna("").astype(str).str.lower()
    keep = pd.Series(True, index=frame.index)
    for word in text.lower().split():
        keep &= searched.str.contains(word, regex=False)
    if statuses:
        keep &= frame["status"].isin(statuses)
    if kinds:
        keep &= frame["kind"].isin(kinds)
    return frame[keep]


def row_of(run: pd.Series) -> Row:
    """Return the row of a run in the table."""
    glyph, tone = theme.STATUS.get(run["status"], ("?", "muted"))
    split, name = split_of(run), name_of(run)
    return Row(run["id"], {
        "title": CellText(name, sub=run["id"] + (" · example" if run["example"] else ""), href=f"run?id={run['id']}", sort=name),
        "status": CellText(run["status"].capitalize(), tone=tone, glyph=glyph, sort=run["status"], sub=cause_of(run),
                           hint=shown(run["cause"])),
        "kind": CellText(theme.KIND_TITLES.get(run["kind"], EMPTY), sub=shown(run["preset"])),
        "dataset": CellText(dataset_title(shown(run["dataset"])) or EMPTY),
        "natural": number(run, "natural", "", split),
        "adversarial": number(run, "adversarial", shown(run["adversarial_attack"]), split),
        "badge": badge_cell(badge_of(run)),
        "progress": progress(run),
        "age": age(run["created"])})


def split_of(run: pd.Series) -> str:
    """Return the split on which the accuracies of a run were measured.

    The split depends on the kind of run. Searches that measure candidates one by one use the select split, other searches the
    alphas split.
    """
    candidates = run["kind"] == "search" and shown(run["accuracy_of"]).startswith("select split")
    return "select split" if candidates else SPLITS.get(run["kind"], "")


def age(created: float | None) -> CellText:
    """Return the table cell with the time since a run was launched. The browser keeps this time up to date."""
    if missing(created):
        return CellText(EMPTY, sort=NO_SORT)
    return CellText(age_text(max(0.0, time.time() - created)), since=float(created), sort=-float(created))


def name_of(run: pd.Series) -> str:
    """Return the title of a run, or "Unreadable run" if its run.json cannot be read."""
    return shown(run["title"]) if run["title"] != run["id"] else "Unreadable run"


def cause_of(run: pd.Series) -> str:
    """Return the cause of a run's status in at most 90 characters, or "".

    For a failed, queued or early finished run, it is the recorded reason. For a running run that has written no event for a
    minute, it is the time since the last event.
    """
    if run["status"] == "running" and not missing(run["silent_s"]) and run["silent_s"] >= 60:
        return f"no news for {coarse(run['silent_s'])}"
    cause = shown(run["cause"]) if run["status"] in ("failed", "queued", "finished") else ""
    return cause if len(cause) <= 90 else cause[:89].rstrip() + "…"


def number(run: pd.Series, name: str, attack: str, split: str) -> CellText:
    """Return the table cell of an accuracy.

    The cell has a second line:

    * For an accuracy on the test split, it gives the interval, the number of images and the attack. The worst case over all
      attacks names no attack.
    * For any other accuracy, it names the attack and the split and says that the accuracy is not a result.

    Args:
        run: row of the run, from `RunLog.runs`.
        name: "natural" or "adversarial".
        attack: title of the attack, or "".
        split: split on which the accuracy was measured, for example "test split".
    """
    value, low, high, images = (run[f"{name}_{end}"] for end in ("accuracy", "low", "high", "images"))
    if missing(value):
        return CellText(NOT_MEASURED, sort=NO_SORT, muted=True)
    words = ((attack, split, "not a result") if missing(low) else
             ("" if attack == WORST_TITLE else attack, interval(low, high), f"{images:,.0f} images"))
    return CellText(accuracy(value), sub=", ".join(filter(None, words)), sort=float(value),
                    hint=", ".join(filter(None, (attack, split))))


def progress(run: pd.Series) -> CellText:
    """Return the table cell of a run's progress: per cent, bar and time left."""
    if missing(run["progress"]):
        return CellText("waiting" if run["status"] == "queued" else EMPTY, sort=NO_SORT, muted=True)
    fill = {"finished": "good", "failed": "bad", "stopped": "warn"}.get(run["status"], "")
    left = ""
    if run["status"] == "running" and run["progress"] < 1:
        left = shown(run["detail"]) if missing(run["seconds_left"]) else f"about {duration(run['seconds_left'])} left"
    share = float(run["progress"])
    return CellText(f"{100 * share:.0f} %", sub=left, sort=share, fraction=share, fill=fill)


def selection(run: pd.Series) -> None:
    """Show the selected run with its buttons in the box above the table."""
    with st.container(border=True):
        chip = status_chip_html(run["status"], shown(run["cause"]), run["silent_s"])
        st.html(f'<div class="rp-row"><b>{escape(name_of(run))}</b><span class="rp-label">{escape(run["id"])}</span>{chip}</div>')
        with st.container(horizontal=True):
            if st.button("Open", key="runs.open", type="primary", icon=":material/open_in_new:"):
                st.switch_page(RUN_PAGE, query_params={"id": run["id"]})
            state = state_of(run["id"])
            if state is not None:
                _button(KILL if state.status == "stopping" else STOP, "runs.stop", run["id"], state.can_stop)
                _button(RESUME, "runs.resume", run["id"], state.can_resume)
            next_kind = {"search": "retrain", "retrain": "attack"}.get(run["kind"])
            if next_kind and run["status"] == "finished":
                page_link(LAUNCH_PAGE, f"{theme.KIND_TITLES[next_kind]} it", kind=next_kind, parent=run["id"])
        refusal, done = answer(run["id"])
        if refusal:
            problem(refusal, link=None)
        elif done:
            st.caption(done)


def _button(action: Action, key: str, run_id: str, possible: bool) -> None:
    st.button(action.label, key=key, icon=f":material/{action.icon}:", help=action.help, disabled=not possible, on_click=perform,
              args=(action, run_id))


def nothing_selected() -> None:
    """Show the box above the table while no run is selected.

    The box has the same size as the box of a selected run, so that selecting a row does not move the table.
    """
    with st.container(border=True):
        st.html('<div class="rp-row"><span class="rp-label rp-chip-high">No run selected. Click a row to select its run, or '
                "a name to open its page.</span></div>")
        with st.container(horizontal=True):
            for label, icon in (("Open", "open_in_new"), (STOP.label, STOP.icon), (RESUME.label, RESUME.icon)):
                st.button(label, key=f"runs.none.{label}", icon=f":material/{icon}:", disabled=True)


def state_of(run: str) -> RunState | None:
    """Return the state of a run, or None if its folder cannot be read."""
    try:
        return requests.status(session.runs_root(), run)
    except RampartError:
        return None


@live_panel("runs", key="runs_list")
def runs_list() -> None:
    """Show the filter, the box of the selected run and the table of runs."""
    frame = session.run_log().runs()
    if frame.empty:
        empty_state("No runs yet", "Searches, retrainings and attacks appear here with the accuracies they measured.",
                    "The defaults need no GPU and no download.",
                    link=LAUNCH_PAGE, link_label="Launch the first run")
        return
    kept = filter_controls(frame)
    if kept.empty:
        empty_state("No run matches the filter", "Remove a word, or choose another status or kind.")
        return
    place = st.container()
    action = table(COLUMNS, [row_of(run) for _, run in kept.iterrows()], key="runs_table", label="Runs",
                   selected=st.session_state.get("runs.selected"))
    if action.opened:
        st.switch_page(RUN_PAGE, query_params={"id": action.opened})
    if action.clicked and action.clicked != st.session_state.get("runs.selected"):
        st.session_state["runs.selected"] = action.clicked
        st.rerun(scope="fragment")  # draws the page again, so that the buttons above the table belong to the selected row
    chosen = kept[kept["id"] == st.session_state.get("runs.selected")]
    with place:
        if chosen.empty:
            nothing_selected()
        else:
            selection(chosen.iloc[0])


def filter_controls(frame: pd.DataFrame) -> pd.DataFrame:
    """Show the controls of the filter and return the rows of the runs that match it."""
    words, states, kinds = st.columns([3, 3, 2])
    text = words.text_input("Filter", key="runs.text", placeholder="Name, id, preset, dataset or study", live="200ms",
                            type="search", persist_state="session")
    wanted = states.multiselect("Status", STATUSES, key="runs.statuses", format_func=str.capitalize, placeholder="any",
                                persist_state="session")
    of_kind = kinds.multiselect("Kind", KINDS, key="runs.kinds", format_func=theme.KIND_TITLES.__getitem__, placeholder="any",
                                persist_state="session")
    kept = filtered(frame, text or "", wanted, of_kind)
    running = int((frame["status"] == "running").sum())
    st.caption(f"{len(kept)} of {plural(len(frame), 'run')}" + (f", {running} running" if running else "") +
               ". Accuracies on different splits are not comparable.")
    return kept


heading("Runs")
queue_note()
runs_list()
