"""Smallest combinations of k gradients: optimality conditions, enumeration of all faces and scipy as oracles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

from engine.errors import RunError
from engine.search.minimum_norm import Solution, frank_wolfe, minimum_norm_point, of_two, on_simplex, projected_gradient

ROUTINES = (projected_gradient, frank_wolfe)
SHAPES = [(1, 4), (2, 5), (3, 2), (3, 10), (5, 3), (5, 224), (8, 20)]


def gramian(k: int, n: int, seed: int) -> np.ndarray:
    """Return the [k, k] Gramian of random gradients in n dimensions, dependent if n < k; odd seeds add a shared direction."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((k, n)) + (seed % 2) * 2 * rng.standard_normal(n)
    return rows @ rows.T


def degenerate() -> list[np.ndarray]:
    """Return Gramians of zero, equal, opposite and tiny gradients, and of very different scales."""
    a, b, zero = np.array([1.0, 2, -1]), np.array([0.5, -1, 3]), np.zeros(3)
    sets = [[zero] * 3, [a, zero, b], [a, zero, zero], [a, a, a], [a, a, b], [a, -a, b], [a, 2 * a, 3 * a], [a, a, -a, -a, b],
            [1e-12 * a, 1e-12 * b, 1e-12 * (a + b)], [1e9 * a, b, 1e-9 * (a - b)], [zero] * 5, [a], [zero], [a, a], [a, zero]]
    return [np.stack(rows) @ np.stack(rows).T for rows in sets]


def size(matrix: np.ndarray, weights: np.ndarray) -> float:
    return float(weights @ matrix @ weights)


def smallest_by_enumeration(matrix: np.ndarray) -> float:
    """Return the smallest |d|^2 of the affine minimisers that lie inside their face of the simplex."""
    k, found = len(matrix), [float(matrix.diagonal().min())]
    for count in range(2, k + 1):
        for face in combinations(range(k), count):
            part = matrix[np.ix_(face, face)]
            ones = np.ones(count)
            system = np.block([[part, ones[:, None]], [ones[None], np.zeros((1, 1))]])
            inside = np.linalg.lstsq(system, np.append(np.zeros(count), 1.0), rcond=1e-13)[0][:count]
            if abs(inside.sum() - 1) < 1e-8 and inside.min() >= 0:
                found.append(size(part, inside))
    return min(found)


def assert_on_simplex(weights: np.ndarray) -> None:
    assert np.isfinite(weights).all() and weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("k", "n"), SHAPES)
def test_the_exact_point_is_the_smallest_of_all_faces_and_of_scipys(k: int, n: int) -> None:
    """The minimum-norm point of a convex hull is the smallest of the minimum-norm points of its faces."""
    for seed in range(10):
        matrix = gramian(k, n, seed)
        matrix /= matrix.diagonal().max()
        weights = minimum_norm_point(matrix)
        assert_on_simplex(weights)
        assert size(matrix, weights) <= smallest_by_enumeration(matrix) + 1e-12
        found = minimize(lambda c, m=matrix: c @ m @ c, np.full(k, 1 / k), jac=lambda c, m=matrix: 2 * m @ c, method="SLSQP",
                         bounds=[(0, 1)] * k, constraints={"type": "eq", "fun": lambda c: c.sum() - 1},
                         options={"ftol": 1e-14, "maxiter": 500})
        assert size(matrix, weights) == pytest.approx(found.fun, abs=1e-7)
        assert (matrix @ weights >= size(matrix, weights) - 1e-12).all()


@pytest.mark.parametrize(("k", "n"), SHAPES)
def test_projected_gradient_with_exact_line_searches_meets_the_optimality_condition(k: int, n: int) -> None:
    """At the minimum-norm point d, <g_i, d> >= |d|^2 for all i."""
    for seed in range(10):
        matrix = gramian(k, n, seed)
        matrix /= matrix.diagonal().max()
        found = projected_gradient(matrix, margin=0.0, rounds=5000, tolerance=1e-13)
        assert found.converged
        assert_on_simplex(found.weights)
        assert size(matrix, found.weights) == pytest.approx(smallest_by_enumeration(matrix), abs=1e-10)
        assert (matrix @ found.weights >= size(matrix, found.weights) - 1e-7).all()


