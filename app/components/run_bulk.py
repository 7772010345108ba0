"""The box above the list of runs, with actions on the selected runs. Each run accepts or refuses an action independently.

Every action is also a subcommand of `rampart`. The tooltip of the action's button shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.run_columns import name_of
from app.components.states import LAUNCH_PAGE, ROBUSTNESS_PAGE, RUN_PAGE, problem
from app.components.status import status_chip_html
from app.formats import escape, plural, shown
from engine import requests
from engine.rerun import rerun
from engine.run.bulk import Outcome, each
from engine.run.marks import change_tags, set_archived, set_note
from engine.run.trash import dependents, restore
from engine.study.actions import trash

PICKED, ANSWER, ASK = "runs.picked", "runs.answer", "runs.ask"
MOST_REFUSALS, MOST_DETAILS = 5, 2
NONE = "No run selected. Tick runs to act on them. A click on a name opens its page."


@dataclass(frozen=True)
class Answer:
    """The result of an action on the selected runs.

    Attributes:
        words: past participle that names the action, for example "Moved to the trash".
        outcomes: one outcome for each run.
        undo: function that takes the ids of the changed runs and undoes the action; None if it cannot be undone.
    """

    words: str
    outcomes: Sequence[Outcome]
    undo: Callable[[list[str]], list[Outcome]] | None = None

    @property
    def done(self) -> list[str]:
        """Ids of the runs that did not refuse the action."""
        return [one.run for one in self.outcomes if not one.refusal]

    @property
    def sentence(self) -> str:
        """A sentence with the number of runs that the action changed and, if they are few, what happened to each of them."""
        details = [f"{one.run}: {one.done}" for one in self.outcomes if one.done]
        few = f" ({'; '.join(details)})" if len(details) <= MOST_DETAILS else ""
        return f"{self.words}: {plural(len(details), 'run')}{few}."


def selection_box(picked: pd.DataFrame, matching: pd.DataFrame) -> None:
    """Show the box with actions on the selected runs. Its buttons are always the same, so the list below does not move.

    Args:
        picked: the selected runs, as rows of `RunLog.runs`.
        matching: all runs that match the filter, also those on other pages.
    """
    with st.container(border=True, key="rp-selection"):
        _summary(picked, matching)
        with st.container(horizontal=True, gap="small"):
            _opening(picked)
            _control(picked)
            _marking(picked)
            _clearing(picked)
            _repeating(picked)
        _question()
        show_answer()


def act(words: str, ids: Sequence[str], action: Callable[[str], str],
        undo: Callable[[list[str]], list[Outcome]] | None = None) -> None:
    """Call an action for each run, and store the answer in the session, where `show_answer` finds it.

    Args:
        words: past participle that names the action, for example "Moved to the trash".
        ids: ids of the runs.
        action: function that takes the id of a run, acts on the run, and returns words for what has happened.
        undo: function that takes the ids of the changed runs and undoes the action; None if it cannot be undone.
    """
    tell(Answer(words, each(ids, action), undo))


def tell(answer: Answer) -> None:
    """Store the answer to an action in the session, where `show_answer` finds it, and update the run log."""
    st.session_state[ANSWER] = answer
    session.run_log().ingest()


def requested(request: Callable[[Path, str], object], words: str) -> Callable[[str], str]:
    """Return a function that takes the id of a run, calls `request` with the runs folder and this id, and returns `words`."""
    def action(run_id: str) -> str:
        request(session.runs_root(), run_id)
        return words

    return action


def _summary(picked: pd.DataFrame, matching: pd.DataFrame) -> None:
    if picked.empty:
        text = f'<span class="rp-label rp-chip-high">{NONE}</span>'
    elif len(picked) == 1:
        run = picked.iloc[0]
        cause = "" if run["status"] == "finished" else shown(run["cause"])
        text = (f'<b>{escape(name_of(run))}</b><span class="rp-label">{escape(run["id"])}</span>'
                f'{status_chip_html(run["status"], cause, run["silent_s"])}')
    else:
        counts = picked["status"].value_counts()
        states = ", ".join(f"{number} {status}" for status, number in counts.items())
        text = f'<b>{plural(len(picked), "run")} selected</b><span class="rp-label rp-chip-high">{escape(states)}</span>'
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<div class="rp-row">{text}</div>')
        if len(picked) < len(matching):
            st.button(f"Select all {len(matching):,}", key="runs.all", type="tertiary", on_click=_pick,
                      args=(matching["id"].tolist(),), help="Select every run that matches the filter, also on other pages.")
        if len(picked):
            st.button("Clear", key="runs.clear", type="tertiary", on_click=_pick, args=([],), help="Select no run.")


def _pick(ids: list[str]) -> None:
    st.session_state[PICKED] = ids


def _button(label: str, key: str, icon: str, about: str, possible: bool, *arguments: object) -> None:
    """Show a button. A click calls `act` with `arguments`; without arguments, it does nothing more than rerun the page."""
    act_button(label, key=f"runs.{key}", icon=f":material/{icon}:", help=about, disabled=not possible,
              on_click=act if arguments else None, args=arguments)


def _opening(picked: pd.DataFrame) -> None:
    one = picked.iloc[0]["id"] if len(picked) == 1 else ""
    if st.button("Open", key="runs.open", icon=":material/open_in_new:", disabled=not one, help="Open the page of the run. In "
                 "the list, Enter does the same; the arrow keys move, and the space bar selects."):
        st.switch_page(RUN_PAGE, query_params={"id": one})
    attacks, protocols = _attacks(picked)
    about = ("Compare the attacked networks on the same test images, on the Robustness page. "
             "A search or retraining stands for the newest attack on its chain.")
    if len(protocols) > 1:
        about = f"These runs were attacked under {len(protocols)} different protocols, so their accuracies cannot be compared."
    if st.button("Compare", key="runs.compare", icon=":material/compare_arrows:", help=about,
                 disabled=len(attacks) < 2 or len(protocols) != 1):
        st.switch_page(ROBUSTNESS_PAGE, query_params={"protocol": protocols[0], "compare": ",".join(attacks), "run": attacks[0]})


def _attacks(picked: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Find the attack runs that give the results of the selected runs.

    Returns:
        Ids of the attack runs; empty for fewer than two selected runs.
        Protocols of these attack runs, each once.
    """
    own = picked["id"].where(picked["kind"] == "attack", picked["chain_attack_run"])
    if len(own) < 2:
        return [], []
    runs = session.run_log().runs().set_index("id")
    attacks = [one for one in dict.fromkeys(own) if one in runs.index and runs.loc[one, "protocol"]]
    return attacks, list(dict.fromkeys(runs.loc[attacks, "protocol"]))


