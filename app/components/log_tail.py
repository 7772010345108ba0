"""The end of a run's log.txt, scrolled to its newest line unless the reader has scrolled up, and its last error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.assets import asset

TAIL_BYTES = 64 * 1024
TAIL_LINES = 300
# A line that names a Python exception, or that a program marks as an error.
_ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Interrupt)\b.*|.*\b(?:ERROR|CRITICAL|FATAL|Killed)\b.*|.*\berror:.*)$")

_component = st.components.v2.component(
    "rampart_log_tail", html='<div class="rp-log" tabindex="0" role="log" aria-label="Log of the run"></div>',
    js=asset("log_tail.js"), isolate_styles=False)


@dataclass(frozen=True)
class Tail:
    """The end of a log.

    Attributes:
        text: at most the last 300 lines.
        error: the last line that is an error; "" for none.
        cut: True if the file holds more than `text`.
    """

    text: str
    error: str
    cut: bool


def read_tail(path: Path) -> Tail:
    """Read the end of a log file; a missing file is an empty log. Bytes that are not UTF-8 are replaced."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - TAIL_BYTES))
            raw = file.read(TAIL_BYTES)
    except OSError:
        return Tail("", "", False)
    # A progress bar rewrites its line with carriage returns: keep the last state of each line.
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in raw.decode("utf-8", errors="replace").split("\n")]
    if size > TAIL_BYTES:
        lines = lines[1:]
    kept = lines[-TAIL_LINES:]
    errors = [line.strip() for line in kept if _ERROR.match(line.strip())]
    return Tail("\n".join(kept).strip("\n"), errors[-1][:400] if errors else "", size > TAIL_BYTES or len(lines) > len(kept))


def matching(text: str, wanted: str) -> str:
    """Return the lines that contain `wanted`, ignoring case; all lines if it is empty."""
    if not wanted.strip():
        return text
    return "\n".join(line for line in text.split("\n") if wanted.strip().lower() in line.lower())


def log_tail(text: str, *, key: str) -> None:
    """Draw the log; new lines are appended in place."""
    _component(data={"text": text}, key=key)
