"""The end of a run's log.txt, kept at its newest line unless the reader scrolled up; the last error stays pinned above."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

TAIL_BYTES = 64 * 1024
TAIL_LINES = 300
# The line that names a Python exception, or anything a program itself calls an error.
_ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Interrupt)\b.*|.*\b(?:ERROR|CRITICAL|FATAL|Killed)\b.*|.*\berror:.*)$")

_SCRIPT = """
export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-log");
  if (node.__text === data.text) return;
  const first = node.__text === undefined;
  const atEnd = first || node.scrollHeight - node.scrollTop - node.clientHeight < 24;
  if (!first && data.text.startsWith(node.__text)) node.append(data.text.slice(node.__text.length));
  else node.textContent = data.text;
  node.__text = data.text;
  if (atEnd) node.scrollTop = node.scrollHeight;
}
"""
_component = st.components.v2.component(
    "rampart_log_tail", html='<div class="rp-log" tabindex="0" role="log" aria-label="Log of the run"></div>', js=_SCRIPT,
    isolate_styles=False)


@dataclass(frozen=True)
class Tail:
    """The end of a log.

    Attributes:
        text: at most the last 300 lines.
        error: the last line that is an error, "" when there is none.
        cut: True when the file holds more than `text`.
    """

    text: str
    error: str
    cut: bool


def read_tail(path: Path) -> Tail:
    """The end of a log file; a missing file is an empty log. Bytes that are no UTF-8 are replaced."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - TAIL_BYTES))
            raw = file.read(TAIL_BYTES)
    except OSError:
        return Tail("", "", False)
    # A progress bar rewrites its line with carriage returns: the last state of each line is the one that counts.
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in raw.decode("utf-8", errors="replace").split("\n")]
    if size > TAIL_BYTES:
        lines = lines[1:]
    kept = lines[-TAIL_LINES:]
    errors = [line.strip() for line in kept if _ERROR.match(line.strip())]
    return Tail("\n".join(kept).strip("\n"), errors[-1][:400] if errors else "", size > TAIL_BYTES or len(lines) > len(kept))


def matching(text: str, wanted: str) -> str:
    """The lines that contain `wanted`, case ignored; all lines for an empty wish."""
    if not wanted.strip():
        return text
    return "\n".join(line for line in text.split("\n") if wanted.strip().lower() in line.lower())


def log_tail(text: str, *, key: str) -> None:
    """Draws the log; new lines are appended in place."""
    _component(data={"text": text}, key=key)