def _control(picked: pd.DataFrame) -> None:
    # The newest first: a follower is stopped before the run for which it waits.
    stoppable = _ids(picked, picked["can_stop"] & (picked["status"] != "stopping"))
    _button("Stop", "stop", "stop", "Abandon the current step, write a checkpoint and exit within seconds; a waiting run leaves "
            "the queue. The run can be resumed. `rampart stop RUN`", bool(stoppable), "Stopping", stoppable,
            requested(requests.request_stop, "stopping"))
    stopping = _ids(picked, picked["status"] == "stopping")
    if stopping:
        with st.popover("Kill", icon=":material/dangerous:", help="`rampart stop RUN --force`"):
            st.caption("End the processes at once. Steps since the last checkpoint are lost; the run can resume from there.")
            act_button(f"Kill {plural(len(stopping), 'run')} now", key="runs.kill", on_click=act,
                      args=("Killing", stopping, requested(requests.force_stop, "being killed")))
    resumable = _ids(picked, picked["can_resume"])
    _button("Resume", "resume", "play_arrow", "Continue from the last checkpoint, exactly as if the run had not been "
            "interrupted. `rampart resume RUN`", bool(resumable), "Resuming", resumable[::-1],
            requested(requests.resume, "continues from its last checkpoint"))


def _ids(picked: pd.DataFrame, which: pd.Series) -> list[str]:
    return list(picked[which.astype(bool)].sort_values("created", ascending=False, kind="stable")["id"])


def _marking(picked: pd.DataFrame) -> None:
    ids = list(picked["id"])
    with st.popover("Mark", icon=":material/sell:", disabled=not ids, help="Tags and note. `rampart tag RUN +baseline -old`, "
                    "`rampart note RUN TEXT`"):
        with st.form("runs.tag_form", border=False):
            st.text_input("Tags", key="runs.tag", placeholder="baseline -old", help="Words add tags; a minus sign in front "
                          "removes a tag. A tag has letters, digits and _ . : / -")
            act_button("Change tags", form=True, key="runs.tag_now", on_click=_tag, args=(ids,))
        if len(ids) == 1:
            with st.form("runs.note_form", border=False):
                st.text_area("Note", picked.iloc[0]["note"], key=f"runs.note.{ids[0]}", height=100)
                act_button("Write note", form=True, key="runs.note_now", on_click=_note, args=(ids[0],))


def _tag(ids: list[str]) -> None:
    words = str(st.session_state.get("runs.tag", "")).replace(",", " ").split()
    add, remove = ([word.lstrip("+") for word in words if not word.startswith("-")],
                   [word[1:] for word in words if word.startswith("-")])
    act("Tagged", ids, lambda run_id: " ".join(change_tags(session.runs_root(), run_id, add, remove).tags) or "no tags")
    st.session_state["runs.tag"] = ""


