"""A study before its launch: its size, its duration, the smallest difference that it can detect, and the launch button."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.states import STUDY_PAGE, problem
from app.formats import about, escape, plural
from app.studies import Outlook, as_text
from engine.data.catalogue import DATASETS, image_source
from engine.data.prepared import absence
from engine.errors import RampartError
from engine.run import device
from engine.search.methods.registry import METHODS
from engine.study.actions import launch
from engine.study.declaration import Study
from engine.study.outlook import power_words, unknown_words

LAUNCHED = "studies.launched"  # in the session: (text of the study, its id, time) of the last launch
AGAIN_S = 5.0  # a second click on the same study within this time opens the study of the first click


def facts_html(outlook: Outlook) -> str:
    """Return an HTML list of the size of a study, its duration, and the smallest difference that it can detect."""
    facts = {"Runs": size_words(outlook), "Time": time_words(outlook), "Detects": power_words(outlook.power)}
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f'<dl class="rp-outlook">{rows}</dl>'


def size_words(outlook: Outlook) -> str:
    """Return a text with the numbers of runs, cells (repetitions of arms), arms and seeds of a study."""
    study = outlook.study
    repeats = f" × {plural(study.retrainings, 'retraining')}" if study.retrainings > 1 else ""
    seeds = plural(len(study.search_seeds), "search seed")
    arms = f"{plural(len(study.arms), 'arm')} × {seeds}" if not any(arm.seeds for arm in study.arms) else (
        f"{plural(len(study.arms), 'arm')}, up to {seeds} each")
    return f"{plural(outlook.time.runs, 'run')} in {plural(len(study.cells()), 'cell')}: {arms}{repeats}"


def time_words(outlook: Outlook) -> str:
    """Return a text with the expected duration of a study on this machine, and with the source of this estimate."""
    seconds = outlook.time.seconds
    if seconds is None:
        return unknown_words(outlook.time, outlook.study.preset, lambda method: METHODS[method].title)
    source = "runs that have finished here" if outlook.time.measured else "our own timings"
    return f"{about(seconds)} on {plural(device.cores(), 'core')}, by {source}"


def absences(study: Study) -> list[str]:
    """Return one sentence for every dataset of a study that is missing on this machine."""
    names = dict.fromkeys(name for arm in study.arms for config in study.configurations(arm).values()
                          for name in config.datasets())
    return [reason for name in names if (reason := absence(image_source(name)))]


def launch_button(study: Study, *, key: str, reasons: Sequence[str] = (), is_main: bool = False) -> None:
    """Show the button that launches a study and opens its page.

    Args:
        study: the study.
        key: Streamlit key of the button.
        reasons: sentences that say why the study cannot be launched. If there are any, the button is disabled.
        is_main: True if it is the main button of the page.
    """
    clicked = act_button("Launch", key=key, type="primary" if is_main else "secondary", icon=":material/rocket_launch:",
                        disabled=bool(reasons), help=" ".join(reasons) or None)
    if not clicked:
        return
    try:
        study_id = launched_once(study)
    except RampartError as refusal:
        problem(str(refusal), link=None)
        return
    st.switch_page(STUDY_PAGE, query_params={"id": study_id})


def launched_once(study: Study) -> str:
    """Launch a study and return its id. A second click before the page has changed returns the id of the first launch.

    Raises:
        RampartError: the study cannot be launched.
    """
    text = as_text(study)
    before, study_id, at = st.session_state.get(LAUNCHED, ("", "", 0.0))
    if before != text or time.monotonic() - at > AGAIN_S:
        study_id = launch(session.runs_root(), study)
        session.hub().studies.refresh()
        st.session_state[LAUNCHED] = (text, study_id, time.monotonic())
    return str(study_id)


def dataset_titles() -> dict[str, str]:
    """Return {name of a dataset: title}. Datasets that are ready on this machine come first."""
    titles = {name: data.title for name, data in DATASETS.items()}
    return dict(sorted(titles.items(), key=lambda one: bool(absence(image_source(one[0])))))
