"""Sizes as functions of the alphas: published numbers, the cost and real modules as oracles, gradients in closed form."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.architecture.cost import cost
from engine.architecture.genotype import EDGES, KINDS_OF_DARTS, NODES, NONE, OPERATIONS, PRIMITIVES, Cell, Genotype
from engine.search.bilevel import Bilevel
from engine.search.minimum_norm import of_two
from engine.search.size import (
    bounded,
    expected,
    module_macs,
    module_parameters,
    published_macs,
    published_parameters,
    range_of,
    same_quantile,
    size_objective,
)
from engine.search.weighting import gramian_of
from engine.space.network import Network
from engine.space.supernet import Supernet

COLUMNS = (NONE, *PRIMITIVES)
TABLES = (published_parameters, module_parameters, published_macs, module_macs)
# L of the published runs (papers: E2RNAS V1).
BOUNDS = (5e5, 6e5, 8e5, 9e5, 1e6, 1.1e6, 1.2e6)


def darts(channels: int = 16, layers: int = 8, image_shape: tuple[int, int, int] = (3, 32, 32)) -> Supernet:
    return Supernet(kinds=KINDS_OF_DARTS, channels=channels, layers=layers, classes=10, image_shape=image_shape,
                    primitives=COLUMNS)


def table_of(make, supernet: Supernet) -> Tensor:
    return make(supernet.cells, supernet.kinds, supernet.primitives)


def uniform(supernet: Supernet) -> Tensor:
    return torch.zeros(supernet.alpha_size, dtype=torch.float64)


def random_alphas(supernet: Supernet, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(supernet.alpha_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(genotype: Genotype) -> Tensor:
    """Return alphas whose softmax is 1 at a genotype's operations and, on all other edges, at "none"."""
    alphas = torch.full((2, len(EDGES), len(COLUMNS)), -1e4, dtype=torch.float64)
    for i, kind in enumerate(KINDS_OF_DARTS):
        kept = {(state, node): operation for operation, state, node in genotype.cell(kind).incoming()}
        for e, edge in enumerate(EDGES):
            alphas[i, e, COLUMNS.index(kept.get(edge, NONE))] = 0.0
    return alphas.flatten()


def random_genotype(seed: int, operations: tuple[str, ...] = PRIMITIVES) -> Genotype:
    generator = torch.Generator().manual_seed(seed)
    cells = []
    for kind in KINDS_OF_DARTS:
        edges = []
        for node in range(2, 2 + NODES):
            for state in torch.randperm(node, generator=generator)[:2].tolist():
                edges.append((operations[int(torch.randint(len(operations), (), generator=generator))], state))
        cells.append((kind, Cell(tuple(edges), (2, 3, 4, 5))))
    return Genotype(tuple(cells))


def test_the_published_sum_at_equal_alphas_is_the_one_of_the_released_code() -> None:
    supernet = darts()
    assert expected(table_of(published_parameters, supernet), uniform(supernet)).item() == pytest.approx(1_831_168, abs=1e-6)
    # Each edge once it is 381,952 at most: fourteen times that, since the largest operation costs every column the same.
    assert range_of(table_of(published_parameters, supernet)) == pytest.approx((0, 14 * 381_952))
    assert expected(table_of(module_parameters, supernet), uniform(supernet)).item() == pytest.approx(235_808)
    assert expected(table_of(published_macs, supernet), uniform(supernet)).item() == pytest.approx(284_336_896)


