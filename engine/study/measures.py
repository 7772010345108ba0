"""The measures of single networks whose rankings a study compares, such as parameters or the accuracy after a short training.

A measure is known by its name:

* "parameters" and "MACs": size of the network.
* "natural accuracy", "PGD-7" etc.: columns of the first attack run.
* "NAME: Worst case" etc.: columns of the further attack run with this name.
* "short training, natural" and "short training, adversarial": accuracies of the candidate in a random search, after the
  short training of that search, on the select split.
* "supernet, natural" and "supernet, adversarial": accuracies of the candidate with the weights of a supernet, on the select
  split.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.log.runlog import RunLog
from engine.report.robustness import NATURAL_TITLE, WORST_TITLE, NetworkRow
from engine.study.planning import CellState

PARAMETERS, MACS = "parameters", "MACs"
COUNTS = (PARAMETERS, MACS)
CANDIDATE = {"natural": "short training, natural", "adversarial": "short training, adversarial",
             "inherited_natural": "supernet, natural", "inherited_adversarial": "supernet, adversarial"}


def column_title(column: str) -> str:
    """Return the name of the measure that a column of the robustness table gives."""
    if column == NATURAL:
        return f"{NATURAL_TITLE.lower()} accuracy"
    return WORST_TITLE if column == WORST else ATTACKS[column].title if column in ATTACKS else column


def measures_of(log: RunLog, state: CellState, rows: Mapping[str, tuple[str, NetworkRow]]) -> dict[str, float]:
    """Return {name: value} for all measures of a finished cell's network.

    Args:
        log: the run log.
        state: the cell with its runs.
        rows: rows of the attack runs, by run id (`engine.report.robustness.rows_of`).
    """
    measures: dict[str, float] = {}
    for step in state.steps:
        if step.kind == "search":
            measures |= _of_candidate(log.candidates(step.run))
        if step.kind == "attack" and step.run in rows:
            row = rows[step.run][1]
            prefix = "" if step.name == "attack" else f"{step.name.removeprefix('attack ')}: "
            measures |= {f"{prefix}{column_title(name)}": result.accuracy for name, result in row.results.items()}
            if step.name == "attack":
                sizes = {PARAMETERS: row.parameters, MACS: row.macs}
                measures |= {name: float(size) for name, size in sizes.items() if size is not None}
    return measures


def _of_candidate(candidates: pd.DataFrame) -> dict[str, float]:
    """Return the measures of the candidate that a random search chose; {} for another search."""
    if candidates.empty:
        return {}
    best = candidates.iloc[0]
    return {title: float(best[column]) for column, title in CANDIDATE.items()
            if column in candidates.columns and not pd.isna(best[column])}


def complete(measured: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, list[float]]:
    """Return {name: one value per network} for the networks that have all of the named measures."""
    whole = [one for one in measured if all(name in one for name in names)]
    return {name: [one[name] for one in whole] for name in names}
