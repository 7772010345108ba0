"""Partial channels and edge weights: the merged supernet equals the plain one in float64, on every back end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import EDGES, NONE, PRIMITIVES
from engine.errors import CheckpointError, ConfigError
from engine.space.layout import buffer_layout, cell_shapes, weight_layout
from engine.space.partial import edge_softmax, shuffled
from engine.space.state import BACKENDS
from engine.space.supernet import Supernet
from tests.darts_state import darts_state_dict
from tests.engine.space.test_supernet import assert_equal
from tests.reference_supernet import ReferenceSupernet, channel_shuffle

ARNAS, DARTS = ("robust", "reduce", "accurate"), ("normal", "reduce")
WITH_NONE = (NONE, *PRIMITIVES)
# channels, layers, image shape, batch, kinds, K, edge weights, back end
CASES = [
    (8, 3, (1, 8, 8), 3, DARTS, 4, True, "dense"),
    (8, 3, (3, 8, 8), 2, DARTS, 4, True, "merged"),
    (8, 3, (3, 8, 4), 4, DARTS, 4, True, "channels_last"),
    (12, 4, (3, 4, 8), 2, ARNAS, 3, True, None),
    (4, 4, (3, 8, 4), 4, ARNAS, 2, False, "channels_last"),
    (2, 3, (1, 8, 8), 2, DARTS, 1, True, None),
]


def pair(channels: int, layers: int, shape: tuple[int, int, int], kinds: tuple[str, ...], partial: int, edge_weights: bool,
         backend: str | None = None) -> tuple[ReferenceSupernet, Supernet, Tensor, Tensor, Tensor]:
    """Return the reference and the merged supernet, float64, with equal weights, buffers, alphas and betas (clearly unequal)."""
    reference = ReferenceSupernet(channels, layers, 10, shape, kinds, WITH_NONE, partial=partial,
                                  edge_weights=edge_weights).double()
    for parameter in (*reference.alphas.values(), *reference.betas.values()):
        parameter.data.mul_(500)
    supernet = Supernet(kinds=kinds, channels=channels, layers=layers, classes=10, image_shape=shape, backend=backend,
                        primitives=WITH_NONE, partial=partial, edge_weights=edge_weights)
    weights, buffers, alphas = supernet.load_darts_state_dict(reference.state_dict())
    assert alphas is not None
    return reference, supernet, weights, buffers, alphas


def architecture(reference: ReferenceSupernet) -> list[torch.nn.Parameter]:
    """Return alphas and betas in the order of the flat vector."""
    return [*reference.alphas.values(), *reference.betas.values()]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@pytest.mark.parametrize(("channels", "layers", "shape", "batch", "kinds", "partial", "edge_weights", "backend"), CASES)
def test_equals_the_reference(channels: int, layers: int, shape: tuple[int, int, int], batch: int, kinds: tuple[str, ...],
                              partial: int, edge_weights: bool, backend: str | None) -> None:
    reference, supernet, weights, buffers, alphas = pair(channels, layers, shape, kinds, partial, edge_weights, backend)
    x = torch.rand(batch, *shape, dtype=torch.float64, requires_grad=True)  # noise: no ties in the max-pools
    y = torch.randint(10, (batch,))
    parameters = reference.weight_parameters()
    logits = reference(x)
    theirs = torch.autograd.grad(F.cross_entropy(logits, y), [x, *parameters.values(), *architecture(reference)])
    weights.requires_grad_()
    alphas.requires_grad_()
    merged = supernet.logits(x, weights, alphas, buffers=buffers, update_buffers=True)
    ours = torch.autograd.grad(F.cross_entropy(merged, y), [x, weights, alphas])

    assert_equal(merged, logits, "logits")
    assert_equal(ours[0], theirs[0], "input gradient")
    assert_equal(ours[2], flat(list(theirs[1 + len(parameters):])), "gradient of alphas and betas")
    by_name = darts_state_dict(supernet, ours[1])
    assert by_name.keys() == parameters.keys()
    for name, gradient in zip(parameters, theirs[1:]):
        assert_equal(by_name[name], gradient, name)
    found, expected = darts_state_dict(supernet, weights, buffers, alphas), reference.state_dict()
    assert found.keys() == {name for name in expected if not name.endswith("num_batches_tracked")}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-13, msg=name)
    reference.eval()
    assert_equal(supernet.logits(x, weights, alphas, buffers=buffers, running_statistics=True), reference(x), "evaluation")


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "compiled"])
def test_gradients_are_differentiable_again(backend: str) -> None:
    """An exact Hessian-vector product by autograd equals the reference's."""
    reference, supernet, weights, _, alphas = pair(4, 3, (1, 8, 8), DARTS, 2, True, backend)
    x, y = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.randint(10, (4,))
    weights.requires_grad_()
    alphas.requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(supernet.logits(x, weights, alphas), y), weights, create_graph=True)
    (ours,) = torch.autograd.grad(gradient.square().sum(), alphas)
    parameters = list(reference.weight_parameters().values())
    gradients = torch.autograd.grad(F.cross_entropy(reference(x), y), parameters, create_graph=True)
    theirs = torch.autograd.grad(sum(g.square().sum() for g in gradients), architecture(reference))
    assert_equal(ours, flat(list(theirs)), "mixed second derivative")


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "compiled"])
def test_no_host_synchronisation(backend: str) -> None:
    """Tensors on the meta device have shapes but no values: code that waits for a value fails."""
    supernet = Supernet(kinds=DARTS, primitives=WITH_NONE, channels=4, layers=3, classes=10, image_shape=(1, 8, 8), partial=2,
                        edge_weights=True, backend=backend)
    x, weights, alphas, buffers = (torch.zeros(*shape, device="meta", requires_grad=i < 3) for i, shape in enumerate(
        [(2, 1, 8, 8), (supernet.layout.size,), (supernet.alpha_size,), (supernet.buffers.size,)]))
    logits = supernet.logits(x, weights, alphas, buffers=buffers, update_buffers=True)
    assert logits.shape == (2, 10) and logits.device.type == "meta"
    gradients = torch.autograd.grad(logits.sum(), [x, weights, alphas])
    assert [g.shape for g in gradients] == [x.shape, weights.shape, alphas.shape]


