"""The questions that ship with Rampart, as cards that launch a study."""

from __future__ import annotations

from functools import cache

import streamlit as st

from app import address, session
from app.components.states import problem, small_heading
from app.components.study_outlook import absences, dataset_titles, facts_html, launch_button
from app.formats import capitalised, dataset_title, escape, markdown
from engine.command import line_of
from engine.errors import RampartError
from engine.study.answer import listed
from engine.study.declaration import Study
from engine.study.questions import SIZES, Recipe, recipes, sources_for

COLUMNS = 2
STARTED = "studies.started"  # in the session: the study or question with whose text the editor was filled


def questions() -> None:
    """Show the selectors for size and dataset, which apply to all questions, and a card for each question."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        size = address.segmented("Size", {name: one.title for name, one in SIZES.items()}, name="size", key="studies.size")
        st.caption(SIZES[size].words)
    dataset = address.selectbox(right, "Dataset", dataset_titles(), name="dataset", key="studies.dataset")
    every = [recipe for _, recipe in recipes().items()]
    for first in range(0, len(every), COLUMNS):
        for column, recipe in zip(st.columns(COLUMNS), every[first:first + COLUMNS], strict=False):
            with column, st.container(border=True, height="stretch", key=f"rp-question-{recipe.name}"):
                card(recipe, size, dataset)


    small_heading("The same by command")
    words = ["study", "new", every[0].name, "--size", size, "--dataset", dataset]
    st.code(line_of(words, session.runs_root()), language="bash", wrap_lines=True)
    st.caption(f"The names of the questions are {listed([recipe.name for recipe in every])}.")


def card(recipe: Recipe, size: str, dataset: str) -> None:
    """Show one question: what it compares, its size, its duration, the smallest difference it can detect, and its buttons."""
    words = f"{capitalised(recipe.compares)} {recipe.remark}".strip()
    st.html(f'<div class="rp-question"><span class="rp-label">Question {recipe.number} · {escape(recipe.title)}</span>'
            f'<h3>{escape(recipe.question)}</h3><p class="rp-note">{escape(words)}</p></div>')
    source = ""
    if recipe.needs_source:
        titles = {name: dataset_title(name) for name in sources_for(dataset)}
        source = address.selectbox(st.container(), "Source dataset, on which the cells are found", titles, name="source",
                                   key="studies.source")
    try:
        study = study_of(recipe.name, size, dataset, source)
        outlook = session.hub().studies.outlook(study)
        reasons = absences(study)
    except RampartError as refusal:
        problem(str(refusal), link=None)
        return
    st.html(facts_html(outlook))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        launch_button(study, key=f"studies.launch.{recipe.name}", reasons=reasons)
        st.button("Edit a copy", key=f"studies.edit.{recipe.name}", icon=":material/edit:", on_click=edit,
                  args=(recipe.name, size, dataset), help="Change a copy of this study and launch your own.")
    if reasons:
        st.caption(f":material/block: {markdown(' '.join(reasons))}")


def edit(recipe: str, size: str, dataset: str) -> None:
    """Open the editor with the text of the study that answers a question."""
    st.session_state.pop(STARTED, None)
    address.choose(new="own", edit=recipe, size=size, dataset=dataset)


@cache
def study_of(recipe: str, size: str, dataset: str, source: str) -> Study:
    """Return the study that answers a question.

    Args:
        recipe: name of the question.
        size: "demo" or "full".
        dataset: dataset of the runs.
        source: dataset of the search, for a question that searches and retrains on different datasets. Other questions ignore it.

    Raises:
        ConfigError: a setting does not fit the dataset.
    """
    return recipes()[recipe].study(size, dataset, source=source)
