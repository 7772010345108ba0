"""How an attacked network came about: the settings of its search and its retraining, from the run.json of these runs."""

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
    """A run that contributed to a network.

    Attributes:
        kind: "search" or "retrain".
        method: search method; None for a retraining without a search.
        preset: preset of the run.
        settings: value of each setting.
    """

    kind: str
    method: str | None
    preset: str
    settings: Mapping[str, Any]


def steps_of(row: NetworkRow) -> list[Step]:
    """Return the retraining of a network and the search before it, as far as their run.json can be read."""
    return _steps(str(session.runs_root()), row.parent)


def recipe(row: NetworkRow) -> str:
    """Return in a few words how a network was trained, for example "PGD-7 training, 14 epochs, quick"; "" if unknown."""
    step = next((one for one in steps_of(row) if one.kind == "retrain"), None)
    if step is None:
        return ""
    training = TRAININGS.get(str(step.settings.get("training")), "").format(step.settings.get("attack_steps"))
    epochs = step.settings.get("epochs")
    return ", ".join(filter(None, (training, plural(int(epochs), "epoch") if epochs else "", step.preset)))


def different_settings(first: NetworkRow, second: NetworkRow) -> list[tuple[str, str, object, object]]:
    """Return (kind of run, setting, value of the first network, value of the second) for every setting that differs.

    A setting that one of the networks lacks, because it has no search for example, has the value None there.
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
