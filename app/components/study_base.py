"""The base of a user's own study: dataset, preset, search method, and the settings that all arms share.

The base can be taken from a run, with the settings of the runs before it in its chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from app import session
from app.components import study_text
from app.components.method_choice import in_order
from app.components.study_changes import Part, change_list, picker
from app.components.study_draft import SOURCE_SETTINGS, fields_of, shared
from app.components.study_outlook import dataset_titles
from app.formats import markdown
from engine.config import PRESETS
from engine.config.run import KINDS
from engine.configuring import recorded
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, RampartError
from engine.run.folder import RunFolder
from engine.search.methods.registry import METHODS
from engine.study.declaration import Arm, Study

TAKEN = "studies.form.taken"  # in the session: why a run could not become the base
# Settings of a recorded run that do not become settings of arms, because the study sets them or they belong to one network.
NOT_TAKEN = frozenset({"dataset", "seed", "match", "match_to", "threads", "against", *SOURCE_SETTINGS})


def base_controls(study: Study) -> None:
    """Show the controls of the base: dataset, preset, search method, and the settings that all arms share."""
    left, right = st.columns(2)
    titles = dataset_titles()
    left.selectbox("Dataset", list(titles), format_func=titles.__getitem__, key=study_text.put(study.dataset, "dataset"),
                   on_change=set_entry, args=("dataset", study_text.key("dataset")))
    presets = [name for name in PRESETS if name != "smoke" or study.preset == "smoke"]  # `smoke` is for the project's own tests
    right.segmented_control("Preset", presets, key=study_text.put(study.preset, "preset"), required=True, on_change=set_entry,
                            args=("preset", study_text.key("preset")),
                            help="\n\n".join(f"`{name}`: {PRESETS[name]}" for name in presets))
    left, right = st.columns(2)
    _method(study, left)
    with right:
        _run()
    if sentence := st.session_state.pop(TAKEN, ""):
        st.markdown(f":red[:material/error: {markdown(sentence)}]")
    if len(study.arms) > 1:
        part, values = Part("all", tuple(range(len(study.arms))), KINDS[:2]), {kind: shared(study, kind) for kind in KINDS[:2]}
        change_list(study, part, values, {})
        picker(study, part, values, "Change a setting of all arms", least=2)


def _method(study: Study, where: Any) -> None:
    now = base_method(study)
    where.selectbox("Search method", in_order(), index=None if now is None else 0, format_func=lambda name: METHODS[name].title,
                    key=study_text.put(now, "method"), placeholder="No arm searches", disabled=now is None,
                    on_change=set_method, args=(study_text.key("method"),),
                    help="Every arm that searches with this method changes with it. An arm can have another method.")


def _run() -> None:
    runs = session.hub().studies.runs()
    rows = runs[runs["status"] == "finished"] if len(runs) else runs
    titles = dict(zip(rows["id"], rows["title"], strict=True)) if len(rows) else {}
    key = study_text.key("run")
    st.selectbox("Settings of a run", list(titles), index=None, key=key, disabled=not titles, on_change=take_run, args=(key,),
                 format_func=lambda run: f"{titles.get(run, '')} · {run}",
                 placeholder="Take over" if titles else "No run has finished yet",
                 help="All arms take over dataset, preset, method and changed settings of this run and of the runs before it in "
                      "its chain. Changes of single arms stay. A genotype or network is not taken over: name it in an arm.")


def set_entry(name: str, key: str) -> None:
    """Set an entry of the study, for example its dataset, to the value of a widget."""
    values: dict[str, Any] = {name: st.session_state.get(key)}
    study_text.change(lambda study: replace(study, **values))


def base_method(study: Study) -> str | None:
    """Return the search method of the first arm that searches; None if none does."""
    return next((arm.method for arm in study.arms if arm.method), None)


def set_method(key: str) -> None:
    """Replace the base method by the method that the user has chosen, in all arms that search with the base method."""
    method = st.session_state.get(key)
    if method:
        study_text.change(lambda study: with_base_method(study, str(method)))


def with_base_method(study: Study, method: str) -> Study:
    """Return the study with `method` as the search method of all arms that use the base method."""
    old = base_method(study)
    return replace(study, arms=tuple(replace(arm, method=method) if old and arm.method == old else arm for arm in study.arms))


def take_run(key: str) -> None:
    """Base the study on the run that the user has chosen. If that is not possible, store the reason in the session."""
    run = st.session_state.get(key)
    if not run:
        return
    try:
        runs = session.runs_root()
        study_text.change(lambda study: with_run(study, runs, str(run)))
    except RampartError as refusal:
        st.session_state[TAKEN] = f"The settings of {run} cannot be taken over. {refusal}"


def with_run(study: Study, runs: Path, run_id: str) -> Study:
    """Return the study based on a chain of runs.

    The chain determines the dataset, the preset, the search method if it has a search, and the settings that all arms share.
    Settings of single arms stay.

    Args:
        study: the study.
        runs: folder of all runs.
        run_id: id of the last run of the chain.

    Raises:
        RampartError: a run cannot be read, or this version does not know its preset or one of its settings.
    """
    chain = _chain(runs, run_id)
    last = chain[-1]
    if last.get("preset") not in PRESETS or last["config"].get("dataset") not in DATASETS:
        raise ConfigError("This version does not know its preset or dataset; choose a run that was launched here.")
    study = replace(study, dataset=last["config"]["dataset"], preset=last["preset"])
    method = next((str(run["method"]) for run in chain if run["kind"] == "search"), None)
    changes = chain_changes(study, method, chain)
    before = {kind: shared(study, kind) for kind in changes}
    study = with_base_method(study, method) if method else study
    return replace(study, arms=tuple(_based(arm, changes, before) for arm in study.arms))


def _chain(runs: Path, run_id: str) -> list[Mapping[str, Any]]:
    """Return run.json of a run and of the runs before it in its chain, earliest first."""
    chain: list[Mapping[str, Any]] = []
    following: str | None = run_id
    while following and len(chain) < len(KINDS):
        chain.insert(0, RunFolder(runs, following).read_run())
        following = chain[0].get("parent")
    return [run for run in chain if run["kind"] in KINDS]


def chain_changes(study: Study, method: str | None, chain: list[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings that an arm of the study must change to have the settings of a chain of runs.

    Returns:
        {kind of run: {name of a setting: value in the chain}}.

    Raises:
        ConfigError: a recorded setting is unknown.
    """
    found: dict[str, dict[str, Any]] = {}
    for run in chain:
        kind, values = run["kind"], recorded(run).model_dump()
        network = {name: values[name] for name in ("network", "genotype") if values.get(name)} if kind == "retrain" else {}
        arm = Arm("", method, found.get("search", {}), {**network, **found.get("retrain", {})})
        usual = study.configurations(arm)[kind].model_dump()
        found[kind] = {name: value for name, value in values.items() if name not in NOT_TAKEN and value != usual[name]}
    return found


def _based(arm: Arm, changes: Mapping[str, Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]) -> Arm:
    """Return an arm in which the settings that all arms shared are replaced by others. The arm's own settings stay.

    Args:
        arm: the arm.
        changes: {kind of run: {name of the setting: value}} of the new settings.
        before: {kind of run: {name of the setting: value}} of the settings that all arms have shared so far.
    """
    values: dict[str, Any] = {}
    for kind in changes:
        mine = {name: value for name, value in arm.changes(kind).items() if name not in before[kind]}
        base = {name: value for name, value in changes[kind].items() if name in fields_of(arm, kind)}
        values[kind] = {**base, **mine} if kind in arm.kinds else dict(arm.changes(kind))
    return replace(arm, **values)