@pytest.mark.parametrize(("channels", "groups"), [(8, 4), (8, 2), (12, 3), (6, 6)])
def test_shuffling_deals_the_channels_out_as_published(channels: int, groups: int) -> None:
    x = torch.arange(2.0 * channels * 3 * 4).view(2, channels, 3, 4)
    size = channels // groups
    ours = shuffled(x[:, :size], x[:, size:])
    # Group by group, transposed: Xu et al., released code, and Zhang et al. 2018 (ShuffleNet), where it comes from.
    assert torch.equal(ours, x.view(2, groups, size, 3, 4).transpose(1, 2).reshape(x.shape))
    assert torch.equal(ours, channel_shuffle(x, groups))


def test_every_state_reads_channels_that_each_group_wrote() -> None:
    """With C a multiple of K^2 the first C / K channels of a shuffled node come from all K groups in equal parts."""
    numbers = torch.arange(32.0).view(1, 32, 1, 1)
    first = shuffled(numbers[:, :8], numbers[:, 8:])[0, :8].flatten()
    assert (first // 8).unique(return_counts=True)[1].tolist() == [2, 2, 2, 2]


def test_edge_weights_of_a_node_add_up_to_one_and_follow_its_betas_alone() -> None:
    betas = torch.randn(3, len(EDGES), dtype=torch.float64)
    weights = edge_softmax(betas)
    nodes = torch.tensor([node for _, node in EDGES])
    for node in range(2, 6):
        assert torch.allclose(weights[:, nodes == node], betas[:, nodes == node].softmax(-1), rtol=1e-14, atol=0)
    moved = betas + torch.where(nodes == 4, 7.0, 0.0)  # the same for all edges of a node: nothing changes
    torch.testing.assert_close(edge_softmax(moved), weights)


def test_equal_betas_divide_every_node_by_the_number_of_its_edges() -> None:
    """Without partial channels, zero betas equal the plain supernet with rows of alpha divided by the in-degree of the node."""
    arguments = {"kinds": DARTS, "channels": 2, "layers": 3, "classes": 3, "image_shape": (1, 8, 8)}
    plain, weighted = Supernet(**arguments), Supernet(**arguments, edge_weights=True)
    assert plain.layout.entries == weighted.layout.entries and plain.buffers.entries == weighted.buffers.entries
    alphas = torch.cat([plain.initial_alphas(torch.Generator().manual_seed(2)), torch.zeros(28)])
    share = torch.tensor([1 / node for _, node in EDGES]).unsqueeze(-1)
    for kind, rows in weighted._rows(alphas).items():
        order = torch.argsort(torch.tensor([state for state, _ in EDGES]), stable=True)
        torch.testing.assert_close(rows, plain._rows(alphas[:-28])[kind] * share[order])


def test_the_flat_alphas_end_with_the_betas() -> None:
    supernet = Supernet(kinds=DARTS, channels=8, layers=3, classes=3, image_shape=(1, 8, 8), primitives=WITH_NONE, partial=4,
                        edge_weights=True)
    assert supernet.alpha_size == 2 * 14 * 8 + 2 * 14
    alphas = supernet.initial_alphas(torch.Generator().manual_seed(1))
    assert 5e-4 < float(alphas.std()) < 2e-3
    assert {kind: tuple(view.shape) for kind, view in supernet.alpha_views(alphas).items()} == supernet.alpha_shape
    views = supernet.beta_views(alphas)
    assert torch.equal(torch.cat([views["normal"], views["reduce"]]), alphas[-28:])
    views["reduce"][3] = 5.0
    assert alphas[-14 + 3] == 5.0
    with pytest.raises(CheckpointError, match="flat alphas must have 252 entries"):
        supernet.beta_views(alphas[:-28])
    assert Supernet(channels=8, layers=3, classes=3, image_shape=(1, 8, 8)).beta_views(torch.zeros(294)) == {}


def transcribed(alphas: Tensor, betas: Tensor) -> list[tuple[str, int]]:
    """Discretise one cell edge by edge as the paper describes it: alphas [14, 8], betas [14]."""
    chosen, first = [], 0
    for node in range(4):
        count = 2 + node
        strength = betas[first:first + count].exp() / betas[first:first + count].exp().sum()
        candidates = []
        for state in range(count):
            probabilities = alphas[first + state].exp() / alphas[first + state].exp().sum()
            weight, column = max((float(probabilities[k] * strength[state]), k) for k in range(8) if WITH_NONE[k] != NONE)
            candidates.append((weight, WITH_NONE[column], state))
        chosen += [(name, state) for _, name, state in sorted(candidates, reverse=True)[:2]]
        first += count
    return chosen


def test_the_genotype_compares_alpha_times_beta() -> None:
    supernet = Supernet(kinds=DARTS, channels=8, layers=3, classes=3, image_shape=(1, 8, 8), primitives=WITH_NONE, partial=4,
                        edge_weights=True)
    differs = 0
    for seed in range(20):
        alphas = torch.randn(supernet.alpha_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        genotype, betas = supernet.genotype(alphas), supernet.beta_views(alphas)
        for kind, view in supernet.alpha_views(alphas).items():
            assert list(genotype.cell(kind).edges) == transcribed(view, betas[kind])
            differs += transcribed(view, betas[kind]) != transcribed(view, torch.zeros(14))
    assert differs > 10, "the betas must matter"


def test_without_partial_channels_nothing_is_packed_otherwise() -> None:
    plain, partial = (cell_shapes(DARTS, 8, 4, (1, 8, 8), partial=k) for k in (1, 4))
    assert plain == cell_shapes(DARTS, 8, 4, (1, 8, 8))
    for layout in (lambda cells: weight_layout(cells, 3, 1), buffer_layout):
        names = [[entry.name for entry in layout(cells).entries] for cells in (plain, partial)]
        assert names[0] == names[1]
    assert [cell.selected for cell in plain] == [8, 16, 32, 32] and [cell.selected for cell in partial] == [2, 4, 8, 8]
    shapes = {entry.name: entry.shape for entry in weight_layout(partial, 3, 1).entries}
    assert shapes["cells.1.states.0.reduce"] == (2, 4, 2, 4) and shapes["cells.1.preprocess1"] == (16, 32)


def test_the_compiled_back_end_leaves_partial_cells_to_the_others() -> None:
    arguments = {"channels": 8, "layers": 3, "classes": 3, "image_shape": (1, 8, 8)}
    partial = Supernet(**arguments, partial=4)
    assert partial.backends("cpu") == partial.backends("cpu", compiled=False) == ["dense"] * 3
    x, weights = torch.rand(2, 1, 8, 8), partial.initial_weights(torch.Generator().manual_seed(0))
    alphas = partial.initial_alphas(torch.Generator().manual_seed(0))
    asked = Supernet(**arguments, partial=4, backend="compiled")
    assert torch.equal(asked.logits(x, weights, alphas), partial.logits(x, weights, alphas))
    # Edge weights alone are only other rows: every back end has them.
    assert Supernet(**arguments, edge_weights=True).backends("cpu") == Supernet(**arguments).backends("cpu")


@pytest.mark.parametrize(("channels", "partial", "sentence"), [
    (8, 3, "channels must be a multiple of 6 .*got 8; take 12"), (12, 4, "multiple of 8 .*got 12; take 16"),
    (4, 4, "take 8"), (8, 0, "partial must be at least 1")])
def test_sizes_that_cannot_be_are_refused(channels: int, partial: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Supernet(channels=channels, layers=3, classes=3, image_shape=(1, 8, 8), partial=partial)


def test_files_of_another_kind_of_supernet_are_refused() -> None:
    _, weighted, weights, buffers, alphas = pair(4, 3, (1, 8, 8), DARTS, 2, True)
    state = darts_state_dict(weighted, weights, buffers, alphas)
    arguments = {"kinds": DARTS, "channels": 4, "layers": 3, "classes": 10, "image_shape": (1, 8, 8), "primitives": WITH_NONE}
    with pytest.raises(CheckpointError, match="got also betas_normal, betas_reduce"):
        Supernet(**arguments, partial=2).load_darts_state_dict(state)
    with pytest.raises(CheckpointError, match="must have the shape"):
        Supernet(**arguments, edge_weights=True).load_darts_state_dict(state)
    del state["betas_reduce"]
    with pytest.raises(CheckpointError, match="missing betas_reduce"):
        weighted.load_darts_state_dict(state)
