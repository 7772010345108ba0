"""What a page says when it has nothing to show, or cannot: designed empty states and problems in one sentence."""

from __future__ import annotations

import streamlit as st

from app.components.formats import escape

LAUNCH_PAGE = "views/launch.py"
RUNS_PAGE = "views/runs.py"
RUN_PAGE = "views/run.py"
IMPORT_PAGE = "views/imports.py"
LONGEST = 700  # characters of a problem; a value out of an address may be of any length


def heading(title: str, note: str = "") -> None:
    """The title of a page (h1) and one line under it."""
    under = f'<p class="rp-note">{escape(note)}</p>' if note else ""
    st.html(f'<h1 class="rp-title">{escape(title)}</h1>{under}')


def section(title: str, note: str = "") -> None:
    """The title of a section (h2) and, on the same line, what its numbers are."""
    beside = f'<span class="rp-note">{escape(note)}</span>' if note else ""
    st.html(f'<div class="rp-sectionhead"><h2 class="rp-section">{escape(title)}</h2>{beside}</div>')


def empty_state(title: str, *lines: str, link: str | None = None, link_label: str = "") -> None:
    """A calm box that says what will be here and what to do for it.

    Args:
        title: what is missing, for example "No attacked networks yet".
        lines: plain sentences.
        link: a page of ours ("views/launch.py") to go to.
        link_label: its button's words.
    """
    body = "".join(f"<p>{escape(line)}</p>" for line in lines)
    st.html(f'<div class="rp-empty" role="status"><h3>{escape(title)}</h3>{body}</div>')
    if link:
        page_link(link, link_label)


def problem(sentence: str, *, link: str | None = RUNS_PAGE, link_label: str = "Go to Runs") -> None:
    """An error of input or data, as one sentence with a way on. Never a traceback."""
    shown = sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST // 2]} … {sentence[-LONGEST // 2:]}"
    st.html(f'<div class="rp-problem" role="alert">{escape(shown)}</div>')
    if link:
        page_link(link, link_label)


def page_link(page: str, label: str, **query: str) -> None:
    """A link to one of our pages. A page that is tested alone, without the router, shows the words only."""
    try:
        st.page_link(page, label=label, query_params=query or None)
    except (KeyError, st.errors.StreamlitAPIException):
        st.caption(label)


def first_run() -> None:
    """The very first page: no run exists yet. Explains the product and offers one button."""
    with st.container(key="rp-welcome"):
        _welcome()


def _welcome() -> None:
    st.html(
        '<h1 class="rp-title">Robust architecture search, watched as it happens</h1>'
        '<p class="rp-lead">Rampart searches for small networks that stay accurate when their images are attacked. '
        "You launch a search here, watch natural and adversarial accuracy pull at the architecture, and leave with the "
        "cells it found and a table of attacks on the trained network.</p>")
    st.html(
        '<ol class="rp-steps" aria-label="What a launch does">'
        '<li><span class="rp-step"><b>1 Search</b><span class="rp-label">finds the cells</span></span>'
        '<span class="rp-arrow" aria-hidden="true">→</span></li>'
        '<li><span class="rp-step"><b>2 Retrain</b><span class="rp-label">trains that network from scratch</span></span>'
        '<span class="rp-arrow" aria-hidden="true">→</span></li>'
        '<li><span class="rp-step"><b>3 Attack</b><span class="rp-label">measures what survives</span></span></li></ol>')
    st.html('<p class="rp-note">The first search is a demonstration: ARNAS on handwritten digits, on this computer\'s '
            "processor, in a few minutes. Nothing is downloaded and nothing leaves this machine.</p>")
    if st.button("Set up the first search", type="primary", key="first_run_launch"):
        st.switch_page(LAUNCH_PAGE)
    page_link(IMPORT_PAGE, "Or import what public code has found or trained")
