"""The collapse of a differentiable search: operations without parameters take over the cells.

There are two signs of a collapse. Reduction cells are ignored, because even in good published networks they consist of pooling
and skip connections (DARTS_V2: 8 of 8 edges).

1. The derived cell has at least `MOST_SKIPS` skip connections. DARTS+ then ends a search (Liang et al. 2019, arXiv 1909.06035,
   criterion 1). Half of the published genotypes in the catalogue show this sign, including ARNAS, so its level is only "info".
2. At least the fraction `MOST_PARAMETER_FREE` of the cell's edges has no parameters. We chose this threshold. Nine published
   genotypes reach it, all of them from E2RNAS and LRNAS. The level of this sign is "warning".

Differs: a cell shows no sign while its weights are almost even, because the cell derived from them is then arbitrary. For
example, 8 edges with random operations (7 to choose from) have at least two skip connections with a probability of 32 %.

The setting `stop_parameter_free` also counts the edges without parameters, but with a threshold that the user sets.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pandas as pd

from engine.architecture.genotype import PARAMETER_FREE, Cell
from engine.insight.alphas import River, river_of
from engine.insight.genotype import Moment, moments
from engine.log import RunLog

SKIP, REDUCTION = "skip_connect", "reduce"
MOST_SKIPS = 2
MOST_PARAMETER_FREE = 0.75
# The weights of a cell are almost even if their entropy, averaged over the edges, exceeds this share of its largest value.
ALMOST_EVEN = 0.98

RADAR = {"epoch": "int64", "step": "int64", "cell": "str", "edges": "int64", "skips": "int64", "parameter_free": "int64",
         "parameter_free_share": "float64", "parameter_free_mass": "float64", "dominant": "str", "dominant_share": "float64",
         "relative_entropy": "float64", "level": "str", "alarm": "bool"}
Level = Literal["", "info", "warning"]
EVERY = 10**9  # more than any search has epochs


def radar(log: RunLog, run: str) -> pd.DataFrame:
    """Return the signs of a collapse, in one row per epoch and cell kind. A run without genotypes has no rows.

    Columns:
        epoch: the epoch; 0 for the state before the first step.
        step: number of completed steps at the end of the epoch.
        cell: the cell kind.
        edges: number of edges of the derived cell.
        skips: number of these edges that are skip connections.
        parameter_free: number of these edges whose operation has no parameters.
        parameter_free_share: parameter_free / edges, in 0..1.
        parameter_free_mass: softmax weight of the operations without parameters, averaged over all edges of the supernet's cell,
            in 0..1; NaN without alphas.
        dominant: the most frequent operation of the derived cell.
        dominant_share: fraction of the edges that have the operation `dominant`.
        relative_entropy: entropy of the operation weights, averaged over the edges, as a fraction (0..1) of the largest entropy;
            NaN without alphas.
        level: "warning" or "info" for the worst sign of a collapse; "" if the cell shows none.
        alarm: True if `level` is not "".
    """
    return log.kept(("radar", run), ("folder", "alpha", "genotype", "resumed"), run, lambda: _radar(log, run))


def _radar(log: RunLog, run: str) -> pd.DataFrame:
    histories = {cell: log.alpha_history(run, cell, by_epoch=True) for cell in log.alpha_cells(run)}
    return radar_of(moments(log, run), {cell: river_of(history, cell, most=EVERY) for cell, history in histories.items()
                                        if history is not None})


def radar_of(found: list[Moment], courses: dict[str, River]) -> pd.DataFrame:
    """Return the table of `radar`.

    Args:
        found: the genotypes by epoch.
        courses: {cell kind: architecture weights of this kind by epoch}.
    """
    at = {cell: {int(epoch): position for position, epoch in enumerate(course.epochs)} for cell, course in courses.items()}
    rows = []
    for moment in found:
        for kind, cell in moment.genotype.cells:
            position = at.get(kind, {}).get(moment.epoch)
            entropy, mass = (np.nan, np.nan) if position is None else _spread(courses[kind], position)
            level = level_of(kind, cell, entropy)
            rows.append((moment.epoch, moment.step, kind, *_counts(cell), entropy, mass, level, bool(level)))
    columns = ["epoch", "step", "cell", "edges", "skips", "parameter_free", "parameter_free_share", "dominant", "dominant_share",
               "relative_entropy", "parameter_free_mass", "level", "alarm"]
    return pd.DataFrame(rows, columns=columns)[list(RADAR)].astype(RADAR)


def level_of(kind: str, cell: Cell, relative_entropy: float) -> Level:
    """Return the level of the worst sign of a collapse in a cell: "warning", "info", or "" for no sign.

    Args:
        kind: the cell kind, such as "normal".
        cell: the derived cell.
        relative_entropy: entropy of the operation weights, averaged over the edges, as a fraction (0..1) of the largest entropy;
            NaN if unknown.
    """
    if kind == REDUCTION or relative_entropy > ALMOST_EVEN:
        return ""
    if cell.parameter_free >= MOST_PARAMETER_FREE * len(cell.edges):
        return "warning"
    return "info" if sum(operation == SKIP for operation, _ in cell.edges) >= MOST_SKIPS else ""


def last_healthy_epoch(table: pd.DataFrame, cell: str | None = None) -> int | None:
    """Return the last epoch without an alarm, if the latest epoch has an alarm; otherwise None.

    Args:
        table: table of `radar`.
        cell: the cell kind whose alarms count; None for all cell kinds.

    Returns:
        The epoch, where 0 is the state before the first step; -1 if every recorded epoch had an alarm. None if the latest epoch
            has no alarm.
    """
    alarm = (table if cell is None else table[table["cell"] == cell]).groupby("epoch")["alarm"].any()
    if alarm.empty or not alarm.iloc[-1]:
        return None
    healthy = alarm.index[~alarm]
    return int(healthy[-1]) if len(healthy) else -1


def _counts(cell: Cell) -> tuple[int, int, int, float, str, float]:
    counts = Counter(operation for operation, _ in cell.edges)
    (dominant, most), edges, free = counts.most_common(1)[0], len(cell.edges), cell.parameter_free
    return edges, counts[SKIP], free, free / edges, dominant, most / edges


def _spread(course: River, position: int) -> tuple[float, float]:
    """Return (relative entropy, total weight of the operations without parameters), both averaged over the edges of a cell.

    `course` holds the cell's weights over the run, and `position` is the index of a moment in it.
    """
    free = [name in PARAMETER_FREE for name in course.primitives]
    return (float(course.relative_entropy[position].mean()), float(course.weights[position][:, free].sum(axis=1).mean()))
