"""Runs: every run with its status, what it measured and how far it is; stop, resume and open."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from app import session, theme
from app.components.formats import coarse, duration, escape, missing
from app.components.live import live_panel
from app.components.measure import NOT_MEASURED, accuracy
from app.components.states import LAUNCH_PAGE, RUN_PAGE, empty_state, heading, page_link, problem
from app.components.status import status_chip_html
from app.components.table import NO_SORT, CellText, Column, Row, age_text, table
from engine import requests
from engine.config import KINDS
from engine.data import DATASETS
from engine.errors import RampartError
from engine.run.state import STATUSES

COLUMNS = (
    Column("title", "Run"), Column("status", "Status"), Column("kind", "Kind"), Column("dataset", "Dataset"),
    Column("natural", "Natural", "right", "Accuracy on unchanged images, and on which split."),
    Column("adversarial", "Adversarial", "right", "Accuracy under attack, and under which."),
    Column("progress", "Progress"), Column("age", "Age", "right", "Time since it was launched."),
)
# Where the accuracies of each kind of run are measured; never compared with each other's.
SPLITS = {"search": "alphas split", "retrain": "select split", "attack": "test split"}


def filtered(frame: pd.DataFrame, text: str, statuses: list[str], kinds: list[str]) -> pd.DataFrame:
    """The rows that contain every word of `text` in id, title, preset or dataset, and have one of the statuses and kinds."""
    searched = pd.Series("", index=frame.index)
    for column in ("id", "title", "preset", "dataset"):
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
    """One line of the table."""
    glyph, tone = theme.STATUS.get(run["status"], ("?", "muted"))
    split, name = split_of(run), name_of(run)
    measured = shown(run["adversarial_attack"])
    data = DATASETS[run["dataset"]].title if run["dataset"] in DATASETS else shown(run["dataset"])
    return Row(run["id"], {
        "title": CellText(name, sub=run["id"], href=f"run?id={run['id']}", sort=name),
        "status": CellText(run["status"].capitalize(), tone=tone, glyph=glyph, sort=run["status"], sub=cause_of(run),
                           hint=shown(run["cause"])),
        "kind": CellText(theme.KIND_TITLES.get(run["kind"], "–"), sub=shown(run["preset"])),
        "dataset": CellText(data or "–"),
        "natural": number(run["natural_accuracy"], split),
        "adversarial": number(run["adversarial_accuracy"], f"{measured}, {split}" if measured else split),
        "progress": progress(run),
        "age": age(run["created"])})


def split_of(run: pd.Series) -> str:
    """Return the split that the accuracies of a run were measured on; candidates of a search have their own."""
    candidates = run["kind"] == "search" and shown(run["accuracy_of"]).startswith("select split")
    return "select split" if candidates else SPLITS.get(run["kind"], "")


def age(created: float | None) -> CellText:
    """Time since the launch; it goes on growing in the browser."""
    if missing(created):
        return CellText("–", sort=NO_SORT)
    return CellText(age_text(max(0.0, time.time() - created)), since=float(created), sort=-float(created))


def name_of(run: pd.Series) -> str:
    """The run's title; a run whose run.json cannot be read has none."""
    return shown(run["title"]) if run["title"] != run["id"] else "Unreadable run"


def cause_of(run: pd.Series) -> str:
    """Why it failed or waits, and a long silence, short enough for a cell; the whole sentence is in the hint."""
    if run["status"] == "running" and not missing(run["silent_s"]) and run["silent_s"] >= 60:
        return f"no news for {coarse(run['silent_s'])}"
    cause = shown(run["cause"]) if run["status"] in ("failed", "queued") else ""
    return cause if len(cause) <= 90 else cause[:89].rstrip() + "…"


def shown(value: object) -> str:
    """Text, or nothing for nothing."""
    return "" if missing(value) else str(value)


def number(value: float | None, measured: str) -> CellText:
    """A percentage with what it was measured on."""
    if missing(value):
        return CellText(NOT_MEASURED, sort=NO_SORT, muted=True)
    return CellText(accuracy(value), sub=measured, sort=float(value))


def progress(run: pd.Series) -> CellText:
    """Bar, percent and time left."""
    if missing(run["progress"]):
        return CellText("waiting" if run["status"] == "queued" else "–", sort=NO_SORT, muted=True)
    fill = {"finished": "good", "failed": "bad", "stopped": "warn"}.get(run["status"], "")
    left = ""
    if run["status"] == "running" and run["progress"] < 1:
        left = shown(run["detail"]) if missing(run["seconds_left"]) else f"about {duration(run['seconds_left'])} left"
    share = float(run["progress"])
    return CellText(f"{100 * share:.0f} %", sub=left, sort=share, fraction=share, fill=fill)