@pytest.mark.parametrize("routine", ROUTINES)
@pytest.mark.parametrize(("k", "n"), SHAPES)
def test_published_routines_come_near_the_optimum_and_never_below(routine: Callable[..., Solution], k: int, n: int) -> None:
    """No weights on the simplex give a smaller norm than the exact point; the published routines end within 2 % above it."""
    for seed in range(20):
        matrix = gramian(k, n, seed)
        found = routine(matrix)
        assert_on_simplex(found.weights)
        assert found.rounds <= 250
        above = size(matrix, found.weights) - size(matrix, minimum_norm_point(matrix))
        assert -1e-9 * matrix.diagonal().max() <= above <= 0.02 * matrix.diagonal().max()


@pytest.mark.parametrize("routine", ROUTINES)
def test_degenerate_gramians_are_answered(routine: Callable[..., Solution]) -> None:
    """The weights are on the simplex, and c'Mc exceeds its minimum by at most 2 % of the largest diagonal entry of M."""
    for matrix in degenerate():
        for margin in (0.0, 0.001):
            found = routine(matrix, margin=margin)
            assert_on_simplex(found.weights)
            scale = matrix.diagonal().max()
            assert size(matrix, found.weights) <= smallest_by_enumeration(matrix) + 0.02 * scale
            if margin == 0 and scale:
                exact = minimum_norm_point(matrix)
                assert size(matrix, exact) <= size(matrix, found.weights) + 1e-9 * scale


@pytest.mark.parametrize("routine", ROUTINES)
def test_the_last_round_returns_the_best_weights_seen(routine: Callable[..., Solution]) -> None:
    matrix = gramian(8, 20, 1)
    sizes = [size(matrix, routine(matrix, rounds=rounds, tolerance=0.0).weights) for rounds in (1, 3, 10, 100)]
    for rounds in (1, 3, 10, 100):
        found = routine(matrix, rounds=rounds, tolerance=0.0)
        assert (found.rounds, found.converged) == (rounds, False)
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("solve", [*ROUTINES, minimum_norm_point])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(solve: Callable[..., object], bad: float) -> None:
    matrix = gramian(4, 6, 0)
    matrix[1, 2] = matrix[2, 1] = bad
    with pytest.raises(RunError, match="must be finite, got NaN or infinity for objectives 1, 2 .*lower the learning rates"):
        solve(matrix)


@pytest.mark.parametrize(("rows", "expected"), [
    ([[1.0, 0], [0, 1]], [0.5, 0.5]),
    ([[1.0, 0], [2, 0]], [0.999, 0.001]),  # g1.g2 >= g1.g1
    ([[3.0, 0], [1, 1]], [0.001, 0.999]),  # g1.g2 >= g2.g2
    ([[1.0, 0], [0, 0]], [0.001, 0.999]),
    ([[0.0, 0], [1, 0]], [0.999, 0.001]),
    ([[0.0, 0], [0, 0]], [0.999, 0.001]),
    ([[2.0, 1], [2, 1]], [0.999, 0.001]),  # equal: the first test decides
    ([[1.0, 0], [-9999, 0]], [0.9999, 0.0001]),  # between the ends nothing is moved to a margin
])
def test_two_gradients_with_the_published_margins(rows: list[list[float]], expected: list[float]) -> None:
    """For two gradients the solution is a clipped projection, at the margin if one gradient is the shortest combination."""
    gradients = torch.tensor(rows, dtype=torch.float64)
    matrix = gradients @ gradients.T
    assert of_two(matrix, 0.001).tolist() == pytest.approx(expected, abs=1e-12)
    for routine in ROUTINES:
        assert routine(matrix.numpy()).weights.tolist() == pytest.approx(expected, abs=1e-12)


