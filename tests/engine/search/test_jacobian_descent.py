"""Weightings of torchjd against what their papers define, on gradients instead of Gramians: projections face by face of a cone,
principal components by a singular value decomposition, gradient surgery vector by vector."""

from __future__ import annotations

from itertools import chain, combinations, permutations, product

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.search.registries import WEIGHTINGS
from engine.search.weighting import gramian_of

NAMES = [name for name, entry in WEIGHTINGS.items() if entry.function.path.startswith("engine.search.jacobian_descent")]
SHAPES = [(2, 3), (2, 294), (3, 5), (4, 10)]
LENGTHS = (1e-6, 1.0, 1e3)


def weights_of(name: str, rows: Tensor) -> Tensor:
    return WEIGHTINGS[name].function(gramian_of(rows), tuple(map(str, range(len(rows)))), 0.5)


def gradients(m: int, n: int, seed: int) -> Tensor:
    """Return [m, n] float64 gradients with lengths up to a factor of 100 apart; for odd seeds, all conflict with the first."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, n, generator=generator, dtype=torch.float64)
    if seed % 2:
        rows[1:] -= 1.5 * rows[0]
    return rows * 10 ** (2 * torch.rand(m, 1, generator=generator, dtype=torch.float64) - 1)


def onto_the_dual_cone(vector: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the nearest direction without a negative inner product with any row.

    Projects onto the plane of every face of the cone and takes the nearest projection that lies in the cone."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    faces = chain.from_iterable(combinations(range(len(rows)), size) for size in range(len(rows) + 1))
    found = [vector - np.linalg.pinv(units[list(face)]) @ (units[list(face)] @ vector) for face in faces]
    allowed = [d for d in found if (units @ d >= -1e-9 * np.linalg.norm(vector)).all()]
    return min(allowed, key=lambda d: np.linalg.norm(d - vector))


def test_names() -> None:
    assert NAMES == ["upgrad", "dualproj", "imtl_g", "aligned_mtl", "pcgrad", "fairgrad"]


@pytest.mark.parametrize(("m", "n"), [(2, 3), (3, 5), (4, 10)])
def test_projections_are_those_in_the_space_of_the_gradients(m: int, n: int) -> None:
    """UPGrad is the mean of the gradients' projections onto the dual cone, DualProj the projection of their mean."""
    for seed in range(6):
        rows = gradients(m, n, seed)
        array = rows.numpy()
        each = np.mean([onto_the_dual_cone(row, array) for row in array], axis=0)
        of_mean = onto_the_dual_cone(array.mean(axis=0), array)
        for name, expected in (("upgrad", each), ("dualproj", of_mean)):
            found = (weights_of(name, rows) @ rows).numpy()
            assert found == pytest.approx(expected, abs=1e-9 * np.linalg.norm(array)), (name, seed)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_projections_raise_no_loss(m: int, n: int, length: float) -> None:
    """A projection onto the dual cone has a non-negative product with every gradient, and leaves gradients without conflict."""
    for seed in range(10):
        rows = length * gradients(m, n, seed)
        for name in ("upgrad", "dualproj"):
            weights = weights_of(name, rows)
            step = weights @ rows
            assert (weights >= 1 / m - 1e-12).all()
            assert (rows @ step >= -1e-9 * rows.norm(dim=1) * step.norm()).all()
            untouched = ((rows @ rows.T) >= 0).all()
            assert not untouched or torch.allclose(weights, torch.full_like(weights, 1 / m))


def test_known_answer_of_upgrad() -> None:
    """The example of torchjd's documentation, to the accuracy of its projector."""
    rows = torch.tensor([[-4.0, 1, 1], [6, 1, 1]], dtype=torch.float64)
    assert (weights_of("upgrad", rows) @ rows).tolist() == pytest.approx([0.2929, 1.9004, 1.9004], abs=1e-3)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_imtl_g_projects_equally_onto_every_gradient(m: int, n: int, length: float) -> None:
    """The IMTL-G direction has the same projection onto every unit gradient, and its weights sum to one."""
    for seed in range(10):
        rows = length * gradients(m, n, seed)
        weights = weights_of("imtl_g", rows)
        along = (rows / rows.norm(dim=1, keepdim=True)) @ (weights @ rows)
        assert weights.sum().item() == pytest.approx(1)
        assert torch.allclose(along, along.mean(), rtol=1e-6, atol=0)
        assert m > 2 or torch.allclose(weights * rows.norm(dim=1), (weights * rows.norm(dim=1)).mean())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_aligned_mtl_gives_all_principal_components_one_length(m: int, n: int, length: float) -> None:
    """Aligned-MTL sets every singular value of the Jacobian to the smallest one."""
    for seed in range(10):
        rows = length * gradients(m, n, seed)
        left, lengths, right = torch.linalg.svd(rows, full_matrices=False)
        expected = (lengths[-1] * left @ right).mean(dim=0)
        assert torch.allclose(weights_of("aligned_mtl", rows) @ rows, expected, rtol=1e-6, atol=1e-8 * float(expected.norm()))


