"""The Log tab of the Run page: the last error, and the lines of log.txt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st

from app import session
from app.components.downloads import download_buttons
from app.components.log_tail import TAIL_LINES, log_tail, read_tail
from app.components.states import empty_state, section
from app.downloads import File
from app.formats import escape
from engine.errors import RunLogError
from engine.files import open_to_read


def log(run_id: str) -> None:
    """Show the last lines of a run's log.txt, with the last error above. The reader can filter the lines by a text."""
    section("Log", "the newest lines of log.txt")
    path = session.runs_root() / run_id / "log.txt"
    tail = read_tail(path)
    _last_error(run_id, tail.error)
    if not tail.text:
        empty_state("The log is empty", "The run writes here as soon as it starts.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.text_input("Filter lines", key="run_log_filter", placeholder="Only lines that contain …",
                               label_visibility="collapsed")
        download_buttons([File("Download log.txt", f"{run_id}-log.txt", "text/plain", partial(content, path),
                               "The whole file")], key="run_log_file")
    found = read_tail(path, wanted) if wanted.strip() else tail
    log_tail(found.text or "No line contains this text.", key="run_log_lines")
    if found.cut:
        st.caption(f"The last {TAIL_LINES} lines{' that contain this text' if wanted.strip() else ''}. The file holds all lines.")


def _last_error(run_id: str, in_log: str) -> None:
    """Show the last error that a run has reported or, if there is none, `in_log`, the last exception in log.txt."""
    written = session.run_log().alerts(run_id)
    errors = [str(text) for text in written[written["level"] == "error"]["text"]]
    for pinned in errors[-1:] or [in_log] * bool(in_log):
        st.html(f'<div class="rp-problem" role="alert"><b>Last error</b> {escape(pinned)}</div>')


def content(path: Path) -> bytes:
    """Return a log file.

    Raises:
        RunLogError: the file cannot be read.
    """
    try:
        with open_to_read(path) as file:
            return file.read()
    except OSError as problem:
        raise RunLogError(f"log.txt must be a file that can be read, but it cannot ({problem}).") from problem