def act(action: str, run: str) -> None:
    """Stop, force or resume; a refusal is kept for the next drawing."""
    verbs = {"stop": requests.request_stop, "force": requests.force_stop, "resume": requests.resume}
    done = {"stop": "Stop requested: the step in progress is abandoned and a checkpoint written, within two seconds.",
            "force": "The run's processes are being ended.", "resume": "Resume requested: it continues from its checkpoint."}
    try:
        verbs[action](session.runs_root(), run)
        st.session_state["runs.answer"] = (run, "", done[action])
    except RampartError as refusal:
        st.session_state["runs.answer"] = (run, str(refusal), "")


def selection(run: pd.Series) -> None:
    """What can be done with the selected run."""
    with st.container(border=True):
        cause = "" if run["status"] == "finished" else shown(run["cause"])
        chip = status_chip_html(run["status"], cause, run["silent_s"])
        st.html(f'<div class="rp-row"><b>{escape(name_of(run))}</b>'
                f'<span class="rp-label">{escape(run["id"])}</span>{chip}</div>')
        buttons = st.container(horizontal=True)
        if buttons.button("Open", key="runs.open", type="primary", icon=":material/open_in_new:"):
            st.switch_page(RUN_PAGE, query_params={"id": run["id"]})
        state = state_of(run["id"])
        if state is not None:
            force = state.status == "stopping"
            buttons.button("Kill it now" if force else "Stop", key="runs.stop", icon=":material/stop:", on_click=act,
                           args=("force" if force else "stop", run["id"]), disabled=not state.can_stop,
                           help="Ends the processes at once; the last checkpoint stays." if force else
                           "Abandons the current step, writes a checkpoint and exits. It can be resumed.")
            buttons.button("Resume", key="runs.resume", icon=":material/play_arrow:", on_click=act, args=("resume", run["id"]),
                           disabled=not state.can_resume, help="Continues from the last checkpoint with identical state.")
        next_kind = {"search": "retrain", "retrain": "attack"}.get(run["kind"])
        if next_kind and run["status"] == "finished":
            with buttons:
                page_link(LAUNCH_PAGE, f"{theme.KIND_TITLES[next_kind]} it", kind=next_kind, parent=run["id"])
        about, refusal, done = st.session_state.get("runs.answer", ("", "", ""))
        if about == run["id"] and refusal:
            problem(refusal, link=None)
        elif about == run["id"] and done:
            st.caption(done)


def nothing_selected() -> None:
    """The same box with its buttons at rest, so that choosing a row does not move the table under the pointer."""
    with st.container(border=True):
        st.html('<div class="rp-row"><span class="rp-label" style="line-height:1.9">No run selected. Click a row to open, stop '
                "or resume it; its name leads to its page.</span></div>")
        buttons = st.container(horizontal=True)
        for label, icon in (("Open", "open_in_new"), ("Stop", "stop"), ("Resume", "play_arrow")):
            buttons.button(label, key=f"runs.none.{label}", icon=f":material/{icon}:", disabled=True)


def state_of(run: str) -> requests.RunState | None:
    """The state of a run; None when its folder cannot be read."""
    try:
        return requests.status(session.runs_root(), run)
    except RampartError:
        return None


@live_panel("runs", key="runs_list")
def runs_list() -> None:
    """Filter, table and the selected run. Follows every change of any run."""
    frame = session.run_log().runs()
    if frame.empty:
        empty_state("No runs yet", "Everything you launch is listed here: searches, retrainings and attacks, with what "
                    "they measured.", "The defaults need no GPU and no download.",
                    link=LAUNCH_PAGE, link_label="Launch the first run")
        return
    words, states, kinds = st.columns([3, 3, 2])
    text = words.text_input("Filter", key="runs.text", placeholder="name, id, preset or dataset", live="200ms",
                            type="search", persist_state="session")
    wanted = states.multiselect("Status", STATUSES, key="runs.statuses", format_func=str.capitalize, placeholder="any",
                                persist_state="session")
    of_kind = kinds.multiselect("Kind", KINDS, key="runs.kinds", format_func=theme.KIND_TITLES.get, placeholder="any",
                                persist_state="session")
    kept = filtered(frame, text or "", wanted, of_kind)
    running = int((frame["status"] == "running").sum())
    st.caption(f"{len(kept)} of {len(frame)} runs" + (f", {running} running" if running else "") +
               ". Accuracies on different splits are not comparable.")
    if kept.empty:
        empty_state("No run matches the filter", "Take a word away, or choose another status or kind.")
        return
    place = st.container()
    action = table(COLUMNS, [row_of(run) for _, run in kept.iterrows()], key="runs_table", label="Runs",
                   selected=st.session_state.get("runs.selected"))
    if action.opened:
        st.switch_page(RUN_PAGE, query_params={"id": action.opened})
    if action.clicked and action.clicked != st.session_state.get("runs.selected"):
        st.session_state["runs.selected"] = action.clicked
        st.rerun(scope="fragment")  # so that the mark in the table and the buttons above it agree
    chosen = kept[kept["id"] == st.session_state.get("runs.selected")]
    with place:
        if chosen.empty:
            nothing_selected()
        else:
            selection(chosen.iloc[0])


heading("Runs")
runs_list()
