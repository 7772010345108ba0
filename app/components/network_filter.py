"""The search box and the limit that keep long lists of networks short. The page's address holds both."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import streamlit as st

from app import address
from app.formats import escape
from engine.report.robustness import NetworkRow

ALL = "all"
MOST = 100  # networks that a list shows at once


def visible(rows: Sequence[NetworkRow], *, first: int, keep: Collection[str], key: str) -> list[NetworkRow]:
    """Show a search box, and return the networks to list, in the order of `rows`.

    A short list needs no box, and all its networks are returned.

    Args:
        rows: all networks.
        first: number of networks that are listed until the reader asks for more.
        keep: ids of attack runs whose networks are always listed.
        key: prefix of the names of widgets.
    """
    if len(rows) <= first:
        return list(rows)
    left, right = st.columns([2, 3], vertical_alignment="center")
    box = f"{key}.find"
    st.session_state[box] = st.query_params.get("find", "")
    left.text_input("Find a network", key=box, placeholder="Find a network by name or run", label_visibility="collapsed",
                    on_change=lambda: address.choose(find=st.session_state[box]))
    words = str(st.session_state[box]).lower().split()
    found = [row for row in rows if all(word in f"{row.label} {row.run}".lower() for word in words)]
    most = MOST if words or st.query_params.get("rows") == ALL else first
    listed = {row.run for row in found[:most]} | set(keep)
    with right:
        limit(len(found), min(most, len(found)), key)
    return [row for row in rows if row.run in listed]


def limit(found: int, shown: int, key: str) -> None:
    """Show how many networks are listed, and a button that lists more."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<p class="rp-note">{escape(f"{shown:,} of {found:,} networks" if shown < found else f"{found:,} found")}</p>')
        if shown < min(found, MOST):
            st.button(f"Show {min(found, MOST)}", key=f"{key}.more", on_click=lambda: address.choose(rows=ALL))
