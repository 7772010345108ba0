"""The architecture weights of one cell kind over a run: softmax, entropy, margins, and changes of the strongest operation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.architecture.genotype import NONE
from engine.log import RunLog
from engine.log.alpha_queries import AlphaHistory

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
MOST_MOMENTS = 200
LARGEST_ALPHA = 1e9  # the run log keeps alphas in 32 bits, in which larger ones of a damaged file are infinite
FLIPS = {"step": "int64", "epoch": "int64", "edge": "int64", "before": "str", "after": "str"}


@dataclass(frozen=True)
class River:
    """The architecture weights of one cell kind at t moments of a run.

    Attributes:
        cell: the cell kind, such as "robust".
        primitives: names of the k operations.
        steps: [t] numbers of completed steps, increasing.
        epochs: [t] epoch of each of these steps, from 1; 0 before the first step.
        weights: [t, edges, k] softmax of the alphas over the operations of an edge, in 0..1, not multiplied by edge weights.
        strongest: [t, edges] index, in `primitives`, of the strongest operation of the edge. "none" is never chosen.
        edge_weights: [t, edges] softmax over the edges into a node, in 0..1; None for a method without edge weights.
        flips: table with one row for each change of an edge's strongest operation, at any recorded step. The columns are step,
            epoch, edge, before and after (names of the old and the new operation).
    """

    cell: str
    primitives: tuple[str, ...]
    steps: Integers
    epochs: Integers
    weights: Numbers
    strongest: Integers
    edge_weights: Numbers | None
    flips: pd.DataFrame

    @cached_property
    def entropy(self) -> Numbers:
        """Entropy of the operation weights of each edge, [t, edges], in nats (0..log k)."""
        return entropy_of(self.weights)

    @cached_property
    def relative_entropy(self) -> Numbers:
        """Entropy divided by log k, its largest value, [t, edges], in 0..1. With a single operation (k = 1) it is 0."""
        return np.asarray(self.entropy / np.log(max(len(self.primitives), 2)))

    @cached_property
    def margin(self) -> Numbers:
        """Difference between the weights of the strongest and the second strongest operation of each edge, [t, edges], in 0..1.

        "none" is left out.
        """
        largest = np.sort(self.weights[..., _derivable(self.primitives)], axis=2)
        return np.asarray(largest[..., -1] - (largest[..., -2] if largest.shape[2] > 1 else 0.0))

    def operations(self, moment: int = -1) -> list[str]:
        """Return the strongest operation of every edge at one of the t moments, by default the last one."""
        return [self.primitives[column] for column in self.strongest[moment]]


def river(log: RunLog, run: str, cell: str, *, by_epoch: bool = True, most: int = MOST_MOMENTS) -> River | None:
    """Return the architecture weights of a cell kind over the run, or None if the run recorded none.

    Args:
        log: the run log.
        run: run id.
        cell: the cell kind, one of `log.alpha_cells(run)`.
        by_epoch: True to keep only the last recorded step of each epoch; False to keep all recorded steps. Epoch 0 is the state
            before the first step.
        most: largest number of moments to return. If there are more, only every n-th is kept, counted back from the last.
    """
    question = "river", run, cell, by_epoch, most
    return log.shared(question, ("folder", "alpha", "resumed"), run, lambda: _river(log, run, cell, by_epoch, most))


def _river(log: RunLog, run: str, cell: str, by_epoch: bool, most: int) -> River | None:
    history = log.alpha_history(run, cell)
    return None if history is None else river_of(history, cell, by_epoch=by_epoch, most=most)


def rivers(log: RunLog, run: str, *, by_epoch: bool = True, most: int = MOST_MOMENTS) -> dict[str, River]:
    """Return {cell kind: its architecture weights over the run}, in the order of `RunLog.alpha_cells`. See `river`."""
    found = {cell: river(log, run, cell, by_epoch=by_epoch, most=most) for cell in log.alpha_cells(run)}
    return {cell: one for cell, one in found.items() if one is not None}


def river_of(history: AlphaHistory, cell: str, *, by_epoch: bool = True, most: int = MOST_MOMENTS) -> River:
    """Return the `River` of a cell kind from its recorded alphas.

    The arguments `by_epoch` and `most` have the same meaning as in `river`.
    """
    strongest = _strongest(history)
    moments = _thinned(_ends_of_epochs(history.epochs) if by_epoch else np.arange(len(history.steps)), most)
    weights = softmax(history.alpha[moments])
    edge_weights = None if history.edge_weight is None else history.edge_weight[moments].astype(np.float64)
    return River(cell, history.primitives, history.steps[moments], history.epochs[moments], weights, strongest[moments],
                 edge_weights, _flips(history, strongest))


def softmax(alpha: npt.ArrayLike) -> Numbers:
    """Return the softmax over the last axis, in float64. Alphas are clipped to +-`LARGEST_ALPHA`, so they may be infinite."""
    numbers = np.clip(np.asarray(alpha, np.float64), -LARGEST_ALPHA, LARGEST_ALPHA)
    exponentials = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def entropy_of(weights: Numbers) -> Numbers:
    """Return the entropy, in nats, of weights over the last axis. A weight of 0 contributes 0."""
    return np.asarray(-(weights * np.log(np.maximum(weights, np.finfo(float).tiny))).sum(axis=-1))


def _derivable(primitives: tuple[str, ...]) -> list[int]:
    """Return the indices of all operations except "none", which no derived cell has; [0] if there is no other."""
    return [column for column, name in enumerate(primitives) if name != NONE] or [0]


def _strongest(history: AlphaHistory) -> Integers:
    """Return the strongest operation of each edge at each recorded step, as an index into `history.primitives`, [t, edges].

    "none" is never chosen. Of equally strong operations, the first is taken.
    """
    columns = np.array(_derivable(history.primitives))
    return np.asarray(columns[history.alpha[..., columns].argmax(axis=2)])


def _flips(history: AlphaHistory, strongest: Integers) -> pd.DataFrame:
    moment, edge = np.nonzero(strongest[1:] != strongest[:-1])
    names = np.array(history.primitives, dtype=object)
    return pd.DataFrame({"step": history.steps[moment + 1], "epoch": history.epochs[moment + 1], "edge": edge,
                         "before": names[strongest[moment, edge]], "after": names[strongest[moment + 1, edge]]}).astype(FLIPS)


def _ends_of_epochs(epochs: Integers) -> Integers:
    return np.flatnonzero(np.append(epochs[1:] != epochs[:-1], True))


def _thinned(moments: Integers, most: int) -> Integers:
    """Return every n-th moment, counted back from the last, with the smallest n that leaves at most `most` moments."""
    every = -(-len(moments) // max(most, 1))
    return moments[::-1][::every][::-1]
