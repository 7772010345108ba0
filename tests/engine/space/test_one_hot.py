"""A discrete architecture with a supernet's weights: equal to the reference's modules picked one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NONE, PRIMITIVES, Cell, Genotype
from engine.errors import ConfigError, GenotypeError
from engine.search.methods.random_search.sampling import random_genotype
from engine.space.one_hot import one_hot
from engine.space.supernet import Supernet
from tests.engine.space.test_supernet import assert_equal
from tests.reference_supernet import ReferenceSupernet, channel_shuffle

ARNAS, DARTS = ("robust", "reduce", "accurate"), ("normal", "reduce")
WITH_NONE = (NONE, *PRIMITIVES)
# channels, layers, kinds, primitives, K, edge weights, back end
CASES = [
    (4, 5, ARNAS, PRIMITIVES, 1, False, None),
    (4, 4, ARNAS, PRIMITIVES, 1, False, "dense"),
    (4, 4, DARTS, WITH_NONE, 1, False, "merged"),
    (4, 4, DARTS, PRIMITIVES[::-1], 1, False, "channels_last"),
    (8, 4, DARTS, WITH_NONE, 4, True, None),
]


def pair(channels: int, layers: int, kinds: tuple[str, ...], primitives: tuple[str, ...], partial: int, edge_weights: bool,
         backend: str | None) -> tuple[ReferenceSupernet, Supernet, Tensor]:
    """Return the reference and the merged supernet with equal weights in float64."""
    reference = ReferenceSupernet(channels, layers, 10, (1, 8, 8), kinds, primitives, partial=partial,
                                  edge_weights=edge_weights).double()
    supernet = Supernet(kinds=kinds, channels=channels, layers=layers, classes=10, image_shape=(1, 8, 8), backend=backend,
                        primitives=primitives, partial=partial, edge_weights=edge_weights)
    return reference, supernet, supernet.load_darts_state_dict(reference.state_dict())[0]


def picked(op: Any, primitives: tuple[str, ...], name: str, x: Tensor) -> Tensor:
    """Apply one operation of a reference's edge; with partial channels, the others pass by and all are shuffled."""
    selected = x.shape[1] // op.partial
    y = op._ops[primitives.index(name)](x[:, :selected])
    if op.partial == 1:
        return y
    others = F.max_pool2d(x[:, selected:], 2, 2) if op.stride == 2 else x[:, selected:]
    return channel_shuffle(torch.cat([y, others], dim=1), op.partial)


def discrete(reference: ReferenceSupernet, primitives: tuple[str, ...], genotype: Genotype, x: Tensor) -> Tensor:
    """Compute the logits of the network that has only the genotype's operations, taken from the reference supernet."""
    s0 = s1 = reference.stem(x)
    for cell, kind in zip(reference.cells, reference.cell_kinds, strict=True):
        states, edges = [cell.preprocess0(s0), cell.preprocess1(s1)], genotype.cell(kind).edges
        for node in range(4):
            first = node * (node + 3) // 2  # edges into the nodes before: 2 + 3 + ... + (node + 1)
            states.append(sum(picked(cell._ops[first + state], primitives, name, states[state])
                              for name, state in edges[2 * node:2 * node + 2]))
        s0, s1 = s1, torch.cat(states[2:], dim=1)
    return reference.classifier(s1.mean(dim=(2, 3)))


def repeated(kinds: tuple[str, ...]) -> Genotype:
    """Return a genotype whose nodes read the same input twice, with different operations or the same one."""
    edges = (("skip_connect", 0), ("sep_conv_3x3", 0), ("dil_conv_5x5", 1), ("dil_conv_5x5", 1), ("max_pool_3x3", 2),
             ("skip_connect", 3), ("avg_pool_3x3", 4), ("sep_conv_5x5", 0))
    return Genotype(tuple((kind, Cell(edges, (2, 3, 4, 5))) for kind in kinds))


@pytest.mark.parametrize(("channels", "layers", "kinds", "primitives", "partial", "edge_weights", "backend"), CASES)
def test_one_hot_weights_compute_the_network_of_the_genotypes_own_operations(
        channels: int, layers: int, kinds: tuple[str, ...], primitives: tuple[str, ...], partial: int, edge_weights: bool,
        backend: str | None) -> None:
    reference, supernet, weights = pair(channels, layers, kinds, primitives, partial, edge_weights, backend)
    generator = torch.Generator().manual_seed(4)
    y = torch.randint(10, (6,))
    for genotype in (*(random_genotype(kinds, generator) for _ in range(3)), repeated(kinds)):
        x = torch.rand(6, 1, 8, 8, dtype=torch.float64, requires_grad=True)
        theirs = discrete(reference, primitives, genotype, x)
        ours = supernet.weighted_logits(x, weights, one_hot(supernet, genotype).double())
        assert_equal(ours, theirs, "logits")
        gradients = [torch.autograd.grad(F.cross_entropy(logits, y), x)[0] for logits in (ours, theirs)]
        assert_equal(*gradients, "input gradient")


def test_softmaxed_alphas_as_weights_are_the_supernet_itself() -> None:
    _, supernet, weights = pair(4, 4, ARNAS, PRIMITIVES, 1, False, None)
    alphas = 500 * supernet.initial_alphas(torch.Generator().manual_seed(0), torch.float64)
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    operations = F.softmax(alphas.view(3, 14, 7), dim=-1)
    assert torch.equal(supernet.weighted_logits(x, weights, operations), supernet.logits(x, weights, alphas))


@pytest.mark.parametrize("primitives", [PRIMITIVES, WITH_NONE])
def test_none_contributes_nothing(primitives: tuple[str, ...]) -> None:
    _, supernet, _ = pair(4, 4, DARTS, primitives, 1, False, None)
    cells = {kind: repeated(DARTS).cell(kind) for kind in DARTS}
    edges = ((NONE, 0), *cells["normal"].edges[1:])
    weights = one_hot(supernet, Genotype((("normal", Cell(edges, (2, 3, 4, 5))), ("reduce", cells["reduce"]))))
    assert weights.sum().item() == 15 and weights[0].sum(0)[primitives.index("skip_connect")] == 1


def test_architectures_outside_the_space_are_refused() -> None:
    supernet = Supernet(kinds=DARTS, channels=4, layers=4, classes=10, image_shape=(1, 8, 8))
    edges = repeated(DARTS).cell("normal").edges
    for cell in (Cell((("sep_conv_7x7", 0), *edges[1:]), (2, 3, 4, 5)), Cell(edges, (3, 4, 5)), Cell(edges[:6], (2, 3, 4))):
        with pytest.raises(GenotypeError, match="train this genotype"):
            one_hot(supernet, Genotype((("normal", cell), ("reduce", Cell(edges, (2, 3, 4, 5))))))
    with pytest.raises(GenotypeError, match="cell kinds normal, reduce, got accurate"):
        one_hot(supernet, repeated(ARNAS))
    with pytest.raises(ConfigError, match="must have the shape"):
        supernet.weighted_logits(torch.rand(2, 3, 8, 8), supernet.initial_weights(torch.Generator()),
                                 one_hot(supernet, repeated(DARTS)))
