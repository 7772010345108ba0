"""The actions stop, kill and resume: the texts of their buttons, their requests, and the answer to the last request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app import session
from app.components.act_button import act_button
from engine import requests
from engine.errors import RampartError

ANSWER = "actions.answer"
ANSWER_S = 60.0  # seconds for which an answer is shown


@dataclass(frozen=True)
class Action:
    """An action on a run that the user can request with a button.

    Attributes:
        label: text of the button.
        icon: name of the button's Material icon.
        help: tooltip of the button.
        done: sentence that is shown once the request has been accepted.
        request: function that takes the runs folder and the run id and sends the request. The function raises RampartError if the
            request is refused.
        role: lowest role that may request it.
    """

    label: str
    icon: str
    help: str
    done: str
    request: Callable[[Path, str], object]
    role: str = "runner"


STOP = Action("Stop", "stop", "Abandon the current step, write a checkpoint and exit within seconds. The run can be resumed.",
              "Stopping: the current step is abandoned and a checkpoint is written within seconds.", requests.request_stop)
KILL = Action("Kill now", "stop", "End the processes at once, without a checkpoint. The run can resume from its previous one.",
              "Killing: the processes of the run are being ended.", requests.force_stop)
RESUME = Action("Resume", "play_arrow", "Continue from the last checkpoint, exactly as if the run had not been interrupted.",
                "Resuming: the run continues from its last checkpoint.", requests.resume)


def perform(action: Action, run_id: str) -> None:
    """Request an action for a run, for example a stop, and store the answer in the session, where `answer` finds it."""
    try:
        action.request(session.runs_root(), run_id)
        st.session_state[ANSWER] = (run_id, "", action.done, time.monotonic())
    except RampartError as refusal:
        st.session_state[ANSWER] = (run_id, str(refusal), "", time.monotonic())


def answer(run_id: str) -> tuple[str, str]:
    """Return the answer to the last request about a run, as two sentences.

    At least one sentence is empty. Both are empty if the last request was about another run or is more than a minute old.

    Returns:
        The reason why the request was refused; "" if it was accepted.
        The confirmation of the request; "" if it was refused.
    """
    about, refusal, done, at = st.session_state.get(ANSWER, ("", "", "", 0.0))
    return (refusal, done) if about == run_id and time.monotonic() - at < ANSWER_S else ("", "")


def kill_button(key: str, run_id: str) -> None:
    """Show the button that kills a run that is stopping. A second button, which opens below the first, confirms the kill."""
    with st.popover(f"{KILL.label} …", icon=f":material/{KILL.icon}:"):
        st.write("A stop writes a checkpoint and takes seconds. A kill loses the work since the last checkpoint.")
        act_button(KILL.label, key=key, help=KILL.help, type="primary", on_click=perform, args=(KILL, run_id))
