"""The view of the last lines of a run's log.txt, and functions that read these lines and find the last error.

The view stays scrolled to the newest line unless the reader has scrolled up. Its buttons wrap long lines and copy the lines.
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
SEARCHED_BYTES = 4 << 20  # of a longer file, a filter reads the last bytes
# Matches a line that begins with the name of a Python exception or contains a word such as ERROR.
_ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Interrupt)\b.*|.*\b(?:ERROR|CRITICAL|FATAL|Killed)\b.*|.*\berror:.*)$")

_component = st.components.v2.component(
    "rampart_log_tail", html='<div class="rp-logbar"><button type="button" data-act="wrap">Wrap lines</button>'
    '<button type="button" data-act="copy" aria-live="polite">Copy</button></div>'
    '<div class="rp-log" tabindex="0" role="log" aria-label="Log of the run"></div>',
    js=asset("log_tail.js"), isolate_styles=False)


@dataclass(frozen=True)
class Tail:
    """The last lines of a log file.

    Attributes:
        text: the last lines, at most 300. If the file was filtered, only lines that match.
        error: the last line in `text` that reports an error, or "" if there is none.
        cut: True if the file also contains earlier lines.
    """

    text: str
    error: str
    cut: bool


def read_tail(path: Path, wanted: str = "") -> Tail:
    """Read the last lines of a log file. A missing file counts as empty, and bytes that are not UTF-8 are replaced.

    Args:
        path: the file.
        wanted: text that the lines contain, ignoring case; "" for all lines.
    """
    most = SEARCHED_BYTES if wanted.strip() else TAIL_BYTES
    try:
        size = path.stat().st_size
        with open_to_read(path) as file:
            file.seek(max(0, size - most))
            raw = file.read(most)
    except OSError:
        return Tail("", "", False)
    # A progress bar uses carriage returns to overwrite its line, so only the text after the last one is kept.
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in raw.decode("utf-8", errors="replace").split("\n")]
    if size > most:
        lines = lines[1:]
    lines = [line for line in lines if wanted.strip().lower() in line.lower()]
    kept = lines[-TAIL_LINES:]
    errors = [line.strip() for line in kept if _ERROR.match(line.strip())]
    return Tail("\n".join(kept).strip("\n"), errors[-1][:400] if errors else "", size > most or len(lines) > len(kept))


def log_tail(text: str, *, key: str) -> None:
    """Show the text of a log.

    If the text has only grown since the last call with the same key, the new lines are appended and the others are not redrawn.
    """
    _component(data={"text": text}, key=key)
