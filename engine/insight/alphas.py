"""The course of the architecture weights of one cell kind: softmax weights, entropy, margins, and changes of the strongest
operation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.architecture.genotype import NONE
from engine.log import RunLog
from engine.log.insight_queries import AlphaHistory

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
        epochs: [t] their epochs, from 1; 0 before the first step.
        weights: [t, edges, k] softmax of the alphas over the operations of an edge, in 0..1. Edge weights are not in it.
        strongest: [t, edges] column of the operation that the derived cell would have on the edge. It is never "none".
        edge_weights: [t, edges] softmax over the edges into a node, in 0..1; None for a method without edge weights.
        flips: changes of the strongest operation, over every recorded step and not only the t moments. One row per change, with
            the columns step, epoch, edge, before and after (names of operations).
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
        """Entropy of the weights of each edge, in nats, 0..log k, [t, edges]."""
        return entropy_of(self.weights)

    @cached_property
    def relative_entropy(self) -> Numbers:
        """Entropy as a share of log k, its largest value, 0..1, [t, edges]. It is 0 for an edge with a single operation."""
        return np.asarray(self.entropy / np.log(max(len(self.primitives), 2)))

    @cached_property
    def margin(self) -> Numbers:
        """Weight of the strongest operation minus the second largest weight, without "none", 0..1, [t, edges]."""
        largest = np.sort(self.weights[..., _derivable(self.primitives)], axis=2)
        return np.asarray(largest[..., -1] - (largest[..., -2] if largest.shape[2] > 1 else 0.0))

    def operations(self, moment: int = -1) -> list[str]:
        """Return the strongest operation of every edge at one of the t moments, by default the last one."""
        return [self.primitives[column] for column in self.strongest[moment]]


def river(log: RunLog, run: str, cell: str, *, by_epoch: bool = True, most: int = MOST_MOMENTS) -> River | None:
    """Return the course of the architecture weights of a cell kind, or None if the run recorded none.

    Args:
        log: the run log.
        run: run id.
        cell: the cell kind, one of `log.alpha_cells(run)`.
        by_epoch: True for the last recorded step of each epoch; False for all recorded steps. Epoch 0 is the time before the
            first step.
        most: largest number of moments. Of more, every n-th and the last one are kept.
    """
    question = "river", run, cell, by_epoch, most
    return log.shared(question, ("folder", "alpha", "resumed"), run, lambda: _river(log, run, cell, by_epoch, most))


def _river(log: RunLog, run: str, cell: str, by_epoch: bool, most: int) -> River | None:
    history = log.alpha_history(run, cell)
    return None if history is None else river_of(history, cell, by_epoch=by_epoch, most=most)


def rivers(log: RunLog, run: str, *, by_epoch: bool = True, most: int = MOST_MOMENTS) -> dict[str, River]:
    """Return {cell kind: course of its architecture weights}, in the order of `RunLog.alpha_cells`."""
    found = {cell: river(log, run, cell, by_epoch=by_epoch, most=most) for cell in log.alpha_cells(run)}
    return {cell: one for cell, one in found.items() if one is not None}


def river_of(history: AlphaHistory, cell: str, *, by_epoch: bool = True, most: int = MOST_MOMENTS) -> River:
    """Return the course of recorded architecture weights. The arguments are those of `river`."""
    strongest = _strongest(history)
    moments = _thinned(_ends_of_epochs(history.epochs) if by_epoch else np.arange(len(history.steps)), most)
    weights = softmax(history.alpha[moments])
    edge_weights = None if history.edge_weight is None else history.edge_weight[moments].astype(np.float64)
    return River(cell, history.primitives, history.steps[moments], history.epochs[moments], weights, strongest[moments],
                 edge_weights, _flips(history, strongest))


def softmax(alpha: npt.ArrayLike) -> Numbers:
    """Return the softmax over the last axis, in 64 bits. Infinite alphas count as the largest finite ones."""
    numbers = np.clip(np.asarray(alpha, np.float64), -LARGEST_ALPHA, LARGEST_ALPHA)
    exponentials = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def entropy_of(weights: Numbers) -> Numbers:
    """Return the entropy of weights over the last axis, in nats. A weight of 0 adds 0."""
    return np.asarray(-(weights * np.log(np.maximum(weights, np.finfo(float).tiny))).sum(axis=-1))


def _derivable(primitives: tuple[str, ...]) -> list[int]:
    """Return the columns of the operations that a derived cell can have, which are all but "none"."""
    return [column for column, name in enumerate(primitives) if name != NONE] or [0]


def _strongest(history: AlphaHistory) -> Integers:
    """Return the column of the strongest operation, [t, edges]. Of equal ones, it is the first, as in `genotype.derive`."""
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
    """Return every n-th moment counted from the last one, such that at most `most` remain."""
    every = -(-len(moments) // max(most, 1))
    return moments[::-1][::every][::-1]
