"""The controls for choosing a search method: a selector, and a table that compares all methods."""

from __future__ import annotations

import streamlit as st

from app.components.html_table import StaticColumn, html_table, with_label
from engine.search.methods.registry import METHODS, Method

DEFAULT = "arnas"
ATTACKED, CLEAN = "attacked images in the search", "clean images only"
COLUMNS: tuple[StaticColumn[str], ...] = (
    StaticColumn("Method", lambda name: with_label(METHODS[name].title, _year_if_untold(METHODS[name]), strong=True),
                 names_row=True),
    StaticColumn("Images", lambda name: sees(METHODS[name]).split(" ", 1)[0], look="rp-nowrap"),
    StaticColumn("How it searches", lambda name: METHODS[name].summary),
)


def sees(method: Method) -> str:
    """Return a phrase that says whether a search by this method trains on attacked images or on clean images only.

    A method attacks its images if it has a setting whose name contains "epsilon".
    """
    return ATTACKED if any("epsilon" in name for name in method.config.model_fields) else CLEAN


def in_order() -> list[str]:
    """Return the names of all methods in the order of the selector.

    The default method comes first. The other methods that attack images follow, and then the methods without attacks. Both groups
    are sorted newest first.
    """
    return sorted(METHODS, key=lambda name: (name != DEFAULT, sees(METHODS[name]) != ATTACKED,
                                             -(METHODS[name].year or 0)))


def option(name: str) -> str:
    """Return the text of a method in the selector, for example "ARNAS · 2024 · attacked images in the search"."""
    method = METHODS[name]
    return " · ".join(filter(None, (method.title, _year_if_untold(method), sees(method))))


def choose_method() -> str:
    """Show the selector, the summary of the selected method and the table of all methods. Return the selected name."""
    name = st.selectbox("Method", in_order(), format_func=option, key="launch.method", persist_state="session")
    st.caption(f"{METHODS[name].summary} *{METHODS[name].source}.*")
    with st.expander(f"Compare the {len(METHODS)} methods"):
        st.html(html_table(COLUMNS, in_order(), label="Search methods", look="rp-wrap",
                           row_look=lambda one: "rp-differs" if one == name else ""))
    return name


def _year_if_untold(method: Method) -> str:
    """Return the year in which a method was published, or "" if the year is unknown or already in the method's title."""
    year = str(method.year or "")
    return "" if year in method.title else year