def _note(run_id: str) -> None:
    text = str(st.session_state.get(f"runs.note.{run_id}", ""))
    act("Note written", [run_id], lambda one: set_note(session.runs_root(), one, text).note or "no note")


def _clearing(picked: pd.DataFrame) -> None:
    ids, archived = list(picked["id"]), bool(len(picked)) and bool(picked["archived"].all())
    if archived:
        _button("Take out of archive", "archive", "unarchive", "Show the runs in the list again. `rampart archive RUN --undo`",
                True, "Taken out of the archive", ids, _archiving(False), _undo_archive(True))
    else:
        _button("Archive", "archive", "archive", "Hide the runs from this list. They stay where they are and count everywhere "
                "else. `rampart archive RUN`", bool(ids), "Archived", ids, _archiving(True), _undo_archive(False))
    act_button("Trash", key="runs.trash", icon=":material/delete:", disabled=not ids, on_click=_ask_to_trash, args=(ids,),
              help="Move the runs out of sight. They can be restored until the trash is emptied. `rampart trash RUN`")


def _archiving(archived: bool) -> Callable[[str], str]:
    def action(run_id: str) -> str:
        set_archived(session.runs_root(), run_id, archived)
        return "archived" if archived else "listed again"

    return action


def _undo_archive(archived: bool) -> Callable[[list[str]], list[Outcome]]:
    return lambda ids: each(ids, _archiving(archived))


def _ask_to_trash(ids: list[str]) -> None:
    """Move runs to the trash, or ask first if other runs need them."""
    further = dependents(session.runs_root(), ids)
    if further:
        st.session_state[ASK] = (ids, further)
    else:
        _trash(ids)


def _trash(ids: list[str]) -> None:
    root = session.runs_root()
    st.session_state.pop(ASK, None)
    tell(Answer("Moved to the trash", trash(root, ids), lambda done: restore(root, done)))


def _question() -> None:
    """Ask whether to move to the trash not only the selected runs, but also the runs that depend on them."""
    ids, further = st.session_state.get(ASK, ([], []))
    if not ids:
        return
    names = ", ".join(further[:3]) + (f" and {len(further) - 3} more" if len(further) > 3 else "")
    st.html(f'<div class="rp-problem rp-below" role="alert">{plural(len(further), "other run")} would be left without a run that '
            f"they need: {escape(names)}.</div>")
    everything = ids + further
    with st.container(horizontal=True):
        act_button(f"Move all {len(everything)} to the trash", key="runs.trash_all", on_click=_trash, args=(everything,))
        st.button("Cancel", key="runs.trash_none", type="tertiary", on_click=st.session_state.pop, args=(ASK, None))


def _repeating(picked: pd.DataFrame) -> None:
    ids = list(picked["id"])
    one = ids[0] if len(ids) == 1 and picked.iloc[0]["kind"] else ""
    if st.button("Clone and edit", key="runs.clone", icon=":material/edit:", disabled=not one,
                 help="Open the Launch page with the settings of this run, to change some of them."):
        st.switch_page(LAUNCH_PAGE, query_params={"from": one})
    with st.popover("Run again", icon=":material/replay:", disabled=not ids, help="`rampart rerun RUN`"):
        st.caption(f"Launch {plural(len(ids), 'run')} with exactly the same settings, seeds and parents, with the code that is "
                   "installed now. Followers are not launched.")
        act_button(f"Launch {plural(len(ids), 'run')}", key="runs.rerun", on_click=act,
                  args=("Launched again", ids[::-1], lambda run_id: f"as {rerun(session.runs_root(), run_id)}"))


def show_answer() -> None:
    """Show the result of the last action: how many runs it changed, why others refused, and the button that undoes it."""
    answer = st.session_state.get(ANSWER)
    if answer is None:
        return
    done, refused = answer.done, [one for one in answer.outcomes if one.refusal]
    for one in refused[:MOST_REFUSALS]:
        problem(one.refusal, link=None)
    if len(refused) > MOST_REFUSALS:
        st.caption(f"{len(refused) - MOST_REFUSALS} more runs refused.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if done:
            st.html(f'<p class="rp-note" role="status">{escape(answer.sentence)}</p>')
        if done and answer.undo:
            st.button("Undo", key="runs.undo", icon=":material/undo:", on_click=_undo, args=(answer,))
        st.button("Dismiss", key="runs.dismiss", type="tertiary", on_click=st.session_state.pop, args=(ANSWER, None))


def _undo(answer: Answer) -> None:
    assert answer.undo is not None
    tell(Answer("Undone", answer.undo(answer.done)))
