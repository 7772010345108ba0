"""Solvers that find the minimum-norm convex combination of k gradients from the Gramian of the gradients.

    minimise c'Mc over c on the simplex,    M_rs = g_r . g_s

With d = sum_r c_r g_r, weights c are optimal exactly when g_r . d >= |d|^2 for all r (Desideri 2012). `of_two` and
`minimum_norm_point` solve the problem exactly. `projected_gradient` and `frank_wolfe` reproduce the two public solvers of Sener
and Koltun 2018 (arXiv 1810.04650), which the code of E2RNAS (arXiv 2011.09820) contains. These two stop near the optimum, because
their line searches keep a small distance from the ends of the line.

Differs: our solvers always return. The released solvers can loop forever. They also start only if some pair of gradients has a
convex combination with a norm below 1e4.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import RunError

# Constants of the released solver: the least weight of either end of a line, the intended number of rounds, and the change of the
# weights (sum of absolute values) below which the solver stops.
MARGIN = 0.001
ROUNDS = 250
TOLERANCE = 1e-5
# Limits of a step below this length are ignored. The step may then leave the simplex, and the next projection returns to it.
SMALLEST_STEP = 1e-7

ROUNDS_PER_OBJECTIVE = 20
EPSILON = float(np.finfo(np.float64).eps)


class Solution(NamedTuple):
    """The result of an iterative solver.

    Attributes:
        weights: [k] float64, non-negative, sum 1.
        rounds: number of rounds made.
        converged: True if the stopping rule was met. Otherwise, the rounds ran out, and `weights` is the result of the best
            round.
    """

    weights: np.ndarray
    rounds: int
    converged: bool


def of_two(gramian: Tensor, margin: float = 0.0) -> Tensor:
    """Return the weights [gamma, 1 - gamma] of the minimum-norm convex combination of two gradients.

    gamma = clip((g2 - g1) . g2 / |g2 - g1|^2, 0, 1). The second weight has a quotient of its own, because 1 - gamma would round
    away the tiny weight of a huge gradient. The function does not wait for the device.

    Equal gradients get the weights 1/2 and 1/2. (The published ARNAS code computes 0/0 and gets NaN alphas.) Gradients count as
    equal if their squared distance is below the rounding error of the Gramian.

    Args:
        gramian: [2, 2]. A NaN in it gives NaN weights.
        margin: value that replaces gamma = 0 (E2RNAS: 0.001). Likewise, 1 - margin replaces gamma = 1. Every other gamma stays
            unchanged, even if it is smaller than the margin. With a margin above 0, equal gradients give gamma = 1 - margin, as
            published.

    Returns:
        [2] weights with the dtype and on the device of the Gramian.
    """
    first, mixed, second = gramian[0, 0], gramian[0, 1], gramian[1, 1]
    ways = torch.stack([second - mixed, first - mixed])
    distance = ways.sum()  # computed from the two quotients' numerators, so that the weights of nearly equal gradients sum to 1
    weights = (ways / distance).clamp(0, 1)
    if margin:
        small = torch.full_like(mixed, margin)
        weights = torch.where(mixed >= second, torch.stack([small, 1 - small]), weights)
        return torch.where(mixed >= first, torch.stack([1 - small, small]), weights)
    rounding = 4 * torch.finfo(gramian.dtype).eps * (first + second)
    return torch.where(distance <= rounding, torch.full_like(weights, 0.5), weights)


def projected_gradient(gramian: np.ndarray, *, margin: float = MARGIN, rounds: int = ROUNDS,
                       tolerance: float = TOLERANCE) -> Solution:
    """Find the minimum-norm combination by projected gradient descent.

    This is `find_min_norm_element`, the default solver of E2RNAS. It starts from the best pair of gradients (see `_best_pair`).
    Each round, with weights c and Gramian M:

    - The direction is -Mc minus the mean of its entries.
    - A point moves from c in this direction until one entry would leave 0..1. It is then projected onto the simplex.
    - The new weights are the best point on the line from c to the projection (`of_two`).

    Args:
        gramian: [k, k] float64, symmetric and positive semi-definite; gradients may be zero or dependent.
        margin: distance that a line search keeps from the ends of the line, see `of_two`. 0 makes the line search exact.
        rounds: maximum number of rounds.
        tolerance: the descent stops after a round in which the absolute changes of the weights sum to less than this.

    Raises:
        RunError: the Gramian contains NaN or infinity.
    """
    return _descend(gramian, lambda weights: on_simplex(weights + _step(weights, -(gramian @ weights))), margin, rounds,
                    tolerance)


def frank_wolfe(gramian: np.ndarray, *, margin: float = MARGIN, rounds: int = ROUNDS,
                tolerance: float = TOLERANCE) -> Solution:
    """Find the minimum-norm combination by the Frank-Wolfe method.

    This is `find_min_norm_element_FW` of E2RNAS. Each round steps towards the gradient with the smallest inner product with the
    current combination, argmin_r (Mc)_r. The method is slow: the distance to the optimum falls only as 1 / rounds.
    `projected_gradient` describes the arguments, the result and the errors.
    """
    return _descend(gramian, lambda weights: np.eye(len(weights))[(gramian @ weights).argmin()], margin, rounds, tolerance)


def _descend(gramian: np.ndarray, target: Callable[[np.ndarray], np.ndarray], margin: float, rounds: int,
             tolerance: float) -> Solution:
    """Repeat line searches, each from the current weights to target(weights), until the weights stop changing.

    The first weights come from `_best_pair`.
    """
    _refuse_not_finite(gramian)
    weights = _best_pair(gramian, margin)
    if len(gramian) < 3:
        return Solution(weights, 0, True)
    best, least = weights, weights @ gramian @ weights
    for number in range(1, rounds + 1):
        aim = target(weights)
        share = _of_two(gramian, weights, aim, margin)
        moved = share[0] * weights + share[1] * aim
        if np.abs(moved - weights).sum() < tolerance:
            return Solution(weights, number, True)
        weights = moved
        if (length := weights @ gramian @ weights) < least:
            best, least = weights, length
    return Solution(best, rounds, False)


def _of_two(gramian: np.ndarray, one: np.ndarray, two: np.ndarray, margin: float) -> np.ndarray:
    """Return the weights [2] of the minimum-norm convex combination of `one` and `two`.

    Each of these is itself a combination of the k gradients, given by its weights [k]. The function computes the same as
    `of_two`, but on plain numbers, which is faster than on tensors.
    """
    along_one, along_two = gramian @ one, gramian @ two
    first, mixed, second = float(one @ along_one), float(one @ along_two), float(two @ along_two)
    if margin and mixed >= first:
        return np.array([1 - margin, margin])
    if margin and mixed >= second:
        return np.array([margin, 1 - margin])
    distance = (second - mixed) + (first - mixed)
    if not margin and distance <= 4 * EPSILON * (first + second):
        return np.array([0.5, 0.5])
    return np.clip(np.array([second - mixed, first - mixed]) / distance, 0, 1)


def _best_pair(gramian: np.ndarray, margin: float) -> np.ndarray:
    """Return the weights [k] of the minimum-norm convex combination of the best pair of gradients.

    The best pair is the pair whose combination has the smallest norm. Of equally good pairs, the first is used.
    """
    units = np.eye(len(gramian))
    if len(units) == 1:
        return np.ones(1)

    def size(pair: tuple[int, int]) -> float:
        share = _of_two(gramian, units[pair[0]], units[pair[1]], 0.0)
        return float(share @ gramian[np.ix_(pair, pair)] @ share)

    first, second = min(combinations(range(len(units)), 2), key=size)
    weights: np.ndarray = _of_two(gramian, units[first], units[second], margin) @ units[[first, second]]
    return weights


def _step(weights: np.ndarray, downhill: np.ndarray) -> np.ndarray:
    """Return the longest step [k] that keeps every weight in 0..1. Its direction is `downhill` minus the mean of `downhill`.

    A weight that would leave 0..1 at a step length below SMALLEST_STEP does not limit the step.
    """
    way = downhill - downhill.mean()
    falling, rising = way < 0, way > 0
    to_zero, to_one = -weights[falling] / way[falling], (1 - weights[rising]) / way[rising]
    # As published, the limit is 1 if no weight can fall.
    longest = to_zero[to_zero > SMALLEST_STEP].min(initial=np.inf) if (to_zero > SMALLEST_STEP).any() else 1.0
    step: np.ndarray = way * min(longest, to_one[to_one > SMALLEST_STEP].min(initial=np.inf))
    return step


def on_simplex(point: np.ndarray) -> np.ndarray:
    """Project a point [k] onto the simplex, which contains all non-negative vectors with sum 1.

    The algorithm is from Held, Wolfe and Crowder 1974.
    """
    point = point - point.max()  # the result is the same, but the 1 below does not vanish next to huge numbers
    falling = np.sort(point)[::-1]
    excess = (np.cumsum(falling) - 1) / np.arange(1, len(point) + 1)
    nearest: np.ndarray = np.maximum(point - excess[np.flatnonzero(falling > excess)[-1]], 0.0)
    return nearest


def minimum_norm_point(gramian: np.ndarray) -> np.ndarray:
    """Return the exact weights of the minimum-norm convex combination of any number of gradients.

    This is Wolfe's minimum-norm-point algorithm, also known as Frank-Wolfe with fully corrective steps (Wolfe 1976;
    Lacoste-Julien and Jaggi 2015, arXiv 1511.05932). Each round adds the gradient with the smallest inner product with the
    current combination, then moves to the minimum-norm combination of all gradients in use. The number of rounds is bounded, and
    the best combination so far is kept.

    Args:
        gramian: [m, m] float64. Gradients may differ in scale by many orders of magnitude.

    Returns:
        [m] weights on the simplex.

    Raises:
        RunError: the Gramian contains NaN or infinity.
    """
    _refuse_not_finite(gramian)
    m = len(gramian)
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    if (norms == 0).any():  # a zero gradient is the smallest possible combination
        shares: np.ndarray = (norms == 0) / np.count_nonzero(norms == 0)
        return shares
    weights = np.zeros(m)
    weights[norms.argmin()] = 1.0
    for _ in range(ROUNDS_PER_OBJECTIVE * m):
        products = gramian @ weights
        size = weights @ norms
        # Violation of the optimality condition M c >= c'Mc, beyond what rounding alone produces.
        violation = weights @ products - products - 8 * m * EPSILON * (norms + size) * size
        worst = int(violation.argmax())
        if violation[worst] <= 0:
            break
        better = _corrected(gramian, norms, weights, worst)
        if better @ gramian @ better >= weights @ products:
            break
        weights = better
    return weights


def _corrected(gramian: np.ndarray, norms: np.ndarray, weights: np.ndarray, added: int) -> np.ndarray:
    """Return the weights of the minimum-norm combination of gradient `added` and all gradients with a non-zero weight.

    The weights move towards the affine minimiser (the best weights with sum 1 and any signs). If a weight would turn negative,
    the move stops and the gradient of this weight is dropped. A new move with the remaining gradients then begins (Wolfe's minor
    cycle).
    """
    weights = weights.copy()
    active = sorted({*np.flatnonzero(weights), added})
    while True:
        target = np.zeros_like(weights)
        target[active] = _affine_minimiser(gramian[np.ix_(active, active)], norms[active])
        negative = [i for i in active if target[i] <= 0]
        if not negative:
            return target
        way = {i: weights[i] / (weights[i] - target[i]) if weights[i] > target[i] else 0.0 for i in negative}
        blocking = min(way, key=lambda i: way[i])
        weights = np.maximum(weights + way[blocking] * (target - weights), 0.0)
        weights[blocking] = 0.0
        weights /= weights.sum()
        active.remove(blocking)


def _affine_minimiser(gramian: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return the weights c [k] with sum 1 and any signs that minimise c'Mc, where M is the Gramian.

    The equations are solved for c_i |g_i|, so that different lengths of the gradients do not matter.

    Args:
        gramian: inner products of the gradients, [k, k].
        norms: norms |g_i| of the gradients, [k].
    """
    k = len(norms)
    inverse = norms.min() / norms
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = gramian / np.outer(norms, norms)
    system[:k, k] = system[k, :k] = inverse
    right = np.zeros(k + 1)
    right[k] = 1.0
    solution: np.ndarray = np.linalg.lstsq(system, right, rcond=None)[0][:k] * inverse
    minimiser: np.ndarray = solution / solution.sum()
    return minimiser


def _refuse_not_finite(gramian: np.ndarray) -> None:
    if not np.isfinite(gramian).all():
        places = ", ".join(str(int(row)) for row in np.flatnonzero(~np.isfinite(gramian).all(axis=1)))
        raise RunError(f"The inner products of the objectives' gradients must be finite, got NaN or infinity for objectives "
                       f"{places} (counted from 0); lower the learning rates.")
