"""MGDA's weights: optimality conditions, symmetries, known answers, and scipy and a brute-force grid as oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from engine.search.minimum_norm import minimum_norm_point
from engine.search.weighting import gramian_of, mgda, normalised

SCALES = (0.0, 1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12)
SHAPES = [(1, 4), (2, 1), (2, 5), (2, 294), (3, 2), (3, 294), (4, 10), (5, 3), (8, 20)]


def gradients(m: int, n: int, seed: int, scale: float = 1.0) -> Tensor:
    """Return random float64 gradients [m, n]; half of the seeds add a shared direction, so that vertices occur."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, n, generator=generator, dtype=torch.float64)
    if seed % 2:
        rows = rows + 2 * torch.randn(n, generator=generator, dtype=torch.float64)
    return scale * rows


def assert_optimal(gramian: Tensor, weights: Tensor, tolerance: float = 1e-9) -> None:
    """Assert the KKT conditions: c on the simplex, and M c >= c'Mc with equality at positive weights."""
    assert weights.shape == gramian.shape[:1]
    assert weights.min() >= 0
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    norms = gramian.diagonal().sqrt()
    products, size = gramian @ weights, weights @ gramian @ weights
    rounding = tolerance * norms * (weights @ norms)
    assert (products - size >= -rounding - tolerance * size).all()
    slack = weights * (products - size)
    assert slack.abs().max() <= tolerance * (weights @ norms) ** 2 + tolerance * size


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_optimality_conditions(m: int, n: int, scale: float) -> None:
    """MGDA's weights satisfy the KKT conditions of the minimum-norm point."""
    for seed in range(10):
        gramian = gramian_of(gradients(m, n, seed, scale))
        assert_optimal(gramian, mgda(gramian))


@pytest.mark.parametrize("m", [2, 3, 5])
def test_gradients_of_very_different_size(m: int) -> None:
    """Each row has its own scale between 1e-12 and 1e12; the general solver also handles two objectives."""
    for seed in range(40):
        exponents = np.random.default_rng(seed).uniform(-12, 12, m)
        gramian = gramian_of(gradients(m, 20, seed) * torch.from_numpy(10.0**exponents)[:, None])
        assert_optimal(gramian, torch.from_numpy(minimum_norm_point(gramian.numpy())))
        assert_optimal(gramian, mgda(gramian))


def test_one_huge_gradient_does_not_hide_a_conflict_of_small_ones() -> None:
    """The minimum-norm point gives a huge gradient no weight and balances two small opposed ones equally."""
    gramian = gramian_of(torch.tensor([[1e12, 0, 0], [0, 1, 0.5], [0, -1, 0.5]], dtype=torch.float64))
    assert mgda(gramian).tolist() == pytest.approx([0, 0.5, 0.5], abs=1e-12)


def test_known_answer() -> None:
    """The example is also in TorchJD's tests."""
    gramian = gramian_of(torch.tensor([[-4.0, 1, 1], [6, 1, 1]]))
    assert mgda(gramian).tolist() == pytest.approx([0.6, 0.4], abs=1e-12)
    assert minimum_norm_point(gramian.numpy()).tolist() == pytest.approx([0.6, 0.4], abs=1e-12)


@pytest.mark.parametrize(("rows", "expected"), [
    ([[1.0, 0], [0, 1]], [0.5, 0.5]),
    ([[1.0, 0], [2, 0]], [1.0, 0.0]),
    ([[3.0, 0], [1, 1]], [0.0, 1.0]),  # u1.u2 > |u2|^2: the first objective is ignored
    ([[1.0, 0], [-3, 0]], [0.75, 0.25]),
    ([[0.0, 0], [1, 0]], [1.0, 0.0]),
    ([[1.0, 0], [0, 0]], [0.0, 1.0]),
])
def test_two_objectives_by_hand(rows: list[list[float]], expected: list[float]) -> None:
    gramian = gramian_of(torch.tensor(rows))
    assert mgda(gramian).tolist() == pytest.approx(expected, abs=1e-12)
    assert minimum_norm_point(gramian.numpy()).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_gradients_share_equally_without_nan(scale: float, dtype: torch.dtype) -> None:
    row = scale * torch.randn(294, dtype=dtype)
    assert mgda(gramian_of(torch.stack([row, row]))).tolist() == [0.5, 0.5]


def test_equal_gradients_among_three_are_optimal() -> None:
    """The weights of MGDA satisfy the KKT conditions of the minimum-norm point even if gradients repeat, oppose or vanish."""
    row = torch.randn(10, dtype=torch.float64)
    for rows in ([row, row, row], [row, row, -row], [row, 0 * row, 0 * row], [row, row, torch.randn(10, dtype=torch.float64)]):
        gramian = gramian_of(torch.stack(rows))
        assert_optimal(gramian, mgda(gramian))


