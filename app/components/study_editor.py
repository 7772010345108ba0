"""The editor in which users write a study as YAML or JSON. It shows errors, the cost, and what the study can detect."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import session
from app.components.html_table import StaticColumn, html_table
from app.components.protocol import field_text
from app.components.scroll import scroll_here
from app.components.states import problem
from app.components.study_outlook import absences, facts_html, launch_button
from app.components.study_questions import STARTED, study_of
from app.formats import escape
from app.studies import as_text
from engine.data.catalogue import DATASETS
from engine.errors import RampartError
from engine.search.methods.registry import METHODS
from engine.study.answer import endpoint_text, listed
from engine.study.declaration import Arm, Study
from engine.study.folder import StudyFolder
from engine.study.parsing import from_text
from engine.study.questions import SIZES, recipes

TEXT, FILLED = "studies.text", "studies.filled"  # in the session: the text, and how often it was filled with another study's
EXAMPLE = """\
question: Does a larger search space of widths help?
dataset: digits
preset: quick
search_seeds: 5          # or a list of seeds
retrainings: 2           # for each search seed
match: macs              # give all networks the size of the reference arm's
reference: Narrow
arms:
  - {name: Narrow, method: arnas}
  - name: Wide
    method: arnas
    search: {width_ratio: "1:2:4"}
contrasts: [[Wide, Narrow]]
margin: 0.01             # differences within 1 point do not matter
"""
ADDED = ("recipe", "size")  # entries of a shipped question, which an edited copy is no longer


def editor() -> None:
    """Show the text of the study, what is wrong with it, and the button that launches it."""
    start()
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.text_area("Study in YAML or JSON", key=TEXT, height=460, persist_state="session",
                     help="Each arm names a search method, or in its retrain settings a genotype or a network. It lists the "
                          "settings of search, retrain and attack that differ from the preset. The numbers beside the text "
                          "follow when you leave the field or press Ctrl+Enter.")
        st.file_uploader("Or open a file", type=["yaml", "yml", "json"], max_upload_size=1, key="studies.file",
                         on_change=open_file)
        if refusal := st.session_state.pop("studies.file_problem", ""):
            problem(refusal, link=None)
    with right:
        check(str(st.session_state[TEXT]))


def start() -> None:
    """Fill the editor on the first visit with the study or question that the address names, or else with an example.

    On later visits, the user's text stays, unless the address names another study or the user asks for a copy again.
    """
    asked = st.query_params.get("edit", "")
    if TEXT not in st.session_state or (asked and st.session_state.get(STARTED) != asked):
        st.session_state[STARTED], st.session_state[TEXT] = asked, start_text(asked)
        st.session_state[FILLED] = st.session_state.get(FILLED, 0) + 1
    if asked:  # the list of studies may be long, and the user has asked for this text
        scroll_here(f"{asked} {st.session_state[FILLED]}", key="studies.editor")


def start_text(asked: str) -> str:
    """Return the text with which the editor starts: that of a study, of a question that ships with Rampart, or of the example.

    Args:
        asked: id of the study or name of the question; "" for the example.
    """
    try:
        if asked in recipes():
            size, dataset = (known if (known := st.query_params.get(name, default)) in registry else default for
                             name, default, registry in (("size", "demo", SIZES), ("dataset", "digits", DATASETS)))
            source = st.query_params.get("source") or next(name for name in DATASETS if name != dataset)
            return as_text(study_of(asked, size, dataset, source), ADDED)
        return as_text(StudyFolder(session.runs_root(), asked).read(), ADDED) if asked else EXAMPLE
    except RampartError as refusal:
        st.session_state["studies.file_problem"] = str(refusal)
        return EXAMPLE


def open_file() -> None:
    """Put the uploaded file into the editor."""
    file = st.session_state.get("studies.file")
    if file is None:
        return
    try:
        st.session_state[TEXT] = file.getvalue().decode("utf-8-sig")
    except UnicodeDecodeError:
        st.session_state["studies.file_problem"] = (f"{file.name} must be a text file in YAML or JSON and is not; export one "
                                                    "from the page of a study.")


def check(text: str) -> None:
    """Show the size and cost of the study that a text declares, or the error in the text."""
    st.markdown("###### Before the launch")
    try:
        study = from_text(text)
        outlook = session.hub().studies.outlook(study)
        reasons = absences(study)
    except RampartError as refusal:
        problem(str(refusal), link=None)
        launch_disabled()
        return
    st.html(f'<p class="rp-lead">{escape(study.question)}</p>{facts_html(outlook)}')
    st.html(arms_html(study))
    st.html(f'<p class="rp-note">{escape(declared_words(study))}</p>')
    for reason in reasons:
        st.caption(f":material/block: {reason}")
    with st.container(horizontal=True):
        launch_button(study, key="studies.launch", reasons=reasons)
        st.download_button("Download", text, "study.yaml", "application/yaml", icon=":material/download:", on_click="ignore",
                           help="`rampart study new FILE` launches the same study.")


def launch_disabled() -> None:
    """Show a launch button that cannot be clicked."""
    st.button("Launch", key="studies.launch.none", type="primary", icon=":material/rocket_launch:", disabled=True,
              help="Correct the text first.")


def arms_html(study: Study) -> str:
    """Return a table of the arms with their changed settings. Changes that all arms share are listed once below the table."""
    changes = {arm.name: changes_of(arm) for arm in study.arms}
    shared = [one for one in changes[study.arms[0].name] if all(one in others for others in changes.values())]
    own = {name: [one for one in values if one not in shared] for name, values in changes.items()}
    columns: Sequence[StaticColumn[Arm]] = (
        StaticColumn("Arm", lambda arm: arm.name, names_row=True, look="rp-name"),
        StaticColumn("Method and changed settings", lambda arm: ", ".join([method_title(arm), *own[arm.name]])))
    return html_table(columns, study.arms, label="Arms", look="rp-wrap",
                      note=f"All arms: {', '.join(shared)}." if shared and len(study.arms) > 1 else "")


def method_title(arm: Arm) -> str:
    """Return the title of an arm's search method."""
    return "no search" if arm.method is None else METHODS[arm.method].title


def changes_of(arm: Arm) -> list[str]:
    """Return the changed settings of an arm in words, for example "search epochs 4"."""
    return [f"{kind} {name.replace('_', ' ')} {shortened(value)}" for kind in ("search", "retrain", "attack")
            for name, value in arm.changes(kind).items()]


def shortened(value: object) -> str:
    """Return a value as text, cut to at most 40 characters."""
    text = field_text(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def declared_words(study: Study) -> str:
    """Return a few sentences on the compared accuracy, the pairs of arms to compare, and the sizes of the networks."""
    pairs = [f"{first} against {second}" for first, second in study.contrasts]
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    parts = [f"Compares {endpoint_text(study)}: {listed(pairs[:4]) if not more else ', '.join(pairs[:4])}{more}." if pairs else
             f"Measures {endpoint_text(study)}."]
    if study.match != "none":
        parts.append(f"Sizes are matched to {study.reference} by {'MACs' if study.match == 'macs' else 'parameters'}.")
    if study.margin is not None:
        parts.append(f"Differences within {100 * study.margin:g} points do not matter.")
    return " ".join(parts)
