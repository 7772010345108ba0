"""The origin of an attacked network: the settings of its search and its retraining, read from the run.json of these runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import session, theme
from app.formats import plural
from engine.errors import RampartError
from engine.report.robustness import NetworkRow
from engine.run.folder import RunFolder

# Name of the training loss in a recipe, by the value of the setting `training`; {} is the number of attack steps.
TRAININGS = {"pgd_at": "PGD-{} training", "natural": "natural training", "trades": "TRADES, PGD-{}", "fast_at": "Fast-AT"}


@dataclass(frozen=True)
class Step:
    """A run that produced an attacked network: its retraining, or the search before the retraining.

    Attributes:
        kind: "search" or "retrain".
        method: search method; None for a retraining without a search.
        preset: preset of the run.
        settings: {name of the setting: value}.
    """

    kind: str
    method: str | None
    preset: str
    settings: Mapping[str, Any]


def steps_of(row: NetworkRow) -> list[Step]:
    """Return the retraining of a network, followed by the search before it if there is one.

    A run whose run.json cannot be read is left out, and so is the search of such a retraining.
    """
    return _steps(str(session.runs_root()), row.parent)


def recipe(row: NetworkRow) -> str:
    """Return a short description of a network's training, such as "PGD-7 training, 14 epochs, quick", or "" if unknown."""
    step = next((one for one in steps_of(row) if one.kind == "retrain"), None)
    if step is None:
        return ""
    training = TRAININGS.get(str(step.settings.get("training")), "").format(step.settings.get("attack_steps"))
    epochs = step.settings.get("epochs")
    return ", ".join(filter(None, (training, plural(int(epochs), "epoch") if epochs else "", step.preset)))


def different_settings(first: NetworkRow, second: NetworkRow) -> list[tuple[str, str, object, object]]:
    """Return the settings in which the runs of two networks differ, including the method and the preset.

    Each setting is a tuple (kind of run, name of the setting, value for the first network, value for the second network). If a
    network lacks a setting, for example because it has no search, its value is None.
    """
    rows: list[tuple[str, str, object, object]] = []
    one, other = ({step.kind: step for step in steps_of(row)} for row in (first, second))
    for kind in theme.KIND_TITLES:
        ours, theirs = ({"method": step.method, "preset": step.preset, **step.settings} if (step := steps.get(kind)) else {}
                        for steps in (one, other))
        rows += [(kind, name, ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])
                 if ours.get(name) != theirs.get(name)]
    return rows


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