def test_weights_of_nearly_equal_gradients_have_the_sum_one() -> None:
    """The weights stay on the simplex however small the difference between two gradients is."""
    rng = np.random.default_rng(0)
    for exponent in range(-17, 0):
        for _ in range(20):
            row = rng.standard_normal(50)
            rows = torch.from_numpy(np.stack([row, row + 10.0**exponent * rng.standard_normal(50)]))
            assert_on_simplex(of_two(rows @ rows.T).numpy())


def test_two_gradients_keep_nan() -> None:
    assert of_two(torch.full((2, 2), float("nan")), 0.001).isnan().all()


def test_projection_is_the_nearest_point_of_the_simplex() -> None:
    """The projection subtracts the root t of sum max(y - t, 0) = 1."""
    rng = np.random.default_rng(0)
    for k in (1, 2, 3, 7):
        for scale in (0.1, 1.0, 100.0):
            y = scale * rng.standard_normal(k)
            shift = brentq(lambda t, y=y: np.maximum(y - t, 0).sum() - 1, y.min() - 2, y.max(), xtol=1e-14)
            assert on_simplex(y) == pytest.approx(np.maximum(y - shift, 0), abs=1e-9)
    assert on_simplex(np.array([1e20, -1e20, 0.0])).tolist() == [1, 0, 0]


def published_projected_gradient(matrix: np.ndarray) -> list[float]:
    """Return the routine's result, written weight by weight from its description."""
    k = len(matrix)

    def dot(a: list[float], b: list[float]) -> float:
        return sum(a[i] * b[j] * matrix[i, j] for i in range(k) for j in range(k))

    def line(a: list[float], b: list[float]) -> tuple[float, float]:
        aa, ab, bb = dot(a, a), dot(a, b), dot(b, b)
        if ab >= aa:
            return 0.999, aa
        if ab >= bb:
            return 0.001, bb
        gamma = (bb - ab) / (aa + bb - 2 * ab)
        return gamma, bb + gamma * (ab - bb)

    unit = [[float(i == j) for j in range(k)] for i in range(k)]
    smallest = np.inf
    for i, j in combinations(range(k), 2):
        gamma, length = line(unit[i], unit[j])
        if length < smallest:
            smallest, c = length, [gamma * p + (1 - gamma) * q for p, q in zip(unit[i], unit[j])]
    for _ in range(250):
        downhill = [-sum(matrix[i, j] * c[j] for j in range(k)) for i in range(k)]
        way = [value - sum(downhill) / k for value in downhill]
        down = [limit for limit in (-c[i] / way[i] for i in range(k) if way[i] < 0) if limit > 1e-7]
        up = [limit for limit in ((1 - c[i]) / way[i] for i in range(k) if way[i] > 0) if limit > 1e-7]
        step = min([min(down) if down else 1.0, *up])
        y = [c[i] + step * way[i] for i in range(k)]
        # The larger the part of y that stays positive, the larger the shift that gives it the sum 1.
        shift = max((sum(sorted(y)[-m:]) - 1) / m for m in range(1, k + 1))
        aim = [max(value - shift, 0) for value in y]
        gamma, _ = line(c, aim)
        moved = [gamma * p + (1 - gamma) * q for p, q in zip(c, aim)]
        if sum(abs(p - q) for p, q in zip(moved, c)) < 1e-5:
            return c
        c = moved
    return c


@pytest.mark.parametrize(("k", "n"), [(3, 10), (5, 224), (6, 20)])
def test_projected_gradient_is_the_published_one_round_for_round(k: int, n: int) -> None:
    converged = 0
    for seed in range(10):
        matrix = gramian(k, n, seed)
        found = projected_gradient(matrix)
        if found.converged:
            converged += 1
            assert found.weights.tolist() == pytest.approx(published_projected_gradient(matrix), abs=1e-8)
    assert converged >= 8