def test_the_published_sum_is_the_product_of_alphas_and_costs_summed_over_its_columns() -> None:
    """The released formula, cell by cell as a matrix product."""
    supernet = darts()
    alphas = random_alphas(supernet, 0)
    views = {kind: view.softmax(dim=-1) for kind, view in supernet.alpha_views(alphas).items()}
    indegrees = torch.tensor([node for _, node in EDGES], dtype=torch.float64)
    total = once = 0.0
    for c, reduces in zip((16, 16, 32, 32, 32, 64, 64, 64), (0, 0, 1, 0, 0, 1, 0, 0)):
        costs = torch.zeros(8, 14, dtype=torch.float64)
        for row, value in zip((4, 5, 6, 7), (2 * (c**2 + 9 * c), 2 * (c**2 + 25 * c), c**2 + 9 * c, c**2 + 25 * c)):
            costs[row] = value
        if reduces:
            costs[3] = torch.tensor([c**2 if state < 2 else 0 for state, _ in EDGES])
        mixed = views["reduce" if reduces else "normal"]
        total += (2 * (mixed @ costs).sum(dim=1) / indegrees).sum().item()
        uniform_mix = torch.full((14, 8), 1 / 8, dtype=torch.float64)
        once += (2 * (uniform_mix * costs.T).sum(dim=1) / indegrees).sum().item()
    assert once == pytest.approx(131_157, abs=0.5)
    assert expected(table_of(published_parameters, supernet), alphas).item() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_published_size_objective_is_inert(bound: float) -> None:
    """max(1, L - N) is 1 and its gradient exactly zero at every start, so a solver gives it the weight 0.999.

    The released code of 2020 accumulates the gradients before the solver sees the second, so accuracy gets the 0.999.
    """
    supernet = darts()
    size = size_objective("parameters", table_of(published_parameters, supernet), "min", bound)
    for seed in range(20):
        alphas = random_alphas(supernet, seed, scale=0.1)
        gradient, value = Bilevel().alpha_gradient(size, torch.zeros(3), alphas)
        assert value.loss.item() == 1.0
        assert (gradient == 0).all()
        of_accuracy = random_alphas(supernet, 100 + seed)
        assert of_two(gramian_of(torch.stack([of_accuracy, gradient])), 0.001).tolist() == pytest.approx([0.001, 0.999])
        added = torch.stack([of_accuracy, of_accuracy + gradient])
        assert of_two(gramian_of(added), 0.001).tolist() == pytest.approx([0.999, 0.001])


def test_a_collapsing_network_wakes_the_bound() -> None:
    """Below the lower bound of the expected size, the loss exceeds one and descending it strengthens convolutions."""
    supernet = darts()
    size = size_objective("parameters", table_of(published_parameters, supernet), "min", 1e6)
    alphas = uniform(supernet).view(2, 14, 8).clone()
    alphas[..., 0] = 5.0  # towards "none"
    gradient, value = Bilevel().alpha_gradient(size, torch.zeros(3), alphas.flatten())
    assert value.loss.item() > 1
    convolutions = gradient.view(2, 14, 8)[..., 4:]
    assert (convolutions < 0).all()  # descending makes the convolutions stronger


def test_at_the_same_quantile_of_its_range_a_repaired_count_is_at_rest_too() -> None:
    """A bound moved to the same quantile of another range is inactive there too at equal alphas, and moving it is invertible."""
    supernet = darts()
    published, modules = table_of(published_parameters, supernet), table_of(module_parameters, supernet)
    rescaled = same_quantile(1e6, published, modules)
    assert rescaled / range_of(modules)[1] == pytest.approx(1e6 / range_of(published)[1])
    assert same_quantile(rescaled, modules, published) == pytest.approx(1e6)
    value = size_objective("parameters", modules, "min", rescaled)(torch.zeros(3), uniform(supernet)).loss
    assert value.item() == 1.0


@pytest.mark.parametrize(("channels", "layers", "image_shape"), [(16, 8, (3, 32, 32)), (4, 5, (1, 8, 8)), (6, 4, (3, 12, 20))])
def test_at_one_hot_alphas_a_count_of_modules_is_engine_cost(channels: int, layers: int,
                                                           image_shape: tuple[int, int, int]) -> None:
    """At one-hot alphas the expected count is the cost of the genotype minus that of a network without operations."""
    supernet = darts(channels, layers, image_shape)
    sizes = {"channels": channels, "layers": layers, "classes": 10, "image_shape": image_shape}
    nothing = cost(random_genotype(0, (NONE,)), **sizes)
    for seed in range(20):
        genotype = random_genotype(seed, COLUMNS)
        whole = cost(genotype, **sizes)
        alphas = one_hot(genotype)
        assert expected(table_of(module_parameters, supernet), alphas).item() == whole.parameters - nothing.parameters
        assert expected(table_of(module_macs, supernet), alphas).item() == whole.macs - nothing.macs


