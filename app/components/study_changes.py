"""The changed settings of one arm, or of all arms, with their widgets, and the list from which more settings are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st

from app.components import study_text
from app.components.form import field_widget, fits_widget, held_value, label_of, with_unit
from app.components.study_draft import fields_of, with_change, without_change
from app.formats import dataset_title, markdown
from app.theme import KIND_TITLES
from engine.architecture.genotype import DERIVED
from engine.config import network_values
from engine.configuring import config_class, preset_values, published_values
from engine.data.catalogue import DATASETS
from engine.errors import RampartError
from engine.study.declaration import Arm, Study

COLUMNS = 2
LONGEST_OPTION = 110  # characters of an option in the list of settings
Wrong = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Part:
    """The part of a study whose settings a list shows: one arm, or all arms.

    Attributes:
        name: prefix of the widgets' keys.
        arms: positions of the arms that a change concerns. An arm without the setting is left as it is.
        kinds: kinds of run whose settings are offered.
    """

    name: str
    arms: tuple[int, ...]
    kinds: tuple[str, ...]

    def arm_with(self, study: Study, kind: str, setting: str) -> Arm | None:
        """Return the first arm that has a setting; None if none has it."""
        return next((study.arms[index] for index in self.arms if setting in fields_of(study.arms[index], kind)), None)

    def offered(self, study: Study, least: int = 1) -> list[tuple[str, str]]:
        """Return (kind of run, name) of each setting that at least `least` of the arms have."""
        names = [(kind, name) for index in self.arms for kind in self.kinds for name in fields_of(study.arms[index], kind)]
        return [one for one in dict.fromkeys(names) if names.count(one) >= least]


def change_list(study: Study, part: Part, values: Mapping[str, Mapping[str, Any]], wrong: Wrong) -> None:
    """Show the changed settings with their widgets.

    Args:
        study: the study.
        part: the arm, or all arms, whose settings are shown.
        values: {kind of run: {name of the setting: value}}.
        wrong: what is wrong with the settings, as {(kind of run, name of the setting): sentence}.
    """
    for kind in part.kinds:
        names = list(values.get(kind, ()))
        for first in range(0, len(names), COLUMNS):
            for column, name in zip(st.columns(COLUMNS), names[first:first + COLUMNS], strict=False):
                with column, st.container(gap=None):
                    _row(study, part, kind, name, values[kind][name], wrong.get((kind, name), ""))


def _row(study: Study, part: Part, kind: str, name: str, value: Any, wrong: str) -> None:
    arm = part.arm_with(study, kind, name)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        _widget(study, arm, part, kind, name, value)
        st.button("", key=study_text.key(part.name, kind, name, "remove"), icon=":material/close:", type="tertiary",
                  help=f"Take {label_of(name)} from the preset again", on_click=remove, args=(part, kind, name))
    if wrong:
        st.markdown(f":red[:material/error: {markdown(wrong)}]")
    elif arm is not None:
        usual, info = usual_value(study, arm, kind, name), fields_of(arm, kind)[name]
        value_now = dataset_title(usual) if name == "dataset" else with_unit(info, usual)
        st.caption(f"{KIND_TITLES[kind]} · preset: {markdown(value_now)}")


def _widget(study: Study, arm: Arm | None, part: Part, kind: str, name: str, value: Any) -> None:
    """Show the widget of a setting. A value that the widget cannot show appears in a text field."""
    key = study_text.key(part.name, kind, name)
    changed = partial(take, part, kind, name, key)
    if name == "dataset" and value in DATASETS:
        st.session_state.setdefault(key, value)
        st.selectbox("Dataset", list(DATASETS), format_func=dataset_title, key=key, on_change=changed,
                     help="Dataset of this search. The retraining and the attacks use the dataset of the study.")
    elif arm is None or not fits_widget(name, fields_of(arm, kind)[name], value):
        st.text_input(label_of(name), key=study_text.put(str(value), part.name, kind, name, "text"),
                      on_change=partial(take, part, kind, name, f"{key}.text"))
    else:
        held_value(fields_of(arm, kind)[name], key, value)
        published = published_values(config_class(kind, arm.method), study.dataset)[name]
        field_widget(name, fields_of(arm, kind)[name], published, key, changed)


def usual_value(study: Study, arm: Arm, kind: str, name: str) -> Any:
    """Return the value of a setting in the preset of the study. If the preset is unknown, return the default of the setting."""
    try:
        values = preset_values(kind, arm.method, study.dataset, study.preset)
        return (values | (network_values(str(arm.retrain.get("network") or DERIVED)) if kind == "retrain" else {}))[name]
    except RampartError:  # the dataset, the preset or the network is unknown, which is said elsewhere
        return config_class(kind, arm.method).model_fields[name].default


def picker(study: Study, part: Part, values: Mapping[str, Mapping[str, Any]], label: str, least: int = 1) -> None:
    """Show a selector of settings that the user can add to the changed ones. It finds a setting by any part of its text.

    Args:
        study: the study.
        part: the arm, or all arms, in which the setting will be changed.
        values: the settings that are changed already, by kind of run.
        label: label of the list, shown in its field while nothing is chosen.
        least: a setting is offered if at least this many arms have it.
    """
    offered = [f"{kind}.{name}" for kind, name in part.offered(study, least) if name not in values.get(kind, ())]
    key = study_text.key(part.name, "add")
    st.selectbox(label, offered, index=None, key=key, placeholder=f"{label} …", label_visibility="collapsed", on_change=add,
                 args=(part, key), format_func=partial(_option, study, part))


def _option(study: Study, part: Part, option: str) -> str:
    kind, _, name = option.partition(".")
    arm = part.arm_with(study, kind, name)
    words = f"{KIND_TITLES[kind]} · {label_of(name)}"
    about = "" if arm is None else str(fields_of(arm, kind)[name].description)
    text = f"{words}: {about}" if about else words
    return text if len(text) <= LONGEST_OPTION else f"{text[:LONGEST_OPTION - 1]}…"


def add(part: Part, key: str) -> None:
    """Add the setting that the user has picked in the selector with the widget key `key` to the changed settings of the arms.

    The setting first gets the value that it has in the preset. A setting `dataset` first gets the dataset of the study.
    """
    kind, _, name = str(st.session_state.get(key) or "").partition(".")

    def added(study: Study) -> Study:
        arm = part.arm_with(study, kind, name)
        value = None if arm is None else study.dataset if name == "dataset" else usual_value(study, arm, kind, name)
        return with_value(study, part.arms, kind, name, value)

    if name:
        study_text.change(added)


def take(part: Part, kind: str, name: str, key: str) -> None:
    """Store the value that the user has given to a setting."""
    def taken(study: Study) -> Study:
        arm = part.arm_with(study, kind, name)
        typed = st.session_state.get(key)
        if arm is not None and name != "dataset":
            info = fields_of(arm, kind)[name]
            if fits_widget(name, info, value := arm.changes(kind).get(name)):
                typed = held_value(info, key, value)
        return with_value(study, part.arms, kind, name, typed)

    study_text.change(taken, restart=False)


def remove(part: Part, kind: str, name: str) -> None:
    """Reset a setting to the value of the preset."""
    study_text.change(lambda study: replace(study, arms=tuple(
        without_change(arm, kind, name) if index in part.arms else arm for index, arm in enumerate(study.arms))))


def with_value(study: Study, arms: Sequence[int], kind: str, name: str, value: Any) -> Study:
    """Return the study with a setting changed in some arms. An arm without the setting stays as it is."""
    return replace(study, arms=tuple(
        with_change(arm, kind, name, value) if index in arms and name in {*fields_of(arm, kind), *arm.changes(kind)} else arm
        for index, arm in enumerate(study.arms)))
