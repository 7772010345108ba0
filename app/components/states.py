"""Headings, links to pages, boxes for problems and for missing data, and the welcome page."""

from __future__ import annotations

import streamlit as st

from app.formats import escape, markdown

LAUNCH_PAGE = "views/launch.py"
RUNS_PAGE = "views/runs.py"
RUN_PAGE = "views/run.py"
ROBUSTNESS_PAGE = "views/robustness.py"
ARCHITECTURES_PAGE = "views/architectures.py"
IMPORT_PAGE = "views/imports.py"
STUDIES_PAGE = "views/studies.py"
STUDY_PAGE = "views/study.py"
LONGEST = 700  # maximum length of a problem in characters, because it may quote a value of any length from the page's address


def heading(title: str, note: str = "") -> None:
    """Show the title of a page as an h1 heading, with a note below."""
    under = f'<p class="rp-note">{escape(note)}</p>' if note else ""
    st.html(f'<h1 class="rp-title">{escape(title)}</h1>{under}')


def section(title: str, note: str = "") -> None:
    """Show the title of a section as an h2 heading, with a note on the same line."""
    beside = f'<span class="rp-note">{escape(note)}</span>' if note else ""
    st.html(f'<div class="rp-sectionhead"><h2 class="rp-section">{escape(title)}</h2>{beside}</div>')


def small_heading(title: str, level: int = 2) -> None:
    """Show the title of a part of a page in small letters.

    `level` (2..6) is the level of this HTML heading: one more than that of the heading above the part.
    """
    st.html(f'<h{level} class="rp-minor">{escape(title)}</h{level}>')


def empty_state(title: str, *lines: str, link: str | None = None, link_label: str = "") -> None:
    """Show a box in place of missing data. It says what will appear there, and how to get it.

    Args:
        title: title of the box, for example "No attacked network yet".
        lines: sentences below the title.
        link: page to link to, for example "views/launch.py", or None for no link.
        link_label: text of the link.
    """
    body = "".join(f"<p>{escape(line)}</p>" for line in lines)
    st.html(f'<div class="rp-empty" role="status"><h2>{escape(title)}</h2>{body}</div>')
    if link:
        page_link(link, link_label)


def problem(sentence: str, *, link: str | None = RUNS_PAGE, link_label: str = "Go to Runs") -> None:
    """Show a box with a sentence about an error in input or data. Unless `link` is None, show a link to that page below."""
    shown = sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST // 2]} … {sentence[-LONGEST // 2:]}"
    st.html(f'<div class="rp-problem" role="alert">{escape(shown)}</div>')
    if link:
        page_link(link, link_label)


def page_link(page: str, label: str, **query: str) -> None:
    """Show a link to a page with these query parameters.

    If Streamlit does not know the page, show only the text of the link. This happens in tests that run a single page.
    """
    try:
        st.page_link(page, label=markdown(label), query_params=query or None)
    except (KeyError, st.errors.StreamlitAPIException):
        st.caption(markdown(label))


def first_run() -> None:
    """Show the welcome page for a runs folder without runs: a short explanation, and a button that opens the Launch page."""
    with st.container(key="rp-welcome"):
        _welcome()


def _welcome() -> None:
    st.html(
        '<h1 class="rp-title">Robust architecture search, watched as it happens</h1>'
        '<p class="rp-lead">Rampart searches for small networks that stay accurate when their images are attacked. '
        "Launch a search, watch the architecture trade natural for adversarial accuracy, and leave with the cells that it "
        "found and a table of attacks on the trained network.</p>")
    st.html(
        '<ol class="rp-steps" aria-label="What a launch does">'
        '<li><span class="rp-step"><b>1 Search</b><span class="rp-label">find the cells</span></span>'
        '<span class="rp-arrow" aria-hidden="true">→</span></li>'
        '<li><span class="rp-step"><b>2 Retrain</b><span class="rp-label">train the network from scratch</span></span>'
        '<span class="rp-arrow" aria-hidden="true">→</span></li>'
        '<li><span class="rp-step"><b>3 Attack</b><span class="rp-label">measure its robustness</span></span></li></ol>')
    st.html('<p class="rp-note">The first search is a demonstration: ARNAS on handwritten digits, on the CPU of this '
            "machine, in a few minutes. Nothing is downloaded, and nothing leaves the machine.</p>")
    if st.button("Set up the first search", type="primary", key="first_run_launch"):
        st.switch_page(LAUNCH_PAGE)
    with st.container(horizontal=True):
        page_link(STUDIES_PAGE, "Or ask a question that needs many runs")
        page_link(IMPORT_PAGE, "Or import results of public code")
