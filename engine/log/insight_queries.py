"""Queries for a look at the inside of runs: all recorded alphas of a cell kind, and objectives by epoch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.log.index import Index

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class AlphaHistory(NamedTuple):
    """All alphas that a run recorded of one cell kind, in the order of its steps.

    Attributes:
        primitives: names of the k operations.
        steps: [t] numbers of completed steps.
        epochs: [t] their epochs, from 1; 0 before the first step.
        alpha: [t, edges, k] alphas before the softmax.
        edge_weight: [t, edges] softmax over all edges into the same node; None for a method without edge weights.
    """

    primitives: tuple[str, ...]
    steps: Integers
    epochs: Integers
    alpha: Floats
    edge_weight: Floats | None


class InsightQueries(Index):
    """An index with the queries about the inside of runs. A query about an unknown run returns nothing."""

    def alpha_history(self, run: str, cell: str) -> AlphaHistory | None:
        """Return all alphas that a run recorded of the cell kind `cell`, or None if there are none.

        If the operations of the cell changed during the run, only the records with the latest operations are returned. A million
        alphas take about 50 ms.
        """
        latest = self._rows("select primitives, len(alpha), len(edge_weight) from alpha_raw where number = $n and cell = $cell "
                            "order by seq desc limit 1", run, cell=cell)
        if not latest:
            return None
        primitives, numbers, edge_weights = latest[0]
        with self.cursor() as cursor:  # arrays, because a row per alpha would take ten times as long
            columns = cursor.execute("""
                select step, epoch, alpha, edge_weight from alpha_raw
                where number = (select number from folder where run = $run) and cell = $cell and primitives = $primitives
                      and len(alpha) = $numbers and len(edge_weight) = $edge_weights
                      and seq in (select seq from alpha where number = (select number from folder where run = $run)
                                                              and cell = $cell)
                order by step""", {"run": run, "cell": cell, "primitives": primitives, "numbers": numbers,
                                   "edge_weights": edge_weights}).fetchnumpy()
        steps, k = columns["step"].astype(np.int64), len(primitives)
        stacked = {name: np.concatenate(columns[name]).astype(np.float32, copy=False) for name in ("alpha", "edge_weight")}
        return AlphaHistory(tuple(primitives), steps, columns["epoch"].astype(np.int64),
                            stacked["alpha"].reshape(len(steps), -1, k),
                            stacked["edge_weight"].reshape(len(steps), -1) if edge_weights else None)
