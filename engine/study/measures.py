"""The measures of single networks whose rankings a study compares, such as parameters or the accuracy after a short training.

A measure is known by its name:

* "parameters" and "MACs": size of the network.
* "natural accuracy", "PGD-7" etc.: accuracies from the attack run of the network.
* "NAME: Worst case" etc.: accuracies from the further attack run with the name NAME.
* "short training, natural" and "short training, adversarial": accuracies on the select split, after a random search has trained
  the network briefly.
* "supernet, natural" and "supernet, adversarial": accuracies on the select split, with weights from a supernet.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.config import AttackConfig
from engine.log.runlog import RunLog
from engine.report.robustness import NATURAL_TITLE, WORST_TITLE, Measurement, NetworkRow
from engine.study.declaration import Study
from engine.study.planning import CellState

PARAMETERS, MACS = "parameters", "MACs"
COUNTS = (PARAMETERS, MACS)
CANDIDATE = {"natural": "short training, natural", "adversarial": "short training, adversarial",
             "inherited_natural": "supernet, natural", "inherited_adversarial": "supernet, adversarial"}


def column_title(column: str) -> str:
    """Return the name of a measure for a column of the robustness table, such as "PGD-7" for "pgd-7"."""
    if column == NATURAL:
        return f"{NATURAL_TITLE.lower()} accuracy"
    return WORST_TITLE if column == WORST else ATTACKS[column].title if column in ATTACKS else column


def further_results(study: Study) -> list[str]:
    """Return, for each further attack of a study, the name of the measure that is the worst-case accuracy under it."""
    return [f"{name}: {WORST_TITLE}" for name in study.attacks]


def measure_names(study: Study) -> list[str]:
    """Return the names of all measures that a study can have."""
    names: dict[str, None] = dict.fromkeys(COUNTS)
    for arm in study.arms:
        for step, config in study.configurations(arm).items():
            if isinstance(config, AttackConfig):
                attacks = () if config.worst_case_only else config.attacks
                prefix = "" if step == "attack" else f"{step.removeprefix('attack ')}: "
                names |= dict.fromkeys(f"{prefix}{column_title(one)}" for one in (NATURAL, *attacks, WORST))
            elif hasattr(config, "inherit_from"):
                names |= dict.fromkeys(title for column, title in CANDIDATE.items()
                                       if config.inherit_from or not column.startswith("inherited"))
    return list(names)


def measures_of(log: RunLog, state: CellState, rows: Mapping[str, tuple[str, NetworkRow]]) -> dict[str, float]:
    """Return {name of a measure: value} for the network of a finished cell (one repetition of an arm).

    Args:
        log: the run log.
        state: the cell with its runs.
        rows: {id of an attack run: (hash of its protocol, its row of the robustness table)}, from
            `engine.report.robustness.rows_of`.
    """
    measures: dict[str, float] = {}
    for step in state.steps:
        if step.kind == "search":
            measures |= _of_candidate(log.candidates(step.run))
        if step.name == "attack" and step.run in rows:
            row = rows[step.run][1]
            sizes = {PARAMETERS: row.parameters, MACS: row.macs}
            measures |= {name: float(size) for name, size in sizes.items() if size is not None}
    return measures | {name: one.accuracy for name, one in accuracies_of(state, rows).items()}


def accuracies_of(state: CellState, rows: Mapping[str, tuple[str, NetworkRow]]) -> dict[str, Measurement]:
    """Return {name of a measure: accuracy} for those measures of a finished cell that its attack runs have measured.

    Args:
        state: the cell with its runs.
        rows: {id of an attack run: (hash of its protocol, its row of the robustness table)}.
    """
    accuracies: dict[str, Measurement] = {}
    for step in state.steps:
        if step.kind == "attack" and step.run in rows:
            prefix = "" if step.name == "attack" else f"{step.name.removeprefix('attack ')}: "
            accuracies |= {f"{prefix}{column_title(name)}": one for name, one in rows[step.run][1].results.items()}
    return accuracies


def _of_candidate(candidates: pd.DataFrame) -> dict[str, float]:
    """Return {name of a measure: value} for the candidate that a random search chose; {} for any other search."""
    if candidates.empty:
        return {}
    best = candidates.iloc[0]
    return {title: float(best[column]) for column, title in CANDIDATE.items()
            if column in candidates.columns and not pd.isna(best[column])}


def complete(measured: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, list[float]]:
    """Return {name of a measure: one value per network}. A network that lacks one of these measures is left out.

    Args:
        measured: {name of a measure: value} of each network.
        names: names of the measures.
    """
    whole = [one for one in measured if all(name in one for name in names)]
    return {name: [one[name] for one in whole] for name in names}
