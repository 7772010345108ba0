"""The arms of a user's own study, as cards: a name, the source of the network, and the settings that the arm changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from app import session
from app.components import study_text
from app.components.form import field_widget, held_value
from app.components.method_choice import in_order
from app.components.named_network import width_input
from app.components.study_changes import Part, Wrong, change_list, picker, take
from app.components.study_draft import BLANK, SOURCE_SETTINGS, SOURCES, own, source_of, with_arm, with_change, without_arm
from app.formats import markdown, plural
from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import Genotype
from engine.architecture.network import FORMS, OFFERED, named_network
from engine.config import RetrainConfig
from engine.errors import RampartError
from engine.search.methods.registry import METHODS
from engine.study.declaration import Arm, Study
from engine.study.parsing import MOST_ARMS

FIRST_METHOD = "arnas"
FIRST_TRANSPLANT = "accurate:robust"
NO_GENOTYPE = "studies.form.no_genotype"  # in the session: the sentence about a run without a genotype


def arm_cards(study: Study, wrong: list[dict[tuple[str, str], str]]) -> None:
    """Show a card for each arm, and the button that adds an arm.

    Args:
        study: the study.
        wrong: what is wrong with each arm, from `study_draft.problems`.
    """
    for index, arm in enumerate(study.arms):
        with st.container(border=True, key=f"rp-arm-{index}"):
            _card(study, index, arm, wrong[index])
    st.button("Add an arm", key=study_text.key("add"), icon=":material/add:", on_click=add, disabled=len(study.arms) >= MOST_ARMS)


def _card(study: Study, index: int, arm: Arm, wrong: Wrong) -> None:
    _head(study, index, arm)
    source = source_of(arm)
    left, right = st.columns(2)
    left.selectbox("Network", list(SOURCES), format_func=SOURCES.__getitem__, key=study_text.put(source, index, "source"),
                   on_change=_choose, args=(index, study_text.key(index, "source"), with_source))
    with right:
        CONTROLS[source](study, index, arm)
    part, values = Part(f"arm{index}", (index,), arm.kinds), {kind: own(study, arm, kind) for kind in arm.kinds}
    change_list(study, part, values, wrong)
    picker(study, replace(part, kinds=arm.kinds[:-1]), values, "Change a setting of this arm")
    if arm.seeds:
        st.caption(f"This arm uses only the first {plural(arm.seeds, 'search seed')} of the study.")
    shown = {(kind, name) for kind in arm.kinds for name in values[kind]}
    for place, sentence in wrong.items():
        if place not in shown:
            st.markdown(f":red[:material/error: {markdown(sentence)}]")


def _head(study: Study, index: int, arm: Arm) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(f"Arm {index + 1}", key=study_text.put(arm.name, index, "name"), on_change=_choose,
                      args=(index, study_text.key(index, "name"), named),
                      help="The name says what the arm changes until you write another one. Clear it to get a proposal again.")
        st.button("Duplicate", key=study_text.key(index, "duplicate"), icon=":material/content_copy:", type="tertiary",
                  on_click=duplicate, args=(index,), disabled=len(study.arms) >= MOST_ARMS)
        st.button("Delete", key=study_text.key(index, "delete"), icon=":material/delete:", type="tertiary", on_click=delete,
                  args=(index,), disabled=len(study.arms) == 1, help="A study needs an arm." if len(study.arms) == 1 else None)


def _search(study: Study, index: int, arm: Arm) -> None:
    key = study_text.put(arm.method, index, "method")
    st.selectbox("Search method", in_order(), help=METHODS[str(arm.method)].summary, key=key, on_change=_choose,
                 format_func=lambda name: METHODS[name].title, args=(index, key, with_method))


def _catalogue(study: Study, index: int, arm: Arm) -> None:
    names = [name for name, entry in CATALOG.items() if entry.genotype is not None]
    name = str(arm.retrain["genotype"])
    key = study_text.put(name, index, "catalogue")
    st.selectbox("Published cells", names if name in names else [name, *names], key=key, help=CATALOG[name].source,
                 on_change=_choose, args=(index, key, with_genotype))


def _network(study: Study, index: int, arm: Arm) -> None:
    name = str(arm.retrain["network"])
    family = name.partition("@")[0]
    left, right = st.columns([3, 2])
    key = study_text.put(family, index, "network")
    left.selectbox("Hand-made network", list(dict.fromkeys((*OFFERED, family))), format_func=network_title, key=key,
                   accept_new_options=True, on_change=_choose, args=(index, key, with_network),
                   help=f"A baseline without cells. Other sizes can be typed: {FORMS}.")
    try:
        network = named_network(name)
    except RampartError:  # shown below the arm
        return
    with right:
        key = study_text.put(network.width, index, "width")
        width_input(network, key, on_change=_choose, args=(index, key, with_width))


def network_title(name: str) -> str:
    """Return the title of a hand-made network. An unknown name is returned unchanged."""
    try:
        return named_network(name).title
    except RampartError:
        return name


def _genotype(study: Study, index: int, arm: Arm) -> None:
    runs = session.hub().studies.runs()
    rows = runs[(runs["status"] == "finished") & runs["kind"].isin(("search", "retrain"))] if len(runs) else runs
    titles = dict(zip(rows["id"], rows["title"], strict=True)) if len(rows) else {}
    key = study_text.key(index, "run")
    st.selectbox("From a run", list(titles), index=None, key=key, format_func=lambda run: f"{titles.get(run, '')} · {run}",
                 placeholder="Choose a run" if titles else "No search has finished yet", disabled=not titles,
                 on_change=take_genotype, args=(index, key))
    key = study_text.put(str(arm.retrain.get("genotype") or ""), index, "genotype")
    st.text_area("Genotype as JSON", key=key, height=120, on_change=_choose, args=(index, key, with_genotype),
                 help="Choose a run to fill this field, or paste a genotype. The Run page exports every genotype in this form.")
    if sentence := st.session_state.pop(f"{NO_GENOTYPE}.{index}", ""):
        st.markdown(f":red[:material/error: {markdown(sentence)}]")


def _transplant(study: Study, index: int, arm: Arm) -> None:
    donors = {f"arm:{one.name}": f"The search of {one.name}" for one in study.arms if one.method and source_of(one) == "search"}
    donors |= {name: f"Published {name} cells" for name, entry in CATALOG.items() if entry.genotype is not None}
    now = next((f"arm:{one.name}" for one in study.arms if f"arm:{one.name}" in donors and _same_search(one, arm)),
               str(arm.retrain.get("genotype") or "")) if arm.method else str(arm.retrain.get("genotype") or "")
    if now not in donors:
        donors[now] = f"A search of its own by {METHODS[arm.method].title}" if arm.method else "A genotype as text"
    key = study_text.put(now, index, "donor")
    st.selectbox("Cells of", list(donors), format_func=donors.__getitem__, key=key, on_change=_choose,
                 args=(index, key, with_donor), help="Cells of another arm's search take over the results of that search.")
    part, key = Part(f"arm{index}", (index,), ("retrain",)), study_text.key(f"arm{index}", "retrain", "transplant")
    info = RetrainConfig.model_fields["transplant"]
    held_value(info, key, arm.retrain["transplant"])
    field_widget("transplant", info, "", key, partial(take, part, "retrain", "transplant", key))


def _same_search(one: Arm, other: Arm) -> bool:
    return one.method == other.method and dict(one.search) == dict(other.search)


CONTROLS: Mapping[str, Callable[[Study, int, Arm], None]] = {
    "search": _search, "catalogue": _catalogue, "genotype": _genotype, "network": _network, "transplant": _transplant}


def _choose(index: int, key: str, make: Callable[[Study, int, str], Study]) -> None:
    """Change an arm according to the value of a widget.

    Args:
        index: position of the arm.
        key: key of the widget.
        make: function that takes the study, the position of the arm and the value, and returns the changed study.
    """
    value = str(st.session_state.get(key) or "").strip()
    study_text.change(lambda study: make(study, index, value), restart=make is not named)


def named(study: Study, index: int, name: str) -> Study:
    """Return the study with an arm renamed. If the name is empty, the arm gets its proposed name."""
    return with_arm(study, index, replace(study.arms[index], name=name or BLANK))


def with_method(study: Study, index: int, method: str) -> Study:
    """Return the study in which the arm at position `index` searches with `method`."""
    return with_arm(study, index, replace(study.arms[index], method=method))


def with_genotype(study: Study, index: int, genotype: str) -> Study:
    """Return the study in which the arm at position `index` trains `genotype`."""
    return with_arm(study, index, with_change(study.arms[index], "retrain", "genotype", genotype))


def with_network(study: Study, index: int, name: str) -> Study:
    """Return the study in which the arm at position `index` trains the hand-made network `name`."""
    return with_arm(study, index, with_change(study.arms[index], "retrain", "network", name))


def with_width(study: Study, index: int, width: str) -> Study:
    """Return the study in which the hand-made network of the arm at position `index` has `width`, a number as text."""
    return with_network(study, index, named_network(str(study.arms[index].retrain["network"])).at_width(float(width)).name)


def with_donor(study: Study, index: int, donor: str) -> Study:
    """Return the study in which an arm that transplants cells takes them from another donor.

    Args:
        study: the study.
        index: position of the arm.
        donor: "arm:NAME" for cells that the search of the arm NAME finds, or the name of published cells.
    """
    arm = study.arms[index]
    retrain = {name: value for name, value in arm.retrain.items() if name != "genotype"}
    if not donor.startswith("arm:"):
        return with_arm(study, index, replace(arm, method=None, search={}, retrain={**retrain, "genotype": donor}))
    other = study.arm(donor.removeprefix("arm:"))
    return with_arm(study, index, replace(arm, method=other.method, search=dict(other.search), retrain=retrain))


def with_source(study: Study, index: int, source: str) -> Study:
    """Return the study in which the network of the arm at position `index` comes from `source`, a key of `SOURCES`."""
    arm = study.arms[index]
    retrain = {name: value for name, value in arm.retrain.items() if name not in SOURCE_SETTINGS}
    searching = next((one for one in study.arms if one.method), None)
    if source == "search":
        method = arm.method or (searching.method if searching else FIRST_METHOD)
        return with_arm(study, index, replace(arm, method=method, retrain=retrain))
    if source == "transplant":
        donor = arm if arm.method else searching or Arm("", FIRST_METHOD)
        return with_arm(study, index, replace(arm, method=donor.method, search=dict(donor.search),
                                              retrain={**retrain, "transplant": FIRST_TRANSPLANT}))
    return with_arm(study, index, replace(arm, method=None, search={}, retrain={**retrain, **_start(study, arm, source)}))


def _start(study: Study, arm: Arm, source: str) -> dict[str, Any]:
    """Return the initial setting of an arm whose network comes from `source`, which is not a search.

    This is a hand-made network or a published genotype that no other arm has, or else a genotype as text: the published genotype
    that the arm has now, or an empty text to fill in.
    """
    taken = {one.retrain.get(name) for one in study.arms for name in ("genotype", "network")}
    if source == "network":
        return {"network": next((name for name in OFFERED if name not in taken), OFFERED[0])}
    if source == "catalogue":
        names = [name for name, entry in CATALOG.items() if entry.genotype is not None]
        return {"genotype": next((name for name in names if name not in taken), names[0])}
    name = str(arm.retrain.get("genotype"))
    known = CATALOG[name].genotype if name in CATALOG else None
    return {"genotype": known.to_json() if known else ""}


def take_genotype(index: int, key: str) -> None:
    """Give an arm the genotype of the run that the user has chosen."""
    run = st.session_state.get(key)
    if not run:
        return
    try:
        genotype = Genotype.from_dict(session.run_log().genotype(run)).to_json()
    except RampartError as refusal:
        st.session_state[f"{NO_GENOTYPE}.{index}"] = f"{run} has no genotype, so choose another run. {refusal}"
        return
    study_text.change(lambda study: with_genotype(study, index, genotype))


def add() -> None:
    """Add an arm to the study. It has the method of the first arm that searches, and the settings that all arms share."""
    study_text.change(lambda study: replace(study, arms=(*study.arms, _new(study))))


def _new(study: Study) -> Arm:
    searching = next((arm for arm in study.arms if arm.method), None)
    if searching is None:
        last = study.arms[-1] if study.arms else Arm(BLANK)
        return replace(last, name=BLANK, method=FIRST_METHOD, seeds=0,
                       retrain={name: value for name, value in last.retrain.items() if name not in SOURCE_SETTINGS})
    changes: dict[str, Any] = {kind: {name: value for name, value in searching.changes(kind).items()
                                      if name not in own(study, searching, kind) and name not in SOURCE_SETTINGS}
                               for kind in searching.kinds}
    return Arm(BLANK, searching.method, **changes)


def duplicate(index: int) -> None:
    """Add a copy of an arm below it."""
    study_text.change(lambda study: replace(study, arms=(
        *study.arms[:index + 1], replace(study.arms[index], name=BLANK), *study.arms[index + 1:])))


def delete(index: int) -> None:
    """Delete an arm."""
    study_text.change(lambda study: without_arm(study, index))
