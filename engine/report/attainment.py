"""Hypervolume and attainment of networks in two accuracies, as functions of the number of runs.

Each network is a point with two accuracies. Some runs attain a point (x, y) if one of the runs is at least as accurate in both
accuracies. If n runs are drawn at random, with replacement, from N measured runs of which k attain the point, the probability
that the drawn runs attain it is 1 - (1 - k/N)^n. This formula is exact, so fronts and expected hypervolumes need no simulation.
The idea of attainment is from Grunert da Fonseca, Fonseca and Hall (2001, EMO, LNCS 1993:213-225).

The reference point of the hypervolume is fixed: 0 % in both accuracies. The hypervolume is the area between this
point and the front, a fraction of the unit square in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

REFERENCE = (0.0, 0.0)  # natural and adversarial accuracy
DRAWS, SEED = 400, 0  # for the quantiles of the hypervolume
LEVELS = (0.1, 0.5, 0.9)

Points = Sequence[tuple[float, float]]
Stairs = list[tuple[float, float]]


@dataclass(frozen=True)
class VolumeAt:
    """The hypervolume of the front of n runs drawn at random.

    Attributes:
        runs: the number n.
        mean: expected hypervolume.
        low, high: 10 % and 90 % quantile.
    """

    runs: int
    mean: float
    low: float
    high: float


def stairs(points: Points, count: int = 1) -> Stairs:
    """Return the corners of the region that at least `count` points attain, from the largest x to the smallest.

    A point attains every position that is at most as large in both coordinates. For count = 1, the corners are the Pareto front.
    The list is empty if there are fewer points than `count`.
    """
    corners: Stairs = []
    heights: list[float] = []
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        heights = sorted([*heights, y], reverse=True)[:count]
        if len(heights) == count and (not corners or heights[-1] > corners[-1][1]):
            if corners and corners[-1][0] == x:
                corners.pop()
            corners.append((x, heights[-1]))
    return corners


def hypervolume(points: Points, count: int = 1) -> float:
    """Return the area of the region between the reference point (0, 0) and the corners from `stairs`, in 0..1."""
    area, below = 0.0, REFERENCE[1]
    for x, y in stairs(points, count):
        area += (x - REFERENCE[0]) * (y - below)
        below = y
    return area


def needed(measured: int, runs: int, level: float) -> int:
    """Return how many of the N measured runs must attain a point, so that n randomly drawn runs are likely enough to attain it.

    This is the smallest k for which the probability 1 - (1 - k/N)^n is at least `level`. The result is in 1..N.

    Args:
        measured: number N of measured runs.
        runs: number n of runs that are drawn.
        level: probability, between 0 and 1.
    """
    share: float = 1 - (1 - level) ** (1 / runs)
    return max(1, min(measured, ceil(share * measured - 1e-9)))


def attained(points: Points, runs: int, level: float) -> Stairs:
    """Return the corners of the region that `runs` randomly drawn runs attain with a probability of at least `level`.

    Runs attain a point if one of them is at least as accurate in both accuracies.
    """
    return stairs(points, needed(len(points), runs, level))


def volumes(points: Points, most: int) -> list[VolumeAt]:
    """Return the hypervolume that randomly drawn runs attain, for each number of runs from 1 to `most`.

    The mean is exact. The quantiles come from random draws with a fixed seed.
    """
    areas = np.array([hypervolume(points, count) for count in range(1, len(points) + 1)] + [0.0])
    between, shares = areas[:-1] - areas[1:], np.arange(1, len(points) + 1) / len(points)
    drawn = _drawn_volumes(points, most)
    return [VolumeAt(runs, float((between * (1 - (1 - shares) ** runs)).sum()), *_ends(drawn[:, runs - 1]))
            for runs in range(1, most + 1)]


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (LEVELS[0], LEVELS[-1]))
    return float(low), float(high)


def _drawn_volumes(points: Points, most: int) -> NDArray[np.float64]:
    """Return hypervolumes of random draws as an array [draws, `most`]. Column n - 1 counts only the first n runs of each draw."""
    ordered = np.array(sorted(points, key=lambda point: -point[0]))
    steps = ordered[:, 0] - np.append(ordered[1:, 0], REFERENCE[0])
    drawn = np.random.default_rng(SEED).integers(len(ordered), size=(DRAWS, most))
    heights = np.zeros((DRAWS, len(ordered)))
    result = np.empty((DRAWS, most))
    for runs in range(most):
        place = drawn[:, runs]
        heights[np.arange(DRAWS), place] = ordered[place, 1]
        result[:, runs] = np.maximum.accumulate(heights, axis=1) @ steps
    return result