def surgery(rows: np.ndarray, orders: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Run algorithm 1 of arXiv 2001.06782, given the order in which each gradient meets the others."""
    total = np.zeros(rows.shape[1])
    for row, order in zip(rows, orders, strict=True):
        kept = row.copy()
        for j in order:
            if kept @ rows[j] < 0:
                kept -= (kept @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        total += kept
    return total


@pytest.mark.parametrize("m", [2, 3])
def test_pcgrad_is_surgery_in_some_order(m: int) -> None:
    """The PCGrad direction is that of published gradient surgery for one of the orders of the objectives."""
    seen = set()
    for seed in range(1, 21, 2):
        rows = gradients(m, 5, seed)
        ways = list(product(*(permutations([j for j in range(m) if j != i]) for i in range(m))))
        results = [surgery(rows.numpy(), orders) for orders in ways]
        found = (weights_of("pcgrad", rows) @ rows).numpy()
        distances = [np.linalg.norm(found - result) for result in results]
        assert min(distances) < 1e-9 * np.linalg.norm(found), seed
        seen.add(int(np.argmin(distances)))
        assert torch.equal(weights_of("pcgrad", rows), weights_of("pcgrad", rows))
    assert m == 2 or len(seen) > 1, "from three gradients on, the order is random"


def test_pcgrad_leaves_the_random_state_of_every_device_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)  # what torch.manual_seed does to a GPU
    before = torch.get_rng_state()
    weights_of("pcgrad", gradients(3, 5, 0))
    assert seeds == [] and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_fairgrad_weighs_inversely_to_what_is_gained(m: int, n: int, length: float) -> None:
    """FairGrad's weights solve (G Gᵀ) w = 1 / w."""
    for seed in range(10):
        rows = length * gradients(m, n, seed)
        weights = weights_of("fairgrad", rows)
        assert (weights > 0).all()
        assert (weights * (rows @ (weights @ rows))).tolist() == pytest.approx([1.0] * m, rel=1e-3), seed


@pytest.mark.parametrize("name", NAMES)
class TestEveryWeightingOfTorchjd:
    def test_degenerate_gradients_have_finite_weights(self, name: str) -> None:
        row = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        other = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for rows in ([row, row], [row, 3 * row], [row, -row], [row, -0.3 * row], [row, 0 * row], [0 * row, 0 * row],
                     [row, (1 + 1e-12) * row], [row, row, row], [row, row, -row], [row, other, 0 * row],
                     [row, other, row - other], [1e-30 * row, -1e-30 * other], [1e12 * row, -1e-6 * row]):
            weights = weights_of(name, torch.stack(rows))
            assert weights.shape == (len(rows),) and weights.dtype == torch.float64 and weights.isfinite().all(), rows

    def test_one_objective_has_weight_one_and_nan_is_not_hidden(self, name: str) -> None:
        assert weights_of(name, torch.full((1, 3), 7.0)).tolist() == [1.0]
        assert weights_of(name, torch.tensor([[1.0, 0], [float("nan"), 1]])).isnan().all()

    def test_common_scale_turns_no_step(self, name: str) -> None:
        """Scaling all gradients by one factor does not change the direction of the step."""
        rows = gradients(3, 6, seed=3)
        steps = [torch.nn.functional.normalize(weights_of(name, length * rows) @ (length * rows), dim=0) for length in LENGTHS]
        if name == "pcgrad":  # another Gramian, another order: only the pair is free of it
            rows = rows[:2]
            steps = [torch.nn.functional.normalize(weights_of(name, length * rows) @ rows, dim=0) for length in LENGTHS]
        assert all(torch.allclose(step, steps[0], atol=1e-5) for step in steps)

    def test_the_order_of_the_objectives_does_not_matter(self, name: str) -> None:
        """Weighting commutes with permutations: the weights of permuted gradients are the permuted weights."""
        for m in (2,) if name == "pcgrad" else (2, 3, 4):
            for seed in range(6):
                rows = gradients(m, 6, seed)
                order = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
                assert torch.allclose(weights_of(name, rows[order]), weights_of(name, rows)[order], rtol=1e-4), (m, seed)

    def test_global_random_state_is_neither_used_nor_changed(self, name: str) -> None:
        rows = gradients(4, 6, seed=1)
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = weights_of(name, rows)
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(2)
        assert torch.equal(first, weights_of(name, rows))