def test_vertex_rule() -> None:
    """gamma is 0 exactly when cos(theta) >= lambda |g_adv| / |g_nat|."""
    for seed in range(200):
        natural, adversarial = gradients(2, 6, seed)
        coefficient = float(np.random.default_rng(seed).uniform(0.05, 2))
        gamma = mgda(gramian_of(torch.stack([natural, coefficient * adversarial])))[0].item()
        cosine = torch.cosine_similarity(natural, adversarial, dim=0).item()
        ignored = cosine >= coefficient * (adversarial.norm() / natural.norm()).item()
        assert (gamma == 0) == ignored


@pytest.mark.parametrize(("m", "n"), [(2, 5), (3, 10), (5, 294), (8, 20)])
def test_permutation_equivariance(m: int, n: int) -> None:
    """Permuting the objectives permutes MGDA's weights."""
    for seed in range(20):
        rows = gradients(m, n, seed)
        order = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
        direct = mgda(gramian_of(rows))[order]
        assert torch.allclose(mgda(gramian_of(rows[order])), direct, atol=1e-9)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_common_scale_does_not_matter(m: int) -> None:
    """Scaling all gradients by one factor leaves MGDA's weights unchanged."""
    gramian = gramian_of(gradients(m, 20, seed=3))
    for scale in SCALES[1:]:
        assert torch.allclose(mgda(gramian * scale**2), mgda(gramian), atol=1e-9)


@pytest.mark.parametrize(("m", "n"), [(2, 5), (3, 2), (3, 294), (5, 3), (6, 20)])
def test_scipy_finds_nothing_smaller(m: int, n: int) -> None:
    """MGDA's weights minimise the norm of the combined gradient over the simplex."""
    for seed in range(10):
        gramian = gramian_of(gradients(m, n, seed))
        array = gramian.numpy() / gramian.diagonal().max().item()
        oracle = minimize(
            lambda c, a=array: c @ a @ c, np.full(m, 1 / m), jac=lambda c, a=array: 2 * a @ c, method="SLSQP",
            bounds=[(0, 1)] * m, constraints={"type": "eq", "fun": lambda c: c.sum() - 1, "jac": lambda c: np.ones_like(c)},
            options={"ftol": 1e-14, "maxiter": 500})
        assert oracle.success
        weights = mgda(gramian).numpy()
        assert weights @ array @ weights <= oracle.fun + 1e-12
        assert weights @ array @ weights == pytest.approx(oracle.fun, abs=1e-7)
        if n >= m:  # the minimiser is unique
            assert weights == pytest.approx(oracle.x, abs=1e-4)


def test_grid_finds_nothing_smaller() -> None:
    """No point of a grid over the simplex of three weights has a smaller combined gradient than MGDA's weights."""
    steps = np.linspace(0, 1, 101)
    grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-12])
    for seed in range(20):
        gramian = gramian_of(gradients(3, 4, seed))
        weights = mgda(gramian)
        smallest = np.einsum("gi,ij,gj->g", grid, gramian.numpy(), grid).min()
        assert (weights @ gramian @ weights).item() <= smallest + 1e-12


def test_dtype_and_device_are_kept_and_nan_is_not_hidden() -> None:
    for m in (1, 2, 3):
        gramian = gramian_of(gradients(m, 5, 0)).float()
        assert mgda(gramian).dtype == torch.float32
        assert (m == 1) or mgda(gramian * float("nan")).isnan().all()


@pytest.mark.parametrize(("how", "divisors"), [("none", (1, 1)), ("l2", (3, 2)), ("loss", (0.5, 4)), ("loss+", (1.5, 8))])
def test_normalisation_divides_gradients(how: str, divisors: tuple[float, float]) -> None:
    rows = torch.tensor([[3.0, 0], [0, 2]], dtype=torch.float64)
    expected = gramian_of(rows / torch.tensor(divisors, dtype=torch.float64)[:, None])
    assert torch.allclose(normalised(gramian_of(rows), torch.tensor([0.5, 4.0]), how), expected)


def test_normalisation_by_length_frees_the_weights_of_lambda() -> None:
    """With gradients of unit length the minimum-norm weights of two do not depend on the factor of either."""
    natural, adversarial = gradients(2, 10, 1)
    for coefficient in (0.01, 1.0, 100.0):
        gramian = gramian_of(torch.stack([natural, coefficient * adversarial]))
        weights = mgda(normalised(gramian, torch.ones(2), "l2"))
        assert weights.tolist() == pytest.approx([0.5, 0.5])


def test_normalisation_leaves_zero_gradients() -> None:
    gramian = gramian_of(torch.tensor([[0.0, 0], [0, 2]]))
    for how in ("l2", "loss", "loss+"):
        assert normalised(gramian, torch.zeros(2), how).isfinite().all()


def test_a_floor_is_added_to_every_divisor() -> None:
    rows = torch.tensor([[3.0, 0], [0, 2]], dtype=torch.float64)
    expected = gramian_of(rows / (rows.norm(dim=1, keepdim=True) + 0.5))
    assert torch.allclose(normalised(gramian_of(rows), torch.ones(2), "l2", floor=0.5), expected)
    assert normalised(gramian_of(0 * rows), torch.ones(2), "l2", floor=1e-7).eq(0).all()
