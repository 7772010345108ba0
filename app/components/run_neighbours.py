"""Buttons and keyboard shortcuts that open the next newer and the next older run."""

from __future__ import annotations

import streamlit as st

from app import session
from app.address import choose
from app.components.run_epoch import EARLIER_KEY, EPOCH, LATER_KEY

NEWER_KEY, OLDER_KEY = "K", "J"


def neighbours(run_id: str, ids: list[str]) -> tuple[str | None, str | None]:
    """Return the ids of the runs next to a run; None where there is none.

    Args:
        run_id: id of the run.
        ids: ids of all runs, newest first.

    Returns:
        The next newer run.
        The next older run.
    """
    if run_id not in ids:
        return None, None
    place = ids.index(run_id)
    return (ids[place - 1] if place else None), (ids[place + 1] if place + 1 < len(ids) else None)


def neighbour_buttons(run_id: str) -> None:
    """Show the buttons that open the next newer and older run. Their shortcuts work everywhere except in text fields."""
    newer, older = neighbours(run_id, session.run_log().ids())
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="rp-neighbours"):
        st.html(f'<span class="rp-label">Keys: {NEWER_KEY} newer run, {OLDER_KEY} older run, {EARLIER_KEY} earlier epoch, '
                f'{LATER_KEY} later epoch</span>')
        for label, key, other in (("Newer run", NEWER_KEY, newer), ("Older run", OLDER_KEY, older)):
            st.button(label, key=f"run_{label.split()[0].lower()}", shortcut=key, type="tertiary", disabled=other is None,
                      on_click=_open, args=(other,))


def _open(run_id: str) -> None:
    choose(**{"id": run_id, EPOCH: ""})
