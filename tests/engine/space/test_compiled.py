"""The compiled back end equals the plain one in float64, is as accurate in float32, and reads and keeps only what it needs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import compress, product
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.errors import ConfigError
from engine.space.compiled.build import unavailable
from engine.space.compiled.calls import Block, cell_backward, cell_forward, stem_backward, stem_forward
from engine.space.compiled.memory import SCRATCH
from engine.space.layout import CellShape, Layout, StateShape, buffer_layout, edges_from, weight_layout
from engine.space.normalisation import Normalisation
from engine.space.state import BACKENDS
from engine.space.supernet import Supernet

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

# kind, channels, channels of the inputs, map size, batch. Few sizes are multiples of a vector or a tile. Batches of 4, 8 and 16
# have windows (kernels/windows.h) on processors whose registers hold 4 or 8 numbers.
CELLS = [
    ("normal", 2, (6, 6), (4, 4), 3), ("normal", 6, (3, 10), (3, 5), 7), ("normal", 10, (8, 24), (8, 4), 1),
    ("normal", 2, (2, 2), (1, 1), 3), ("normal", 24, (10, 6), (4, 6), 3), ("normal", 2, (2, 2), (1, 2), 5),
    ("normal", 4, (4, 2), (2, 1), 9), ("normal", 20, (5, 7), (2, 8), 64), ("normal", 4, (4, 4), (9, 20), 2),
    ("normal", 6, (4, 6), (6, 26), 4), ("normal", 4, (4, 4), (7, 14), 8), ("normal", 4, (2, 4), (10, 9), 16),
    ("reduction", 2, (6, 6), (4, 4), 3), ("reduction", 6, (3, 10), (2, 2), 7), ("reduction", 10, (8, 24), (8, 4), 1),
    ("reduction", 24, (10, 6), (4, 6), 3), ("reduction", 4, (1, 1), (2, 4), 64), ("reduction", 14, (2, 3), (12, 20), 2),
    ("reduction", 4, (4, 6), (12, 28), 4),
    ("after reduction", 2, (6, 6), (4, 4), 3), ("after reduction", 6, (3, 10), (1, 1), 7),
    ("after reduction", 10, (8, 24), (8, 4), 1), ("after reduction", 24, (10, 6), (4, 6), 3),
    ("after reduction", 4, (1, 5), (1, 2), 64),
]
NAMES = ("x0", "x1", "weights", "rows")


class CompiledCell(torch.autograd.Function):
    """The compiled kernels of one cell. Inputs and output are [C, H, W, B]."""

    @staticmethod
    def forward(ctx: Any, cell: CellShape, buffers: Tensor | None, *inputs: Tensor) -> Tensor:
        out, ctx.kept = cell_forward(cell, *inputs, buffers)
        ctx.save_for_backward(*inputs, out)
        ctx.cell = cell
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, out = ctx.saved_tensors
        gradients = [torch.empty_like(each) if wanted else None for each, wanted in zip(inputs, ctx.needs_input_grad[2:])]
        cell_backward(ctx.cell, g.clone(memory_format=torch.contiguous_format), inputs, out, ctx.kept, gradients)
        return None, None, *gradients


class CompiledStem(torch.autograd.Function):
    """The compiled kernels of the stem. Images and maps are [C, H, W, B]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, channels: int, buffers: Tensor) -> Tensor:
        out, ctx.kept = stem_forward(x, weights, channels, buffers)
        ctx.save_for_backward(x, weights)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weights = ctx.saved_tensors
        gradients = [torch.empty_like(each) if wanted else None for each, wanted in zip((x, weights), ctx.needs_input_grad)]
        stem_backward(g.contiguous(), x, weights, ctx.kept, *gradients)
        return *gradients, None, None