def test_at_one_hot_alphas_a_count_of_modules_is_that_of_the_derived_network() -> None:
    supernet = darts(4, 5, (1, 8, 8))
    for seed in range(5):
        genotype = random_genotype(seed)
        network = Network(genotype, channels=4, layers=5, classes=10, image_shape=(1, 8, 8))
        on_edges = sum(parameter.numel() for cell in network.cells for parameter in cell._ops.parameters())
        assert expected(table_of(module_parameters, supernet), one_hot(genotype)).item() == on_edges


def test_columns_follow_the_primitives_and_rows_the_kinds() -> None:
    for make in TABLES:
        cells, columns = darts().cells, ("sep_conv_5x5", *COLUMNS[:-3], *COLUMNS[-2:])
        straight = make(cells, KINDS_OF_DARTS, COLUMNS)
        turned = make(cells, KINDS_OF_DARTS[::-1], columns)
        order = [COLUMNS.index(name) for name in columns]
        assert torch.equal(turned, straight.flip(0)[:, :, order])
    assert set(COLUMNS) <= set(OPERATIONS)


def test_bounds_by_hand() -> None:
    low, high = 3.0, 7.0
    expected_losses = {
        "none": (2, 4, 9), "max": (1, 1, 2), "min": (1, 1, 1), "min_later": (3, 4, 9), "abs": (1, 1, 6), "both": (3, 5, 11)}
    for how, losses in expected_losses.items():
        for count, loss in zip((2.0, 4.0, 9.0), losses):
            assert bounded(torch.tensor(count), how, low, high).item() == loss, (how, count)
    assert bounded(torch.tensor(0.5), "min", low, high).item() == 2.5
    assert bounded(torch.tensor(-1.0), "both", low, high).item() == 3.0


@pytest.mark.parametrize("make", TABLES)
@pytest.mark.parametrize(("how", "slope", "bounds"), [
    ("none", 1, (0, 0)), ("max", 1, (0, 0.1)), ("max", 0, (0, 9e9)), ("min", -1, (9e9, 0)), ("min", 0, (0, 0)),
    ("min_later", 1, (0, 0)), ("min_later", 0, (9e9, 0)), ("abs", 1, (0, 0)), ("abs", -1, (9e9, 0)), ("both", 2, (0, 0.1)),
    ("both", 1, (0, 9e9)), ("both", 0, (9e9, 9e9))])
def test_gradient_is_the_closed_form(make, how: str, slope: int, bounds: tuple[float, float]) -> None:
    """d/d alpha_o = +-p_o (T_o - sum p T) on either side of the bound."""
    supernet = darts(4, 5, (1, 8, 8))
    table = table_of(make, supernet)
    size = size_objective("size", table, how, *bounds)
    for seed in range(3):
        alphas = random_alphas(supernet, seed)
        of_weights, of_alphas, value = Bilevel().both_gradients(size, torch.randn(5, dtype=torch.float64), alphas)
        share = alphas.view(table.shape).softmax(dim=-1)
        closed = slope * share * (table - (share * table).sum(dim=-1, keepdim=True))
        assert torch.allclose(of_alphas, closed.flatten(), rtol=1e-10, atol=1e-9 * table.max().item())
        assert torch.equal(of_weights, torch.zeros(5, dtype=torch.float64)) and value.accuracy is None


def test_gradient_by_finite_differences() -> None:
    supernet = darts(4, 5, (1, 8, 8))
    table = table_of(module_parameters, supernet) / 1e3
    assert torch.autograd.gradcheck(lambda alphas: size_objective("size", table, "abs", 4.0)(torch.zeros(1), alphas).loss,
                                    random_alphas(supernet, 0).requires_grad_(True))


def test_equal_kinds_compute_the_same_on_other_tables() -> None:
    tables = [table_of(make, darts(4, 5, (1, 8, 8))) for make in TABLES]
    alphas = random_alphas(darts(4, 5, (1, 8, 8)), 0)
    for one, other in itertools.pairwise(tables):
        moved = replace(size_objective("size", one, "abs", 4.0), inputs=(other,))
        assert moved.kind == size_objective("other", other, "abs", 4.0).kind != size_objective("other", other, "min", 4.0).kind
        assert moved(torch.zeros(1), alphas).loss == size_objective("size", other, "abs", 4.0)(torch.zeros(1), alphas).loss
