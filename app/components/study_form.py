"""The form of a user's own study: question, base, arms, attack, seeds and comparisons. It edits the text of the study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from app.components import study_draft, study_text
from app.components.form import title_of
from app.components.states import problem, small_heading
from app.components.study_arms import arm_cards
from app.components.study_base import base_controls, set_entry
from app.components.study_changes import Part, change_list, picker
from app.components.study_draft import BLANK, own, problems, shared, usual_contrasts
from app.formats import markdown
from engine import requests
from engine.attack.catalogue import NATURAL, WORST
from engine.config import AttackConfig
from engine.errors import ConfigError
from engine.study.answer import listed
from engine.study.declaration import Study
from engine.study.parsing import MATCHES

MATCH_TITLES = {"none": "As the settings say", "macs": "Equal MACs", "params": "Equal parameters"}
ENDPOINT_TITLES = {NATURAL: "Natural accuracy", WORST: "Worst case over all attacks"}
SEED_PROBLEM = "studies.form.seed_problem"  # in the session: the sentence about an invalid list of seeds


def form() -> None:
    """Show the form, or the reason why the text is not a study that the form can show."""
    try:
        study = study_draft.read(study_text.text())
    except ConfigError as refusal:
        problem(f"The form cannot show this study. {refusal} Correct it under Text.", link=None)
        return
    wrong = problems(study, requests.check_config)
    st.text_input("Question", key=study_text.put(study.question, "question"), on_change=set_question,
                  args=(study_text.key("question"),),
                  help="Follows the arms until you write another one. Clear it to get a proposal again.")
    small_heading("Base", 3)
    base_controls(study)
    small_heading("Arms", 3)
    arm_cards(study, wrong)
    small_heading("Attack on all networks", 3)
    attack(study, wrong)
    small_heading("Seeds", 3)
    seeds(study)
    small_heading("Comparison", 3)
    comparison(study)
    if words := kept_words(study):
        st.caption(f":material/info: {markdown(words)}")


def set_question(key: str) -> None:
    """Store the question. If it is empty, the proposed question is used."""
    question = str(st.session_state.get(key) or "").strip() or BLANK
    study_text.change(lambda study: replace(study, question=question), restart=False)


def attack(study: Study, wrong: Sequence[dict[tuple[str, str], str]]) -> None:
    """Show the settings of the attack, which all arms share."""
    st.caption("All networks are attacked alike, because accuracies under different attacks cannot be compared.")
    part, values = Part("attack", tuple(range(len(study.arms))), ("attack",)), {"attack": shared(study, "attack")}
    change_list(study, part, values, {place: sentence for one in wrong for place, sentence in one.items()})
    picker(study, part, values, "Change a setting of the attack")
    if differing := [arm.name for arm in study.arms if own(study, arm, "attack")]:
        st.caption(f":material/info: {markdown(listed(differing))} change settings of the attack on their own. A change here "
                   "applies to all arms.")


def seeds(study: Study) -> None:
    """Show the controls of search seeds and retrainings."""
    left, right = st.columns(2)
    counted = study.search_seeds == tuple(range(len(study.search_seeds)))
    key = study_text.key("named")
    st.session_state.setdefault(key, not counted)
    with left:
        if st.session_state[key] or not counted:
            _named_seeds(study)
        else:
            number(study, "Search seeds", "search_seeds", len(study.search_seeds),
                   "Searches of each arm, with the seeds 0, 1, 2 and so on. A claim needs at least 5.")
        st.toggle("Name the seeds", key=key, disabled=not counted)
    with right:
        number(study, "Retrainings", "retrainings", study.retrainings, "Retrainings of the network that each search finds.")


def number(study: Study, label: str, name: str, value: int, about: str) -> None:
    """Show a field for an integer entry of the study, such as the number of retrainings."""
    key = study_text.put(value, name)
    st.number_input(label, min_value=min(1, value), step=1, key=key, help=about, on_change=set_number, args=(name, key))


def set_number(name: str, key: str) -> None:
    """Store a whole number of the study: the number of search seeds or of retrainings."""
    value = int(st.session_state.get(key) or 1)
    values: dict[str, Any] = {name: tuple(range(value)) if name == "search_seeds" else value}
    study_text.change(lambda study: replace(study, **values), restart=False)


def _named_seeds(study: Study) -> None:
    key = study_text.put(", ".join(map(str, study.search_seeds)), "seeds")
    st.text_input("Search seeds", key=key, on_change=set_seeds, args=(key,),
                  help="Seeds separated by commas, for example 0, 20, 21.")
    if sentence := st.session_state.pop(SEED_PROBLEM, ""):
        st.markdown(f":red[:material/error: {markdown(sentence)}]")


def set_seeds(key: str) -> None:
    """Store the list of search seeds that the user has typed."""
    typed = str(st.session_state.get(key) or "")
    parts = [part for part in re.split(r"[,;\s]+", typed) if part]
    if not parts or not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        st.session_state[SEED_PROBLEM] = (f"Seeds must be whole numbers separated by commas, got {typed[:60]!r}; type for "
                                          "example 0, 1, 2.")
        return
    study_text.change(lambda study: replace(study, search_seeds=tuple(map(int, parts))), restart=False)


def comparison(study: Study) -> None:
    """Show the controls that say how the study compares its arms.

    They set the compared accuracy (endpoint), the smallest difference that matters (margin), whether all networks get equal
    sizes, and the pairs of arms to compare (contrasts).
    """
    left, right = st.columns(2)
    names = list(dict.fromkeys((*endpoints(study), study.endpoint)))
    left.selectbox("Compared accuracy (endpoint)", names, format_func=lambda name: ENDPOINT_TITLES.get(name) or title_of(name),
                   key=study_text.put(study.endpoint, "endpoint"), on_change=set_entry,
                   args=("endpoint", study_text.key("endpoint")))
    points = None if study.margin is None else round(100 * study.margin, 6)
    right.number_input("Margin that matters (points)", value=None, min_value=None, step=0.5, format="%g", placeholder="none",
                       key=study_text.put(points, "margin"), on_change=set_margin, args=(study_text.key("margin"),),
                       help="Smaller differences do not matter to you. A margin allows the answer that two arms are equal.")
    left.selectbox("Sizes of the networks", list(dict.fromkeys((*MATCHES, study.match))),
                   format_func=lambda name: MATCH_TITLES.get(name, name), key=study_text.put(study.match, "match"),
                   on_change=set_match, args=(study_text.key("match"),),
                   help="Equal sizes: every network gets the number of channels with which it is closest to the network of the "
                        "reference arm.")
    if study.match != "none":
        arms = list(dict.fromkeys((*(arm.name for arm in study.arms), study.reference)))
        right.selectbox("Reference arm", arms, key=study_text.put(study.reference, "reference"), on_change=set_reference,
                        args=(study_text.key("reference"),))
    if study.analysis == "contrasts":
        contrasts(study)


def endpoints(study: Study) -> list[str]:
    """Return the accuracies that the attack of the first arm measures."""
    try:
        config = study.configurations(study.arms[0])["attack"] if study.arms else None
    except ConfigError:  # stands at the setting
        config = None
    assert config is None or isinstance(config, AttackConfig)
    return [WORST, NATURAL, *(config.attacks if config and not config.worst_case_only else ())]


def set_margin(key: str) -> None:
    """Store the margin in the study as a fraction. The widget with the key `key` holds it in percentage points."""
    points = st.session_state.get(key)
    study_text.change(lambda study: replace(study, margin=None if points is None else round(points / 100, 8)), restart=False)


def set_match(key: str) -> None:
    """Store how the sizes of the networks are matched. The first arm becomes the reference until the user chooses another one."""
    match = str(st.session_state.get(key))
    study_text.change(lambda study: with_reference(
        replace(study, match=match), "" if match == "none" else study.reference or study.arms[0].name))


def set_reference(key: str) -> None:
    """Store the reference arm."""
    study_text.change(lambda study: with_reference(study, str(st.session_state.get(key))))


def with_reference(study: Study, reference: str) -> Study:
    """Return the study with `reference` as its reference arm.

    If all arms were compared with the old reference arm, they are now compared with the new reference arm.
    """
    usual = study.contrasts == usual_contrasts(study)
    changed = replace(study, reference=reference)
    return replace(changed, contrasts=usual_contrasts(changed)) if usual else changed


def contrasts(study: Study) -> None:
    """Show the pairs of arms that the study compares."""
    names = list(dict.fromkeys(arm.name for arm in study.arms))
    chosen = list(dict.fromkeys(study.contrasts))
    known = {frozenset(pair) for pair in chosen}
    rest = [(first, second) for place, first in enumerate(names) for second in names[place + 1:]
            if frozenset((first, second)) not in known]
    options = {f"{first} against {second}": (first, second) for first, second in (*chosen, *rest)}
    shown = [text for text, pair in options.items() if pair in chosen]
    key = study_text.put(shown, "contrasts")
    st.multiselect("Comparisons", list(options), key=key, on_change=set_contrasts, args=(key, options),
                   placeholder="Choose pairs of arms",
                   help="The declared pairs of arms. More pairs make each of them harder to decide. Without a choice, every arm "
                        "is compared with the reference arm or, if there is none, with the first arm.")
    if set(map(frozenset, study.contrasts)) != set(map(frozenset, usual_contrasts(study))) and len(names) > 1:
        base = study.reference or names[0]
        st.button(f"Compare every arm with {markdown(base)}", key=study_text.key("usual"), type="tertiary",
                  icon=":material/restart_alt:", on_click=study_text.change,
                  args=(lambda one: replace(one, contrasts=usual_contrasts(one)),))


def set_contrasts(key: str, options: dict[str, tuple[str, str]]) -> None:
    """Store the pairs of arms that the user has chosen. If there are none, the pairs of `usual_contrasts` are compared."""
    pairs = tuple(options[text] for text in st.session_state.get(key) or () if text in options)
    study_text.change(lambda study: replace(study, contrasts=pairs or usual_contrasts(study)), restart=False)


def kept_words(study: Study) -> str:
    """Return a sentence about the entries that the form keeps but does not show; "" if there are none."""
    parts = [f"the further attacks {listed(list(study.attacks))}"] if study.attacks else []
    if study.analysis == "ranking":
        parts.append(f"the ranking of networks by {listed(list(study.measures) or ['no measure'])}")
    return f"The form keeps what it does not show: {listed(parts)}. They stand under Text." if parts else ""