class Case:
    """One cell with random inputs, weights, softmaxed alphas and running statistics, float64."""

    def __init__(self, kind: str, channels: int, inputs: tuple[int, int], size: tuple[int, int], batch: int) -> None:
        states = tuple(StateShape(f"cells.0.states.{state}.", edges_from(state), 2 if kind == "reduction" and state < 2 else 1)
                       for state in range(5))
        self.shape = CellShape(0, "normal", kind == "reduction", kind == "after reduction", channels, inputs, size, states)
        self.layout: Layout = weight_layout([self.shape], 10, 3).part("cells.0.")
        self.buffers: Layout = buffer_layout([self.shape]).part("cells.0.")
        double = 2 if kind == "after reduction" else 1
        self.given = (torch.randn(batch, inputs[0], double * size[0], double * size[1], dtype=torch.float64),
                      torch.randn(batch, inputs[1], *size, dtype=torch.float64),
                      0.5 * torch.randn(self.layout.size, dtype=torch.float64), torch.rand(14, 7, dtype=torch.float64))

    def output(self, backend: str, *given: Tensor, buffers: Tensor | None = None) -> Tensor:
        """Return [B, 4 C, H', W'] from x0 and x1 before their ReLU, weights and rows."""
        x0, x1, weights, rows = given
        if backend == "compiled":
            x0, x1 = (x.permute(1, 2, 3, 0).contiguous() for x in (x0, x1))
            return CompiledCell.apply(self.shape, buffers, x0, x1, weights, rows).permute(3, 0, 1, 2)
        normalisation = Normalisation(None if buffers is None else self.buffers.views(buffers), running=False)
        return BACKENDS[backend].cell(self.shape, self.layout, F.relu(x0), F.relu(x1), weights, rows, normalisation)

    def gradients(self, backend: str, wanted: tuple[bool, ...] = (True,) * 4,
                  dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Return the output, the updated running statistics and the requested gradients, those of the weights by name."""
        given = [tensor.to(dtype, copy=True).requires_grad_(w) for tensor, w in zip(self.given, wanted)]
        buffers = torch.full((self.buffers.size,), 0.5, dtype=dtype)
        out = self.output(backend, *given, buffers=buffers)
        g = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
        asked = {name: tensor for name, tensor, w in zip(NAMES, given, wanted) if w}
        found = dict(zip(asked, torch.autograd.grad(out, list(asked.values()), g))) if asked else {}
        if "weights" in found:
            found |= self.layout.views(found.pop("weights"))
        return {"output": out.detach(), "running statistics": buffers} | found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = float((found[name] - value).abs().max()) / (float(value.abs().max()) or 1.0)
        assert error < 1e-10, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_gradient_equals_the_plain_one(cell: tuple) -> None:
    """The compiled back end computes the gradients of the plain one for inputs, weights and alphas, up to float64 rounding."""
    case = Case(*cell)
    assert_close(case.gradients("compiled"), case.gradients("merged"))


@pytest.mark.parametrize("cell", [("normal", 6, (3, 10), (3, 5), 7), ("reduction", 6, (3, 10), (2, 2), 7),
                                  ("after reduction", 6, (3, 10), (1, 1), 7), ("normal", 4, (4, 4), (7, 14), 8)], ids=str)
def test_each_gradient_is_the_same_whatever_else_is_asked_for(cell: tuple) -> None:
    """A gradient does not depend on which other gradients are requested with it."""
    case = Case(*cell)
    everything = case.gradients("compiled")
    for wanted in product((False, True), repeat=4):
        for name, value in case.gradients("compiled", wanted).items():
            assert torch.equal(value, everything[name]), f"{name} with {wanted}"


@pytest.mark.parametrize("cell", [("normal", 10, (6, 6), (8, 8), 16), ("reduction", 8, (6, 10), (8, 12), 8),
                                  ("after reduction", 6, (3, 10), (4, 4), 16)], ids=str)
def test_float32_is_no_farther_from_float64_than_the_plain_one(cell: tuple) -> None:
    """Over several seeds, because rounding across one kink of ReLU or max-pooling changes a single gradient a lot."""
    errors: dict[str, list[dict[str, float]]] = {"compiled": [], "merged": []}
    for _ in range(7):
        case = Case(*cell)
        exact = case.gradients("merged")
        for backend, found in errors.items():
            rounded = case.gradients(backend, dtype=torch.float32)
            found.append({name: float((rounded[name] - value).norm() / value.norm()) for name, value in exact.items()})
    ratios = {}
    for name in exact:
        ours, theirs = (median(found[name] for found in errors[backend]) for backend in ("compiled", "merged"))
        ratios[name] = ours / theirs
    assert median(ratios.values()) < 1.5, ratios
    assert max(ratios.values()) < 5, ratios  # 3 with vectors of four: the fewer partial sums, the more rounding


@pytest.mark.parametrize("kind", ["normal", "reduction", "after reduction"])
def test_ties_of_max_pooling_go_to_the_first_as_in_torch(kind: str) -> None:
    """Whole numbers only, so that sums are exact and equal pixels stay equal after BatchNorm in both back ends."""
    case = Case(kind, 6, (2, 3), (8, 12), 5)
    x0, x1, weights, rows = (tensor.clone() for tensor in case.given)
    for x in (x0, x1):
        x.copy_(torch.randint(3, x.shape))
        x[:2] = 1.0
        x[:, :, 2:5] = 2.0
    for name in ("cells.0.preprocess0", "cells.0.preprocess1"):
        view = case.layout.views(weights)[name]
        view.copy_(torch.randint(1, 5, view.shape))
    rows[:, 0] = 3.0  # max-pooling
    rows[8:, 0] = 0.0  # but not of nodes, whose pixels are equal up to rounding only
    found = []
    for backend in ("compiled", "merged"):
        inputs = [x0.clone().requires_grad_(), x1.clone().requires_grad_()]
        out = case.output(backend, *inputs, weights, rows)
        g = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found.append(torch.autograd.grad(out, inputs, g))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


SHAPE = (3, 8, 12)


def net(backend: str | None = "compiled", channels: int = 4, layers: int = 4) -> Supernet:
    return Supernet(channels=channels, layers=layers, classes=5, image_shape=SHAPE, backend=backend)


def point(supernet: Supernet, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return weights and clearly unequal alphas."""
    generator = torch.Generator().manual_seed(seed)
    return supernet.initial_weights(generator, dtype), 500 * supernet.initial_alphas(generator, dtype)


def broken(weights: Tensor, supernet: Supernet, value: float) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights with one entry replaced, for each named tensor of the cells; in kernels, the middle entry."""
    for entry in supernet.layout.entries:
        if entry.name.startswith("cells."):
            changed = weights.clone()
            view = supernet.layout.views(changed)[entry.name]
            at = (-1, -1, entry.shape[-1] // 2, entry.shape[-1] // 2) if "depthwise" in entry.name else (-1,) * view.dim()
            view[at] = value
            yield entry.name, changed


@pytest.mark.parametrize("batch", [3, 16])  # also one whose rows are whole vectors
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_never_hidden(value: float, batch: int) -> None:
    """A NaN or an infinity in the images or the weights reaches the logits."""
    supernet = net(channels=2, layers=3)
    weights, alphas = point(supernet, dtype=torch.float32)
    x = torch.rand(batch, *SHAPE)
    assert bool(supernet.logits(x, weights, alphas).isfinite().all())
    for name, changed in broken(weights, supernet, value):
        assert not bool(supernet.logits(x, changed, alphas).isfinite().all()), name
    x[1, 2, 3, 4] = value
    assert not bool(supernet.logits(x, weights, alphas).isfinite().any())


def test_running_statistics_are_left_to_a_plain_back_end() -> None:
    """Batch statistics enter the running statistics equally, whichever back end was chosen."""
    found = []
    for backend in ("compiled", "merged"):
        supernet = net(backend)
        weights, alphas = point(supernet)
        buffers, x = supernet.initial_buffers(torch.float64), torch.linspace(0, 1, 4 * 288, dtype=torch.float64).view(4, *SHAPE)
        for _ in range(2):
            supernet.logits(x, weights, alphas, buffers=buffers, update_buffers=True)
        found.append((buffers, supernet.logits(x.sin(), weights, alphas, buffers=buffers, running_statistics=True)))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def one_pass(supernet: Supernet, seed: int, batch: int = 5) -> list[Tensor]:
    """Return the logits and all gradients of a pass with inputs drawn from the seed."""
    weights, alphas = (tensor.requires_grad_() for tensor in point(supernet, seed, torch.float32))
    x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    logits = supernet.logits(x, weights, alphas)
    return [logits.detach(), *torch.autograd.grad(F.cross_entropy(logits, torch.arange(batch) % 5), [x, weights, alphas])]


def test_two_threads_at_once_compute_what_one_does() -> None:
    """The result of a pass is bit-equal, whether or not another thread computes at the same time."""
    supernet, seeds = net(), list(range(20))
    alone = [one_pass(supernet, seed) for seed in seeds]
    for _ in range(3):
        with ThreadPoolExecutor(2) as threads:
            beside = list(threads.map(lambda seed: one_pass(supernet, seed), seeds))
        for a, b in zip(alone, beside):
            assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_memory_goes_from_pass_to_pass() -> None:
    def kept() -> int:
        gc.collect()
        return sum(size * len(blocks) for size, blocks in Block.free.items())

    supernet = net()
    Block.free.clear()
    one_pass(supernet, 0)
    after_one = kept()
    assert after_one > 0
    for seed in range(50):
        one_pass(supernet, seed)
    assert kept() == after_one
    one_pass(supernet, 0, batch=2)
    one_pass(supernet, 0, batch=2)
    assert kept() < after_one, "what passes of another size left is not kept for ever"


def wanted_gradients(supernet: Supernet, wanted: tuple[bool, ...]) -> list[Tensor]:
    """Return the gradients of the images, the weights and the alphas, those that are wanted."""
    x = torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    given = [tensor.requires_grad_(each) for tensor, each in zip((x, *point(supernet)), wanted)]
    logits = supernet.logits(*given)
    return list(torch.autograd.grad(logits.square().sum(), [tensor for tensor, each in zip(given, wanted) if each]))


@pytest.mark.parametrize("wanted", [each for each in product((False, True), repeat=3) if any(each)], ids=str)
def test_each_gradient_of_a_supernet_is_the_same_whatever_else_is_asked_for(wanted: tuple[bool, ...]) -> None:
    """They are also those of a plain back end, up to float64 rounding."""
    everything = wanted_gradients(net(), (True,) * 3)
    found, plain = wanted_gradients(net(), wanted), wanted_gradients(net("merged"), wanted)
    for one, other, whole in zip(found, plain, compress(everything, wanted), strict=True):
        assert torch.equal(one, whole)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_graph_of_a_supernet_may_be_walked_twice_and_vectors_need_not_be_contiguous() -> None:
    supernet = net(layers=3)
    weights, alphas = (torch.stack([tensor, tensor], 1)[:, 0].requires_grad_() for tensor in point(supernet))
    x = torch.rand(3, *SHAPE, dtype=torch.float64).requires_grad_()
    logits = supernet.logits(x, weights, alphas)
    once, twice = (torch.autograd.grad(logits.square().sum(), [x, weights, alphas], retain_graph=True) for _ in range(2))
    contiguous = torch.autograd.grad(
        supernet.logits(x, weights.contiguous(), alphas.contiguous()).square().sum(), [x, weights, alphas])
    for a, b, c in zip(once, twice, contiguous, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_a_second_derivative_is_refused() -> None:
    supernet = net()
    weights, alphas = (tensor.requires_grad_() for tensor in point(supernet))
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(supernet.logits(x, weights, alphas).sum(), weights, create_graph=True)
    with pytest.raises(ConfigError, match="differentiated once"):
        torch.autograd.grad(gradient.sum(), alphas)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["images", "weights", "alphas"])
def test_a_second_derivative_of_a_loss_without_curvature_is_refused(which: int) -> None:
    """The loss is linear in the logits, so only the network's own second derivative is left. The input is a strided view."""
    supernet = net()
    given = [torch.rand(3, *SHAPE, dtype=torch.float64), *point(supernet)]
    given[which] = torch.stack([given[which]] * 2, -1)[..., 0].requires_grad_()
    (gradient,) = torch.autograd.grad(supernet.logits(*given).sum(), given[which], create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(ConfigError, match="supernet must be differentiated once"):
        torch.autograd.grad(gradient.square().sum(), given[which])


def test_a_pass_without_gradients_keeps_no_more_memory_than_one_cell() -> None:
    supernet = net()
    weights, alphas = (tensor.requires_grad_() for tensor in point(supernet, dtype=torch.float32))
    x = torch.rand(16, *SHAPE)
    kept = []
    for gradients in (True, False):
        Block.free.clear()
        with torch.set_grad_enabled(gradients):
            logits = supernet.logits(x, weights, alphas)
        del logits
        gc.collect()
        kept.append({size: len(blocks) for size, blocks in Block.free.items()})
    assert sum(kept[0].values()) > 1
    assert list(kept[1].values()) == [1]  # later cells replace the block, or use it again


def test_unlike_dtypes_are_refused() -> None:
    """The kernels get raw addresses: with another element size they would read and write out of bounds."""
    supernet = net()
    weights, alphas = point(supernet)
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    with pytest.raises(ConfigError, match="alphas must be torch.float64"):
        supernet.logits(x, weights, alphas.float())
    with pytest.raises(ConfigError, match="weights must be torch.float64"):
        supernet.logits(x, weights.float(), alphas)
    buffers = supernet.initial_buffers()
    with pytest.raises(ConfigError, match="buffers must be torch.float64"):
        supernet.logits(x, weights, alphas, buffers=buffers, update_buffers=True)
    with pytest.raises(ConfigError, match="must be contiguous"):
        supernet.logits(x, weights, alphas, buffers=torch.stack([buffers.double()] * 2, 1)[:, 0], update_buffers=True)


def test_a_pass_copies_maps_once() -> None:
    """The images get the kernels' memory layout once, and no cell copies its inputs or calls PyTorch's ReLU."""
    supernet = net(channels=2, layers=3)
    weights, alphas = point(supernet, dtype=torch.float32)
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as found:
        supernet.logits(torch.rand(2, *SHAPE), weights, alphas)
    copied = [event.input_shapes[0] for event in found.events() if event.name == "aten::copy_"]
    assert [shape for shape in copied if len(shape) == 4] == [[*SHAPE, 2]]
    assert not {"aten::relu", "aten::clamp_min"} & {event.name for event in found.events()}


def test_cells_of_several_back_ends_share_their_inputs() -> None:
    """If not all cells are compiled, plain back ends replace the compiled one."""
    found = []
    for names in (["merged"] * 4, ["compiled", "merged", "compiled", "merged"], ["merged", "merged", "compiled", "compiled"]):
        supernet = net(layers=4)
        supernet.use_backends(names)
        weights, alphas = (tensor.requires_grad_() for tensor in point(supernet))
        x = torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        logits = supernet.logits(x, weights, alphas)
        found.append([logits.detach(), *torch.autograd.grad(logits.square().sum(), [x, weights, alphas])])
    for other in found[1:]:
        for a, b in zip(found[0], other):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("shape", "batch"), [((1, 8, 8), 64), ((3, 8, 12), 5), ((2, 4, 4), 1), ((3, 4, 20), 3)], ids=str)
def test_the_stem_equals_the_plain_one(shape: tuple[int, int, int], batch: int) -> None:
    """Maps, gradients and running statistics of the compiled stem are the plain one's, for pixels below and above 0."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, *shape, dtype=torch.float64, generator=generator)
    supernet = Supernet(channels=4, layers=3, classes=5, image_shape=shape)
    layout, statistics = supernet.layout.part("stem."), supernet.buffers.part("stem.")
    weights = torch.randn(layout.size, dtype=torch.float64, generator=generator)
    g = torch.randn(batch, 12, *shape[1:], dtype=torch.float64, generator=generator)
    found = []
    for backend in ("compiled", "merged"):
        given = [tensor.clone().requires_grad_() for tensor in (x, weights)]
        buffers = torch.full((statistics.size,), 0.5, dtype=torch.float64)
        if backend == "compiled":
            maps = CompiledStem.apply(given[0].permute(1, 2, 3, 0).contiguous(), given[1], 12, buffers)
            out = maps.permute(3, 0, 1, 2)
        else:
            out = BACKENDS[backend].stem(layout, *given, Normalisation(statistics.views(buffers), running=False))
        of_x, of_weights = torch.autograd.grad(out, given, g, retain_graph=True)
        for alone, both in zip(given, (of_x, of_weights)):
            torch.testing.assert_close(torch.autograd.grad(out, alone, g, retain_graph=True)[0], both, rtol=0, atol=1e-12)
        found.append({"maps": out.detach(), "images": of_x, "buffers": buffers} | layout.views(of_weights))
    assert_close(*found)


def test_scratch_memory_goes_from_call_to_call() -> None:
    """However many passes there are, one thread needs one block of scratch memory."""
    SCRATCH.clear()
    supernet = net()
    for seed in range(5):
        one_pass(supernet, seed, batch=3 + seed)
    assert len(SCRATCH) == 1
