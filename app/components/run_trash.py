"""The trash of the runs folder: its runs with their sizes, and the buttons that restore or delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.run_bulk import Answer, show_answer, tell
from app.components.states import empty_state
from app.components.table import CellText, Column, Row, table
from app.formats import EMPTY, moment, plural
from app.theme import KIND_TITLES
from engine.run.trash import Trashed, delete, restore, size_text

COLUMNS = (Column("title", "Run"), Column("kind", "Kind"), Column("size", "Size", "right"),
           Column("trashed", "Moved to the trash", "right"))
PICKED = "runs.trash_picked"


def trash_list(runs: Sequence[Trashed]) -> None:
    """Show the runs in the trash, newest first."""
    if not runs:
        show_answer()
        empty_state("The trash is empty", "Runs that you move to the trash stay here until you restore or delete them.")
        return
    place = st.container()
    picked = set(st.session_state.get(PICKED, ()))
    action = table(COLUMNS, [_row(one, one.id in picked) for one in runs], key="runs_trash", label="Runs in the trash",
                   selectable=True, file="runs-in-the-trash", data=lambda: pd.DataFrame(map(asdict, runs)))
    if action.picks is not None:
        picked = set(action.picks)
        st.session_state[PICKED] = list(picked)
    chosen = [one for one in runs if one.id in picked]
    with place, st.container(border=True):
        st.html(f'<span class="rp-label rp-chip-high">{_words(runs, chosen)}</span>')
        with st.container(horizontal=True):
            _buttons(runs, chosen)
        show_answer()


def _words(runs: Sequence[Trashed], chosen: Sequence[Trashed]) -> str:
    whole = f"{plural(len(runs), 'run')} in the trash take {size_text(sum(one.size for one in runs))}."
    return f"{whole} {len(chosen)} selected, {size_text(sum(one.size for one in chosen))}." if chosen else whole


def _buttons(runs: Sequence[Trashed], chosen: Sequence[Trashed]) -> None:
    ids = [one.id for one in chosen]
    act_button("Restore", key="trash.restore", icon=":material/restore_from_trash:", disabled=not ids, on_click=_restore,
              args=(ids,), help="Bring the selected runs back, with the runs in the trash that they need. `rampart restore RUN`")
    for label, key, some in (("Delete", "trash.delete", chosen), ("Empty the trash", "trash.empty", runs)):
        with st.popover(label, icon=":material/delete_forever:", disabled=not some, help="`rampart delete RUN --yes`, "
                        "`rampart delete --all --yes`"):
            size = size_text(sum(one.size for one in some))
            st.caption(f"Deleting {plural(len(some), 'run')} frees {size} and cannot be undone.")
            act_button(f"Delete {plural(len(some), 'run')} for good", role="admin", key=f"{key}.now", type="primary",
                       on_click=_delete, args=([one.id for one in some],))


def _restore(ids: list[str]) -> None:
    tell(Answer("Restored", restore(session.runs_root(), ids)))


def _delete(ids: list[str]) -> None:
    tell(Answer("Deleted for good", delete(session.runs_root(), ids)))


def _row(run: Trashed, picked: bool) -> Row:
    return Row(run.id, {"title": CellText(run.title, sub=run.id), "kind": CellText(KIND_TITLES.get(run.kind, EMPTY)),
                        "size": CellText(size_text(run.size), sort=float(run.size)),
                        "trashed": CellText(moment(run.trashed or None), sort=run.trashed)}, name=f"{run.title} {run.id}",
               picked=picked)
