"""The editor of a user's own study, as a form or as text. It shows errors, the cost, and what the study can detect."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import address, session
from app.components.html_table import StaticColumn, html_table
from app.components.scroll import scroll_here
from app.components.states import problem, small_heading
from app.components.study_draft import change_words, fields_of, own, problems, read, shared, source_words
from app.components.study_form import form
from app.components.study_outlook import absences, facts_html, launch_button
from app.components.study_text import FILE_PROBLEM, FILLED, TEXT, keep, open_file, start, text
from app.formats import escape, markdown
from engine import requests
from engine.config.run import KINDS
from engine.errors import RampartError
from engine.study.answer import endpoint_text, listed
from engine.study.declaration import Arm, Study
from engine.study.parsing import checked

VIEWS = {"form": "Form", "text": "Text"}


def editor() -> None:
    """Show the study as a form or as text, its errors, and the button that launches it."""
    asked = start()
    left, right = st.columns([3, 2], gap="large")
    with left:
        if address.segmented("Show the study as", VIEWS, name="view", key="studies.view", label_visibility="collapsed") == "text":
            st.text_area("Study in YAML or JSON", key=TEXT, height=460, persist_state="session",
                         help="Each arm names a search method, or in its retrain settings a genotype or a network. It lists the "
                              "settings of search, retrain and attack that differ from the preset. The numbers beside the text "
                              "follow when you leave the field or press Ctrl+Enter.")
        else:
            form()
        st.file_uploader("Or open a file", type=["yaml", "yml", "json"], max_upload_size=1, key="studies.file",
                         on_change=open_file)
        if refusal := st.session_state.pop(FILE_PROBLEM, ""):
            problem(refusal, link=None)
    with right, st.container(key="rp-before-study"):
        check(text())
    keep()
    if asked:  # the list of studies may be long, and the user has asked for this text
        scroll_here(f"{asked} {st.session_state[FILLED]}", key="studies.editor")


def check(content: str) -> None:
    """Show the size and cost of the study that a text declares, or the error in the text."""
    small_heading("Before the launch", 3)
    try:
        study = checked(read(content))
        outlook = session.hub().studies.outlook(study)
        reasons = [*absences(study), *arm_sentences(study)]
    except RampartError as refusal:
        problem(str(refusal), link=None)
        launch_disabled()
        return
    st.html(f'<p class="rp-lead">{escape(study.question)}</p>{facts_html(outlook)}')
    st.html(arms_html(study))
    st.html(f'<p class="rp-note">{escape(declared_words(study))}</p>')
    for reason in reasons:
        st.caption(f":material/block: {markdown(reason)}")
    with st.container(horizontal=True):
        launch_button(study, key="studies.launch", reasons=reasons, is_main=True)
        st.download_button("Download", content, "study.yaml", "application/yaml", icon=":material/download:", on_click="ignore",
                           help="`rampart study new FILE` launches the same study.")


def arm_sentences(study: Study) -> list[str]:
    """Return what is wrong with the arms of a study, one sentence for each problem."""
    return [f"{arm.name}: {sentence}" for arm, wrong in zip(study.arms, problems(study, requests.check_config), strict=True)
            for sentence in wrong.values()]


def launch_disabled() -> None:
    """Show a launch button that cannot be clicked."""
    st.button("Launch", key="studies.launch.none", type="primary", icon=":material/rocket_launch:", disabled=True,
              help="Correct what is wrong first.")


def arms_html(study: Study) -> str:
    """Return a table of the arms with their changed settings. Changes that all arms share are listed once below the table."""
    def words(arm: Arm) -> str:
        return ", ".join([source_words(arm), *(change_words(arm, kind, name, value) for kind in KINDS
                                               for name, value in own(study, arm, kind).items())])

    common = [change_words(arm, kind, name, value) for kind in KINDS for name, value in shared(study, kind).items()
              for arm in study.arms if name in fields_of(arm, kind)]
    columns: Sequence[StaticColumn[Arm]] = (
        StaticColumn("Arm", lambda arm: arm.name, names_row=True, look="rp-name"),
        StaticColumn("Network and changed settings", words))
    return html_table(columns, study.arms, label="Arms", look="rp-wrap",
                      note=f"All arms: {', '.join(dict.fromkeys(common))}." if common else "")


def declared_words(study: Study) -> str:
    """Return a few sentences about the compared accuracy, the pairs of arms to compare, and the sizes of the networks."""
    pairs = [f"{first} against {second}" for first, second in study.contrasts]
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    parts = [f"Compares {endpoint_text(study)}: {listed(pairs[:4]) if not more else ', '.join(pairs[:4])}{more}." if pairs else
             f"Measures {endpoint_text(study)}."]
    if study.match != "none":
        parts.append(f"Sizes are matched to {study.reference} by {'MACs' if study.match == 'macs' else 'parameters'}.")
    if study.margin is not None:
        points = f"{100 * study.margin:g} point{'' if round(100 * study.margin, 6) == 1 else 's'}"
        parts.append(f"Differences within {points} do not matter.")
    return " ".join(parts)
