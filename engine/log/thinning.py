"""Long series of numbers by step, reduced to a few hundred points or to the means of epochs.

The steps are divided into buckets, and the smallest, the largest and the last value of each bucket are kept, so no peak is lost.
The length of the buckets is a power of two, and grows only when there would be too many buckets. A new step therefore changes
only the points of the last bucket, and only these have to be sent to a page that shows the series. `kept` and `BUCKET` reduce a
series inside an SQL query, and `extremes` reduces arrays.
"""

from __future__ import annotations

from math import ceil, log2
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# The bucket of a step of a series from step `first` to step `last`. Its length is the smallest power of two that leads to at most
# $buckets buckets.
BUCKET = "(step - first) // (1::bigint << ceil(log2(greatest(1, (last - first + 1) / $buckets)))::int)"


def kept(what: str, *values: str) -> str:
    """Return an SQL expression for the list of the values of `what` at those steps of a bucket that a reduced series keeps.

    For each of `values`, the first step with its smallest value and the first step with its largest value are kept. The last step
    of the bucket is kept, too.

    Args:
        what: SQL expression for a value of a row.
        values: names of columns. NULLs are ignored.
    """
    chosen = [f"arg_{end}({what}, ({value}, {sign}step)) filter ({value} is not null)"
              for value in values for end, sign in (("min", ""), ("max", "-"))]
    return f"[{', '.join([*chosen, f'arg_max({what}, step)'])}]"


def extremes(steps: Integers, values: npt.NDArray[np.floating[Any]], buckets: int) -> list[Integers]:
    """Return, for each column of `values`, the indices of the rows to keep, in increasing order.

    In each bucket of steps, the first row with the smallest value, the first row with the largest value and the last row are
    kept. NaN counts as a missing value.

    Args:
        steps: [t] steps, increasing.
        values: [t, columns] values. Row i belongs to `steps[i]`.
        buckets: largest number of buckets into which the steps are divided.
    """
    length = 1 << ceil(log2(max(1.0, (int(steps[-1]) - int(steps[0]) + 1) / buckets)))
    starts = np.flatnonzero(np.diff((steps - steps[0]) // length, prepend=-1))
    ends = np.append(starts[1:], len(steps))
    rows = np.arange(len(steps))[:, None]
    is_kept = np.zeros(values.shape, dtype=bool)
    is_kept[ends - 1] = True
    for extreme in (np.fmin, np.fmax):
        reached = values == np.repeat(extreme.reduceat(values, starts, axis=0), ends - starts, axis=0)
        first = np.minimum.reduceat(np.where(reached, rows, len(steps)), starts, axis=0)  # len(steps) if all are missing
        bucket, column = np.nonzero(first < len(steps))
        is_kept[first[bucket, column], column] = True
    return [np.flatnonzero(column) for column in is_kept.T]


def epoch_means(epochs: Integers, steps: Integers, values: Floats) -> tuple[Integers, Integers, Floats]:
    """Return the epochs of a series, the last step of each epoch, and the mean value of each epoch.

    Values are summed in the order of their steps, so the mean of an epoch is always the same number. Missing values (NaN) are
    left out; the mean of an epoch without values is NaN.

    Args:
        epochs: [t] epoch of each step.
        steps: [t] steps, increasing.
        values: [t] values.
    """
    found, place = np.unique(epochs, return_inverse=True)
    last = np.zeros_like(found)
    last[place] = steps  # of several values for one place, NumPy keeps the last
    is_there = ~np.isnan(values)
    counts = np.bincount(place[is_there], minlength=len(found))
    sums = np.bincount(place[is_there], weights=values[is_there], minlength=len(found))
    return found, last, np.divide(sums, counts, out=np.full(len(found), np.nan), where=counts > 0)
