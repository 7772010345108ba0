"""Queries about the architecture weights (alphas) of one search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.log.index import INT, NUMBER, TEXT, Index
from engine.log.thinning import BUCKET, Integers, extremes, kept

Floats = npt.NDArray[np.float32]
ALPHA_BUCKETS = 64
ALPHAS = ("folder", "alpha", "resumed")  # tables that decide which alphas count
MATRIX = {"edge": INT, "operation": TEXT, "alpha": NUMBER, "weight": NUMBER, "edge_weight": NUMBER}
LINES = {"edge": INT, "operation": TEXT, "step": INT, "epoch": INT, "weight": NUMBER}
EDGE_LINES = {"edge": INT, "step": INT, "epoch": INT, "edge_weight": NUMBER}


class Course(NamedTuple):
    """The values of one weight over the steps of a search, reduced to a few hundred points.

    Attributes:
        edge: edge of the cell, 0..13.
        operation: operation to which the weight belongs; "" for the weight of the edge itself.
        steps: steps in increasing order.
        weights: weight at each of the steps, in 0..1, rounded to four decimals.
    """

    edge: int
    operation: str
    steps: list[int]
    weights: list[float]


class AlphaHistory(NamedTuple):
    """All alphas that a run recorded for one cell kind, in the order of the steps.

    Attributes:
        primitives: names of the k operations.
        steps: [t] numbers of completed steps.
        epochs: [t] epoch of each of these steps, from 1; 0 before the first step.
        alpha: [t, edges, k] alphas before the softmax.
        edge_weight: [t, edges] softmax over all edges into the same node; None for a method without edge weights.
    """

    primitives: tuple[str, ...]
    steps: Integers
    epochs: Integers
    alpha: Floats
    edge_weight: Floats | None


class AlphaQueries(Index):
    """The index's queries about the alphas of one search.

    The argument `run` of a query is the run's id. A query about an unknown run returns no rows, or None.
    """

    def alpha_cells(self, run: str) -> list[str]:
        """Return the cell kinds (such as "normal") for which a run recorded alphas, in the order of their first record."""
        return [cell for cell, in self._rows(
            "select cell from alpha_raw where number = $n group by cell order by min(seq)", run)]

    def alpha_epochs(self, run: str, cell: str) -> list[int]:
        """Return the epochs in which a run recorded alphas of the cell kind `cell`, in increasing order."""
        return [epoch for epoch, in self._rows(
            "select distinct epoch from alpha where number = $n and cell = $cell order by epoch", run, cell=cell)]

    def alpha_epoch(self, run: str) -> int | None:
        """Return the latest epoch in which any attempt of a run recorded alphas, or None if there is none.

        This is much cheaper than `alpha_epochs`.
        """
        return self.shared(("alpha_epoch", run), ("folder", "alpha"), run, lambda: next(
            (epoch for epoch, in self._rows("select max(epoch) from alpha_raw where number = $n", run)), None))

    def alpha_matrix(self, run: str, cell: str, epoch: int | None = None) -> pd.DataFrame:
        """Return the alphas of a cell kind that were recorded last in an epoch.

        The columns are:

        * edge (0..13), operation, alpha.
        * edge_weight: softmax over all edges into the same node, for a method with edge weights such as PC-DARTS. NaN for other
          methods.
        * weight: softmax of the alphas over the operations of the edge, multiplied by `edge_weight` if the method has edge
          weights. The genotype is derived from these weights.

        Args:
            run: run id.
            cell: the cell kind, such as "normal".
            epoch: the epoch; None for the last recorded epoch.
        """
        return self.kept(("alpha_matrix", run, cell, epoch), ALPHAS, run, lambda: self._matrix(run, cell, epoch))

    def _matrix(self, run: str, cell: str, epoch: int | None) -> pd.DataFrame:
        seqs = [seq for seq, at in zip(*self._current(run, cell)[1:], strict=True) if epoch in (None, at)]
        rows = self._rows("select primitives, alpha, weight, edge_weight from alpha_raw where number = $n and seq = $seq", run,
                          seq=int(seqs[-1])) if seqs else []
        names, alphas, weights, edge_weights = rows[0] if rows else ([], [], [], [])
        edges = [place // len(names) for place in range(len(alphas))]
        columns = {"edge": edges, "operation": [names[place % len(names)] for place in range(len(alphas))], "alpha": alphas,
                   "weight": weights, "edge_weight": [edge_weights[edge] if edge_weights else None for edge in edges]}
        return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in MATRIX.items()})

    def _current(self, run: str, cell: str) -> tuple[Integers, Integers, Integers]:
        """Return the steps, the rows (their `seq`) and the epochs of a cell kind's alphas that count, in the order of the steps.

        These are the rows of the view `alpha` (`engine.log.schema`). NumPy finds them in a third of the time.
        """
        return self.shared(("current alphas", run, cell), ALPHAS, run, lambda: self._compute_current(run, cell))

    def _compute_current(self, run: str, cell: str) -> tuple[Integers, Integers, Integers]:
        resumes = self._rows("select attempt, from_step from resumed_raw where number = $n", run)
        found = self._arrays("select step, seq, epoch, attempt from alpha_raw where number = $n and cell = $cell", run, cell=cell)
        counts = np.ones(len(found["step"]), dtype=bool)
        for attempt, step in resumes:
            counts &= (found["attempt"] >= attempt) | (found["step"] <= step)
        steps, seqs, epochs = (found[name][counts].astype(np.int64) for name in ("step", "seq", "epoch"))
        order = np.lexsort((seqs, steps))
        last = order[np.append(np.diff(steps[order]) > 0, True)[:len(order)]]
        return steps[last], seqs[last], epochs[last]

    def alpha_lines(self, run: str, cell: str) -> pd.DataFrame:
        """Return the weights of all operations of the cell kind `cell` at every recorded step of a run.

        The columns are edge, operation, step, epoch and weight. A weight is the softmax of the alphas over the operations of the
        edge, multiplied by the edge weight if the method has edge weights.
        """
        return self._frame("""
            with entry as (select step, epoch, primitives, len(primitives) as k, unnest(weight) as weight,
                                  generate_subscripts(weight, 1) - 1 as i from alpha where number = $n and cell = $cell)
            select i // k as edge, primitives[i % k + 1] as operation, step, epoch, weight from entry order by i, step""",
                           LINES, run, cell=cell)

    def alpha_courses(self, run: str, cell: str, buckets: int = ALPHA_BUCKETS) -> list[Course]:
        """Return the weights of `alpha_lines` for each edge and operation, reduced to a few hundred points.

        A course has at most `buckets` buckets with up to three points each. Steps at which the cell had other operations than at
        the last step are left out. NumPy chooses the points in a tenth of the time that SQL needs, because SQL makes one row for
        each weight.
        """
        steps, seqs, _ = self._current(run, cell)
        if not len(steps):
            return []
        names, chosen, (weights,) = self._stacked(run, cell, seqs, ["weight"])
        if not len(chosen):
            return []
        rounded, steps = weights.astype(np.float64).round(4), steps[chosen]
        return [Course(column // len(names), names[column % len(names)], steps[rows].tolist(), rounded[rows, column].tolist())
                for column, rows in enumerate(extremes(steps, weights, buckets))]

    def _stacked(self, run: str, cell: str, seqs: Integers, columns: Sequence[str]) -> tuple[list[str], Integers, list[Floats]]:
        """Return the operations of the last of some rows of `alpha_raw`, and values of all rows that have the same operations.

        Args:
            run: run id.
            cell: the cell kind.
            seqs: `seq` of the rows.
            columns: columns that hold a list of numbers. Rows with lists of another length than in the last row are left out.

        Returns:
            The operations.
            The indices in `seqs` of the rows that are not left out.
            An array [rows, numbers] for each column.
        """
        same = " and ".join(["a.primitives = b.primitives", *(f"len(a.{name}) = len(b.{name})" for name in columns)])
        found = self._arrays(f"""
            select a.seq, a.primitives, {', '.join(f'a.{name}' for name in columns)} from alpha_raw a, alpha_raw b
            where a.number = $n and a.cell = $cell and b.number = $n and b.seq = $last and {same}""", run, cell=cell,
                             last=int(seqs[-1]))
        there, order = np.unique(found["seq"], return_index=True)
        chosen = np.flatnonzero(np.isin(seqs, there))
        if not len(chosen):  # the run has just been removed
            return [], chosen, [np.zeros((0, 0), np.float32) for _ in columns]
        rows = order[np.searchsorted(there, seqs[chosen])]
        return list(found["primitives"][rows[-1]]), chosen, [np.stack(list(found[name][rows])) for name in columns]

    def edge_lines(self, run: str, cell: str) -> pd.DataFrame:
        """Return the edge weights of the cell kind `cell` at every recorded step of a run.

        The columns are edge, step, epoch and edge_weight. For a method without edge weights, there are no rows.
        """
        return self._frame("""
            select unnest(edge_weight) as edge_weight, generate_subscripts(edge_weight, 1) - 1 as edge, step, epoch
            from alpha where number = $n and cell = $cell order by edge, step""", EDGE_LINES, run, cell=cell)

    def edge_courses(self, run: str, cell: str, buckets: int = ALPHA_BUCKETS) -> list[Course]:
        """Return the edge weights of `edge_lines` for each edge, reduced to a few hundred points.

        The same steps are kept for all edges, so that a chart can stack the weights. A step is kept if any edge has its smallest
        or largest weight of the bucket at this step, or if the step is the last of its bucket.
        """
        rows = self._rows(f"""
            with line as (select step, edge_weight, min(step) over () as first, max(step) over () as last
                          from alpha where number = $n and cell = $cell and len(edge_weight) > 0),
            entry as (select step, {BUCKET} as bucket, round(unnest(edge_weight)::double, 4) as weight,
                             generate_subscripts(edge_weight, 1) - 1 as edge from line),
            kept as (select unnest({kept("step", "weight")}) as step from entry group by edge, bucket)
            select edge, '', list(step order by step), list(weight order by step)
            from entry where step in (select step from kept) group by edge order by edge""", run, cell=cell, buckets=buckets)
        return [Course(*row) for row in rows]

    def alpha_history(self, run: str, cell: str, *, by_epoch: bool = False) -> AlphaHistory | None:
        """Return the alphas that a run recorded for the cell kind `cell`, or None if there are none.

        If the operations of the cell changed during the run, only the records with the latest operations are returned. The query
        takes about 50 ms for a million alphas. The result is cached until the run records further alphas, so the caller must not
        change it.

        Args:
            run: run id.
            cell: the cell kind.
            by_epoch: True to return only the alphas of the last recorded step of each epoch.
        """
        return self.shared(("alpha_history", run, cell, by_epoch), ALPHAS, run,
                            lambda: self._alpha_history(run, cell, by_epoch))

    def _alpha_history(self, run: str, cell: str, by_epoch: bool) -> AlphaHistory | None:
        steps, seqs, epochs = self._current(run, cell)
        if not len(steps):
            return None
        if by_epoch:
            _, from_the_end = np.unique(epochs[::-1], return_index=True)
            ends = np.sort(len(epochs) - 1 - from_the_end)
            steps, seqs, epochs = steps[ends], seqs[ends], epochs[ends]
        primitives, chosen, (alpha, edge_weight) = self._stacked(run, cell, seqs, ["alpha", "edge_weight"])
        if not len(chosen):
            return None
        return AlphaHistory(tuple(primitives), steps[chosen], epochs[chosen], alpha.reshape(len(chosen), -1, len(primitives)),
                            edge_weight if edge_weight.shape[1] else None)
