"""The Study page, which shows one study. The page's address gives its id, for example study?id=20261120-0915-space-..."""

from __future__ import annotations

import streamlit as st

from app import session
from app.components.live import live_panel
from app.components.progress import progress_html
from app.components.states import STUDIES_PAGE, empty_state, heading, problem, section
from app.components.status import tag_html
from app.components.study_actions import buttons
from app.components.study_answer import answer_html, marks_html, study_chip_html
from app.components.study_matrix import causes_html, matrix_html
from app.components.study_ranking import correlations
from app.components.study_results import arms_charts, arms_table, contrasts, files, notes, votes
from app.formats import dataset_title, escape, moment, plural, rounded
from app.studies import ACTIVE
from engine.errors import RampartError
from engine.study.overview import Overview

TONES = {"finished": "good", "failed": "bad", "stopped": "warn"}


def main() -> None:
    """Show the study that the page's address names."""
    study_id = st.query_params.get("id", "")
    if not study_id:
        heading("Study")
        empty_state("No study selected", "Open one from the list of studies.", link=STUDIES_PAGE, link_label="Go to Studies")
        return
    try:
        session.hub().studies.overview(study_id)
    except RampartError as error:
        heading("This study cannot be shown")
        problem(str(error), link=STUDIES_PAGE, link_label="Go to Studies")
        return
    live_panel(f"study:{study_id}", key="study_head")(head)(study_id)
    live_panel(f"study:{study_id}", key="study_results")(results)(study_id)


def head(study_id: str) -> None:
    """Show the question of a study, the answer so far, the progress and the buttons."""
    overview = read(study_id)
    if overview is None:
        return
    study = overview.study
    tags = "".join(map(tag_html, filter(None, (dataset_title(study.dataset), f"preset {study.preset}", study.size,
                                            "example" if study.example else ""))))
    size = f"{plural(len(study.arms), 'arm')}, {plural(len(study.search_seeds), 'search seed')}"
    st.html(
        f'<h1 class="rp-title">{escape(study.question)}</h1><div class="rp-row rp-below">{tags}'
        f'<span class="rp-label">{escape(f"{size}, launched {moment(study.created)}, {study.id}")}</span></div>'
        f'<section class="rp-answer" aria-label="Answer"><div class="rp-row"><h2>Answer</h2>{marks_html(overview)}</div>'
        f'{answer_html(overview)}</section>')
    left, right = st.columns([3, 4], vertical_alignment="center", gap="large")
    with left:
        st.html(f'<div class="rp-row">{study_chip_html(overview.status)}<div class="rp-grow">{progress(overview)}</div></div>')
    with right:
        buttons(overview)


def progress(overview: Overview) -> str:
    """Return the progress bar of a study: finished cells (repetitions of arms) and, if the study is active, the time left."""
    left = session.hub().studies.left(overview) if overview.status in ACTIVE else None
    time_left = "" if left is None or left.seconds is None else f", {rounded(left.seconds)} left"
    detail = f"{plural(left.runs, 'run')} to go{time_left}" if left else ""
    return progress_html(title="Done", done=overview.results.done, total=len(overview.results.cells), unit="cells",
                         tone=TONES.get(overview.status, ""), detail=detail)


def results(study_id: str) -> None:
    """Show the matrix, the charts, the tables and the files of a study."""
    overview = read(study_id)
    if overview is None:
        return
    runs = session.hub().studies.runs()
    section("Cells", "each links to its run; the stronger the tint, the higher the accuracy")
    st.html(matrix_html(overview, dict(zip(runs["id"], runs["progress"], strict=True))) + causes_html(overview.results))
    if any(arm.cells for arm in overview.results.arms.values()):
        arms_charts(overview)
        arms_table(overview.results)
        contrasts(overview)
        correlations(overview)
        votes(overview)
    else:
        empty_state("No result yet", "When the attack of the first cell ends, its accuracy appears in the matrix, and the charts "
                    "and tables begin to fill below.")
    notes(overview)
    files(overview)


def read(study_id: str) -> Overview | None:
    """Return the overview of a study (its runs, results and answer). If it cannot be read, show why and return None."""
    try:
        return session.hub().studies.overview(study_id)
    except RampartError as error:
        problem(str(error), link=STUDIES_PAGE, link_label="Go to Studies")
        return None


main()
