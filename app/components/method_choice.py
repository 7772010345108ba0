"""Which search method: a list that says year and kind of each, and a table that compares them."""

from __future__ import annotations

import streamlit as st

from app.components.formats import escape
from engine.search.methods.registry import METHODS, Method

DEFAULT = "arnas"
ATTACKED, CLEAN = "attacked images in the search", "clean images only"


def sees(method: Method) -> str:
    """Whether its search attacks images: then its configuration has the attack's radius."""
    return ATTACKED if any("epsilon" in name for name in method.config.model_fields) else CLEAN


def in_order() -> list[str]:
    """Names of all methods: the default first, then those whose search meets attacks, then the others; newest first."""
    return sorted(METHODS, key=lambda name: (name != DEFAULT, sees(METHODS[name]) != ATTACKED,
                                             -(METHODS[name].year or 0)))


def option(name: str) -> str:
    """"ARNAS · 2024 · attacked images in the search"; a title that holds the year says it once."""
    method = METHODS[name]
    return " · ".join([method.title, *_year_beside(method), sees(method)])


def _year_beside(method: Method) -> list[str]:
    """The year, unless there is none or the title says it."""
    return [str(method.year)] if method.year and str(method.year) not in method.title else []


def choose_method() -> str:
    """Draws the list, the chosen one's summary and source, and the table of all. Returns the registry name."""
    name = st.selectbox("Method", in_order(), format_func=option, key="launch.method", persist_state="session")
    st.caption(f"{METHODS[name].summary} *{METHODS[name].source}.*")
    with st.expander(f"Compare the {len(METHODS)} methods"):
        st.html(_table(name))
    return name


def _table(chosen: str) -> str:
    rows = "".join(
        f'<tr class="{"rp-differs" if name == chosen else ""}"><td><b>{escape(METHODS[name].title)}</b><br>'
        f'<span class="rp-label">{"".join(_year_beside(METHODS[name]))}</span></td>'
        f'<td style="white-space: nowrap">{sees(METHODS[name]).split(" ", 1)[0]}</td>'
        f"<td>{escape(METHODS[name].summary)}</td></tr>" for name in in_order())
    return ('<div class="rp-scroll"><table class="rp-table rp-wrap"><thead><tr><th scope="col">Method</th>'
            '<th scope="col">Images</th><th scope="col">What it does</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")
