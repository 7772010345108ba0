"""The settings of the search and the retraining that produced an attacked network, read from the run.json of these runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import session
from app.formats import plural
from engine.errors import RampartError
from engine.report.robustness import NetworkRow
from engine.run.folder import RunFolder

# Name of the training loss in a recipe, by the value of the setting `training`; {} is the number of attack steps.
TRAININGS = {"pgd_at": "PGD-{} training", "natural": "natural training", "trades": "TRADES, PGD-{}", "fast_at": "Fast-AT"}


@dataclass(frozen=True)
class Step:
    """A search or retraining that led to an attacked network.

    Attributes:
        kind: "search" or "retrain".
        method: search method, or None for a retraining that does not follow a search.
        preset: preset of the run.
        settings: {name of a setting: value}.
    """

    kind: str
    method: str | None
    preset: str
    settings: Mapping[str, Any]


def steps_of(row: NetworkRow) -> list[Step]:
    """Return the steps that produced a network: its retraining, then the search before the retraining.

    If the run.json of a step cannot be read, the list ends before this step.
    """
    return _steps(str(session.runs_root()), row.parent)


def recipe(row: NetworkRow) -> str:
    """Return a short description of a network's training, or "" if it is unknown.

    An example is "PGD-7 training, 14 epochs, quick", where "quick" is the name of the preset.
    """
    step = next((one for one in steps_of(row) if one.kind == "retrain"), None)
    if step is None:
        return ""
    training = TRAININGS.get(str(step.settings.get("training")), "").format(step.settings.get("attack_steps"))
    epochs = step.settings.get("epochs")
    return ", ".join(filter(None, (training, plural(int(epochs), "epoch") if epochs else "", step.preset)))


@dataclass(frozen=True)
class Difference:
    """A setting in which networks differ.

    Attributes:
        kind: kind of the run that has the setting: "search" or "retrain".
        name: name of the setting.
        values: value of the setting for each network, or None if the network has no such run or the run has no such setting.
        methods: search method of each network's run of this kind, or None.
    """

    kind: str
    name: str
    values: tuple[Any, ...]
    methods: tuple[str | None, ...]


def different_settings(rows: Sequence[NetworkRow]) -> list[Difference]:
    """Return the settings of searches and retrainings in which the networks differ.

    Networks without a search are ignored when search settings are compared, and networks without a retraining are ignored when
    retraining settings are compared.
    """
    steps = [{step.kind: step for step in steps_of(row)} for row in rows]
    differences = []
    for kind in ("search", "retrain"):
        runs = [each.get(kind) for each in steps]
        settings = [{"method": run.method, "preset": run.preset, **run.settings} if run else {} for run in runs]
        for name in dict.fromkeys(name for each in settings for name in each):
            values = tuple(each.get(name) for each in settings)
            known = [value for run, value in zip(runs, values, strict=True) if run]
            if any(value != known[0] for value in known):
                differences.append(Difference(kind, name, values, tuple(run.method if run else None for run in runs)))
    return differences


def without(rows: Sequence[NetworkRow], kind: str) -> list[str]:
    """Return the labels of the networks without a known run of this kind ("search" or "retrain")."""
    return [row.label for row in rows if kind not in {step.kind for step in steps_of(row)}]


@st.cache_resource(show_spinner=False, max_entries=500)
def _steps(root: str, retraining: str) -> list[Step]:
    steps: list[Step] = []
    run: str | None = retraining
    while run and len(steps) < 2:
        try:
            record = RunFolder(root, run).read_run()
        except RampartError:  # deleted or moved away
            break
        steps.append(Step(record["kind"], record.get("method"), record.get("preset") or "", record.get("config") or {}))
        run = record.get("parent")
    return steps
