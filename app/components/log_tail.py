"""The view of the last lines of a run's log.txt, and a function that reads these lines and finds the last error.

The view stays scrolled to the newest line unless the reader has scrolled up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.assets import asset
from engine.files import open_to_read

TAIL_BYTES = 64 * 1024
TAIL_LINES = 300
# Matches a line that begins with the name of a Python exception or contains a word such as ERROR.
_ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Interrupt)\b.*|.*\b(?:ERROR|CRITICAL|FATAL|Killed)\b.*|.*\berror:.*)$")

_component = st.components.v2.component(
    "rampart_log_tail", html='<div class="rp-log" tabindex="0" role="log" aria-label="Log of the run"></div>',
    js=asset("log_tail.js"), isolate_styles=False)


@dataclass(frozen=True)
class Tail:
    """The last lines of a log file.

    Attributes:
        text: the last lines, at most 300.
        error: the last line in `text` that reports an error, or "" if there is none.
        cut: True if the file also contains earlier lines.
    """

    text: str
    error: str
    cut: bool


def read_tail(path: Path) -> Tail:
    """Read the last lines of a log file. A missing file counts as empty, and bytes that are not UTF-8 are replaced."""
    try:
        size = path.stat().st_size
        with open_to_read(path) as file:
            file.seek(max(0, size - TAIL_BYTES))
            raw = file.read(TAIL_BYTES)
    except OSError:
        return Tail("", "", False)
    # A progress bar uses carriage returns to overwrite its line, so only the text after the last one is kept.
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in raw.decode("utf-8", errors="replace").split("\n")]
    if size > TAIL_BYTES:
        lines = lines[1:]
    kept = lines[-TAIL_LINES:]
    errors = [line.strip() for line in kept if _ERROR.match(line.strip())]
    return Tail("\n".join(kept).strip("\n"), errors[-1][:400] if errors else "", size > TAIL_BYTES or len(lines) > len(kept))


def matching(text: str, wanted: str) -> str:
    """Return the lines of a text that contain `wanted`, ignoring case. An empty `wanted` keeps all lines."""
    if not wanted.strip():
        return text
    return "\n".join(line for line in text.split("\n") if wanted.strip().lower() in line.lower())


def log_tail(text: str, *, key: str) -> None:
    """Show the text of a log.

    If the text has only grown since the last call with the same key, the new lines are appended and the others are not redrawn.
    """
    _component(data={"text": text}, key=key)
