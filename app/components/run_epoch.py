"""The controls that choose a cell kind and an epoch of a search. Both choices are kept in the page's address."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import address, theme

EARLIER_KEY, LATER_KEY = "H", "L"  # keys that select the neighbouring epochs
EPOCH, CELL = "epoch", "cell"  # names of the query parameters


def choose_cell(cells: Sequence[str]) -> str:
    """Show the selector of a cell kind and return the selected kind. The first of `cells` is preselected."""
    return address.segmented("Cell", {cell: theme.cell_title(cell) for cell in cells}, name=CELL, key="run_cell")


def choose_epoch(epochs: Sequence[int]) -> int:
    """Show the epoch slider and return the selected epoch. If there is only one epoch, show its number instead.

    The slider stays at the newest epoch of a running search unless the reader has moved it away from its right end.
    """
    if len(epochs) < 2:
        st.html(f'<span class="rp-label">Epoch {epochs[0]}. A slider appears after the next one.</span>')
        return epochs[0]
    epoch = int(address.chosen(EPOCH, [str(one) for one in epochs], str(epochs[-1])))
    slider = f"run.epoch.{epochs[-1]}"
    st.session_state[slider] = epoch
    place = list(epochs).index(epoch)

    def hold(chosen: int) -> None:
        address.choose(**{EPOCH: "" if chosen == epochs[-1] else str(chosen)})

    def step(label: str, shortcut: str, other: int | None) -> None:
        st.button(label, key=f"run_epoch_{label.lower()}", shortcut=shortcut, type="tertiary", disabled=other is None,
                  on_click=hold, args=(other,))

    with st.container(horizontal=True, vertical_alignment="bottom", key="rp-epoch"):
        step("Earlier", EARLIER_KEY, epochs[place - 1] if place else None)
        st.select_slider("Epoch", epochs, key=slider, on_change=lambda: hold(st.session_state[slider]),
                         help="Architecture weights and cell at the end of an epoch. At its right end, it follows the search.")
        step("Later", LATER_KEY, epochs[place + 1] if place + 1 < len(epochs) else None)
    return epoch
