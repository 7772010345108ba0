"""The merged supernet equals the plain one in float64 with every back end, and computes only what is requested."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NONE, PRIMITIVES
from engine.errors import CheckpointError, ConfigError
from engine.space.dense import taps
from engine.space.depthwise import depthwise
from engine.space.layout import cell_shapes
from engine.space.state import BACKENDS, choose
from engine.space.supernet import Supernet
from tests.darts_state import darts_state_dict
from tests.reference_supernet import ReferenceSupernet

ARNAS, DARTS = ("robust", "reduce", "accurate"), ("normal", "reduce")
# channels, layers, image shape, batch, kinds, back end
CASES = [
    (2, 5, (3, 8, 8), 6, ARNAS, None),
    pytest.param(4, 4, (1, 8, 8), 3, ARNAS, None, marks=pytest.mark.slow),
    (6, 4, (1, 8, 8), 16, ARNAS, "dense"),
    (2, 4, (3, 8, 8), 5, ARNAS, "merged"),
    pytest.param(4, 4, (1, 8, 8), 3, ARNAS, "merged", marks=pytest.mark.slow),
    (2, 4, (3, 8, 8), 5, ARNAS, "channels_last"),
    pytest.param(4, 4, (1, 8, 8), 3, ARNAS, "channels_last", marks=pytest.mark.slow),
    (4, 3, (3, 16, 16), 2, DARTS, None),
    pytest.param(2, 6, (3, 8, 12), 2, DARTS, None, marks=pytest.mark.slow),
    pytest.param(8, 4, (3, 16, 16), 2, ARNAS, None, marks=pytest.mark.slow),
    (4, 5, (3, 8, 12), 7, ARNAS, "compiled"),
    (6, 4, (1, 4, 4), 3, ARNAS, "compiled"),
    (10, 3, (3, 16, 12), 2, DARTS, "compiled"),
    (20, 3, (1, 4, 8), 3, DARTS, "compiled"),
    pytest.param(2, 8, (3, 8, 8), 64, ARNAS, "compiled", marks=pytest.mark.slow),
]


def pair(channels: int, layers: int, shape: tuple[int, int, int], kinds: tuple[str, ...] = ARNAS, backend: str | None = None,
         primitives: tuple[str, ...] = PRIMITIVES, rule: str = "", thirds: tuple[str, ...] | None = None,
         widths: tuple[int, int, int] | None = None) -> tuple[ReferenceSupernet, Supernet, Tensor, Tensor, Tensor]:
    """Return the reference and the merged supernet, float64, with equal weights, buffers and clearly unequal alphas."""
    reference = ReferenceSupernet(channels, layers, 10, shape, kinds, primitives, thirds, widths).double()
    for alpha in reference.alphas.values():
        alpha.data.mul_(500)
    supernet = Supernet(kinds=kinds, channels=channels, layers=layers, classes=10, image_shape=shape, backend=backend,
                        primitives=primitives, placement=rule, width_ratio=":".join(map(str, widths or ())))
    weights, buffers, alphas = supernet.load_darts_state_dict(reference.state_dict())
    assert alphas is not None
    return reference, supernet, weights, buffers, alphas


def assert_equal(ours: Tensor, theirs: Tensor, name: str) -> None:
    scale = float(theirs.detach().abs().max()) or 1.0
    error = float((ours.detach() - theirs.detach()).abs().max()) / scale
    assert error < 1e-9, f"{name}: relative error {error:.1e}"


def assert_equals_the_reference(networks: tuple[ReferenceSupernet, Supernet, Tensor, Tensor, Tensor],
                                shape: tuple[int, int, int], batch: int) -> None:
    """Assert equal logits, gradients, updated statistics and evaluation; see `pair`."""
    reference, supernet, weights, buffers, alphas = networks
    x = torch.rand(batch, *shape, dtype=torch.float64, requires_grad=True)  # noise: no ties in the max-pools
    y = torch.randint(10, (batch,))
    parameters = reference.weight_parameters()
    logits = reference(x)
    theirs = torch.autograd.grad(F.cross_entropy(logits, y), [x, *parameters.values(), *reference.alphas.values()])
    weights.requires_grad_()
    alphas.requires_grad_()
    merged = supernet.logits(x, weights, alphas, buffers=buffers, update_buffers=True)
    ours = torch.autograd.grad(F.cross_entropy(merged, y), [x, weights, alphas])

    assert_equal(merged, logits, "logits")
    assert_equal(ours[0], theirs[0], "input gradient")
    assert_equal(ours[2], torch.cat([g.reshape(-1) for g in theirs[1 + len(parameters):]]), "alpha gradient")
    by_name = darts_state_dict(supernet, ours[1])
    for name, gradient in zip(parameters, theirs[1:]):
        assert_equal(by_name[name], gradient, name)
    found, expected = darts_state_dict(supernet, weights, buffers), reference.state_dict()
    for name in (name for name in expected if "running" in name):
        # Some means are zero but for rounding (states after a BatchNorm), hence the absolute part.
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-13, msg=name)
    reference.eval()
    assert_equal(supernet.logits(x, weights, alphas, buffers=buffers, running_statistics=True), reference(x), "evaluation")


@pytest.mark.parametrize(("channels", "layers", "shape", "batch", "kinds", "backend"), CASES)
def test_equals_the_reference(channels: int, layers: int, shape: tuple[int, int, int], batch: int, kinds: tuple[str, ...],
                              backend: str | None) -> None:
    assert_equals_the_reference(pair(channels, layers, shape, kinds, backend), shape, batch)


@pytest.mark.parametrize(("rule", "thirds", "widths", "layers", "backend"), [
    pytest.param("robust_first", ("robust", "robust", "accurate"), (1, 1, 1), 4, "dense", marks=pytest.mark.slow),
    pytest.param("robust_first", ("robust", "robust", "accurate"), (1, 1, 1), 4, "compiled", marks=pytest.mark.slow),
    ("robust_first", ("robust", "robust", "accurate"), (1, 2, 4), 5, "merged"),
    pytest.param("robust_first", ("robust", "robust", "accurate"), (1, 2, 4), 4, "channels_last", marks=pytest.mark.slow),
    pytest.param("robust_first", ("robust", "robust", "accurate"), (1, 2, 4), 5, "compiled", marks=pytest.mark.slow),
    ("accurate_first_third", ("accurate", "robust", "robust"), (1, 3, 2), 5, "compiled"),
    ("robust_first_third", ("robust", "accurate", "accurate"), (1, 2, 1), 5, "dense"),
    ("alternating", ("both", "both", "both"), (1, 2, 2), 5, "merged"),
    ("normal", ("normal", "normal", "normal"), (1, 1, 3), 4, "channels_last"),
])
def test_every_rule_and_width_equals_the_reference(rule: str, thirds: tuple[str, ...], widths: tuple[int, int, int], layers: int,
                                                   backend: str) -> None:
    shape, kinds = (1, 8, 8), DARTS if rule == "normal" else ARNAS
    assert_equals_the_reference(pair(2, layers, shape, kinds, backend, rule=rule, thirds=thirds, widths=widths), shape, 3)


def test_other_columns_and_none() -> None:
    primitives = (NONE, *reversed(PRIMITIVES))
    reference, supernet, weights, _, alphas = pair(2, 3, (1, 8, 8), DARTS, None, primitives)
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    alphas.requires_grad_()
    logits, merged = reference(x), supernet.logits(x, weights, alphas)
    assert_equal(merged, logits, "logits")
    theirs = torch.autograd.grad(logits.square().sum(), list(reference.alphas.values()))
    (ours,) = torch.autograd.grad(merged.square().sum(), alphas)
    assert_equal(ours, torch.cat([g.reshape(-1) for g in theirs]), "alpha gradient")
    assert len(supernet.genotype(alphas).cell("normal").edges) == 8


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "compiled"])
def test_gradients_are_differentiable_again(backend: str) -> None:
    """An exact Hessian-vector product by autograd equals the reference's."""
    reference, supernet, weights, _, alphas = pair(2, 4, (1, 8, 8), ARNAS, backend)
    x, y = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.randint(10, (4,))
    weights.requires_grad_()
    alphas.requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(supernet.logits(x, weights, alphas), y), weights, create_graph=True)
    (ours,) = torch.autograd.grad(gradient.square().sum(), alphas)
    parameters = list(reference.weight_parameters().values())
    gradients = torch.autograd.grad(F.cross_entropy(reference(x), y), parameters, create_graph=True)
    theirs = torch.autograd.grad(sum(g.square().sum() for g in gradients), list(reference.alphas.values()))
    assert_equal(ours, torch.cat([g.reshape(-1) for g in theirs]), "mixed second derivative")


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_an_attack_reads_but_does_not_touch_anything(backend: str) -> None:
    _, supernet, weights, buffers, alphas = pair(2, 3, (1, 8, 8), ARNAS, backend)
    before = weights.clone(), buffers.clone(), alphas.clone()
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(supernet.logits(x, weights, alphas, buffers=buffers).sum(), x)
    assert gradient.shape == x.shape and bool(gradient.abs().sum() > 0)
    for now, then in zip((weights, buffers, alphas), before):
        assert torch.equal(now, then) and now.grad is None


def test_evaluation_first_does_not_spoil_gradients_later() -> None:
    _, supernet, weights, buffers, alphas = pair(2, 3, (3, 12, 4), ARNAS, "dense")
    x = torch.rand(2, 3, 12, 4, dtype=torch.float64)
    with torch.inference_mode():
        supernet.logits(x, weights, alphas, buffers=buffers, running_statistics=True)
    weights.requires_grad_()
    assert torch.autograd.grad(supernet.logits(x, weights, alphas).square().sum(), weights)[0].abs().sum() > 0


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 1, 2), (3, 2, 2), (5, 2, 1)])
def test_depthwise_by_flipped_kernel_and_by_matrix(kernel: int, stride: int, dilation: int) -> None:
    """Both forms of the depthwise convolution equal torch's grouped convolution; its second derivatives pass gradgradcheck."""
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, 3)
    ours = depthwise(x, weight, stride, dilation)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(plain)
    for a, b in zip(torch.autograd.grad(ours, [x, weight], g), torch.autograd.grad(plain, [x, weight], g)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda a, b: depthwise(a, b, stride, dilation), (x, weight))
    matrix = (weight.view(3, -1) @ taps(kernel, (6, 4), stride, dilation, x.dtype, x.device)).view(3, -1, 24)
    by_matrix = torch.einsum("cop,bcp->bco", matrix, x.flatten(2))
    torch.testing.assert_close(by_matrix, plain.flatten(2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (10, 6), (5, 7), (3, 1), (2, 9), (12, 16)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (3, 1, 2), (5, 1, 2), (3, 2, 1), (5, 2, 1),
                                                           (5, 2, 2)])
def test_depthwise_gradients_on_any_map(kernel: int, stride: int, dilation: int, size: tuple[int, int],
                                        memory_format: torch.memory_format) -> None:
    x = torch.randn(3, 4, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    weight = torch.randn(4, kernel, kernel, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, weight[:, None], None, stride, dilation * (kernel // 2), dilation, 4)
    ours = depthwise(x, weight, stride, dilation)
    g = torch.randn_like(plain)
    found, expected = (torch.autograd.grad(y, [x, weight], g) for y in (ours, plain))
    for a, b in zip((ours, *found), (plain, *expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    # Only what is asked for, and the same then.
    for wanted, b in zip((x, weight), expected, strict=True):
        (alone,) = torch.autograd.grad(depthwise(x, weight, stride, dilation), wanted, g)
        torch.testing.assert_close(alone, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "dilation", "size"), [(5, 1, 1, 3), (5, 1, 2, 4), (3, 1, 2, 4), (5, 2, 1, 4)])
def test_depthwise_channels_last_is_differentiable_again(kernel: int, stride: int, dilation: int, size: int) -> None:
    x = torch.randn(1, 2, size, size, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(2, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a, b: depthwise(a, b, stride, dilation), (x, weight))


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_no_host_synchronisation(backend: str) -> None:
    """Tensors on the meta device have shapes but no values: code that waits for a value fails."""
    supernet = Supernet(channels=2, layers=4, classes=10, image_shape=(1, 8, 8), backend=backend)
    x, weights, alphas, buffers = (torch.zeros(*shape, device="meta", requires_grad=i < 3) for i, shape in enumerate(
        [(2, 1, 8, 8), (supernet.layout.size,), (supernet.alpha_size,), (supernet.buffers.size,)]))
    logits = supernet.logits(x, weights, alphas, buffers=buffers, update_buffers=True)
    assert logits.shape == (2, 10) and logits.device.type == "meta"
    gradients = torch.autograd.grad(logits.sum(), [x, weights, alphas])
    assert [g.shape for g in gradients] == [x.shape, weights.shape, alphas.shape]


def test_float32_runs_and_agrees_roughly() -> None:
    _, supernet, weights, _, alphas = pair(4, 4, (3, 8, 8))
    x = torch.rand(4, 3, 8, 8)
    exact = supernet.logits(x.double(), weights, alphas)
    assert_close = torch.testing.assert_close
    assert_close(supernet.logits(x, weights.float(), alphas.float()).double(), exact, rtol=1e-3, atol=1e-3)


def test_back_end_follows_the_map_and_the_width() -> None:
    def names(channels: int, layers: int, shape: tuple[int, int, int], device: str = "cpu") -> list[str]:
        return [choose(cell, device, compiled=False) for cell in cell_shapes(ARNAS, channels, layers, shape)]

    assert names(8, 5, (1, 8, 8)) == ["dense"] * 5
    assert names(24, 8, (3, 32, 32)) == ["channels_last"] * 8
    assert names(24, 8, (3, 16, 16)) == ["channels_last"] * 6 + ["dense"] * 2
    assert names(8, 8, (3, 32, 32))[0] == "merged"
    assert names(24, 8, (3, 32, 32), "cuda") == ["merged"] * 6 + ["dense"] * 2


def test_initial_state() -> None:
    supernet = Supernet(channels=4, layers=4, classes=10, image_shape=(1, 8, 8))
    weights = supernet.initial_weights(torch.Generator().manual_seed(1))
    assert torch.equal(weights, supernet.initial_weights(torch.Generator().manual_seed(1)))
    views = supernet.layout.views(weights)
    assert views["stem.scale"].unique().tolist() == [1.0] and views["stem.shift"].unique().tolist() == [0.0]
    assert 0.5 / 3 < float(views["cells.0.states.0.depthwise.sep_conv_3x3"].abs().max()) <= 1 / 3
    assert supernet.alpha_size == 294
    alphas = supernet.initial_alphas(torch.Generator().manual_seed(1))
    assert 5e-4 < float(alphas.std()) < 2e-3
    assert {kind: tuple(view.shape) for kind, view in supernet.alpha_views(alphas).items()} == supernet.alpha_shape
    assert list(supernet.alpha_views(alphas)) == ["robust", "reduce", "accurate"]
    assert supernet.genotype(alphas).kinds == ("accurate", "reduce", "robust")


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"channels": 3}, "must be even"), ({"image_shape": (1, 10, 8)}, "multiples of 4"), ({"layers": 2}, "at least 3"),
    ({"kinds": ("normal",)}, "Cell kinds must be"), ({"primitives": ("skip_connect",)}, "primitives must be"),
    ({"backend": "fast"}, "no back end")])
def test_sizes_that_cannot_be_are_refused(changes: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {"channels": 4, "layers": 4, "classes": 10, "image_shape": (1, 8, 8)}
    with pytest.raises(ConfigError, match=sentence):
        Supernet(**(arguments | changes))  # type: ignore[arg-type]


def test_calls_that_cannot_be_are_refused() -> None:
    _, supernet, weights, buffers, alphas = pair(2, 3, (1, 8, 8))
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    with pytest.raises(ConfigError, match="must have the shape"):
        supernet.logits(torch.rand(2, 3, 8, 8), weights, alphas)
    tiny = Supernet(channels=2, layers=3, classes=10, image_shape=(1, 4, 4))
    with pytest.raises(ConfigError, match="at least 2 values"):
        tiny.logits(torch.rand(1, 1, 4, 4), torch.zeros(tiny.layout.size), torch.zeros(tiny.alpha_size))
    with pytest.raises(ConfigError, match="flat buffer vector"):
        supernet.logits(x, weights, alphas, update_buffers=True)
    with pytest.raises(ConfigError, match="drop one"):
        supernet.logits(x, weights, alphas, buffers=buffers, update_buffers=True, running_statistics=True)
    with pytest.raises(CheckpointError, match="flat alphas"):
        supernet.logits(x, weights, alphas[:-1])
    with pytest.raises(CheckpointError, match="flat vector"):
        supernet.logits(x, weights[:-1], alphas)


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_images_are_normalised_in_front_of_the_stem_and_gradients_stay_in_pixels(backend: str) -> None:
    """Normalisation also precedes the stem's padding: folded into the stem, it would change the border."""
    mean, std = (0.5, 0.1, 0.3), (0.25, 0.5, 0.2)
    sizes = {"channels": 4, "layers": 4, "classes": 10, "image_shape": (3, 8, 8), "backend": backend}
    plain, normalising = Supernet(**sizes), Supernet(**sizes, mean=mean, std=std)
    generator = torch.Generator().manual_seed(0)
    weights, alphas = plain.initial_weights(generator, torch.float64), plain.initial_alphas(generator, torch.float64)
    x = torch.rand(5, 3, 8, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    by_channel = [torch.tensor(values)[:, None, None].double() for values in (mean, std)]
    seen = ((x.detach() - by_channel[0]) / by_channel[1]).requires_grad_(True)
    y = torch.arange(5)
    ours, theirs = normalising.logits(x, weights, alphas), plain.logits(seen, weights, alphas)
    assert_equal(ours, theirs, "logits")
    (of_pixels,), (of_seen,) = (torch.autograd.grad(F.cross_entropy(logits, y), images)
                                for logits, images in ((ours, x), (theirs, seen)))
    assert_equal(of_pixels, of_seen / by_channel[1], "gradient of the images")
    assert normalising.logits(x.float(), weights.float(), alphas.float()).dtype == torch.float32


def test_a_normalisation_that_does_not_fit_is_refused() -> None:
    sizes = {"channels": 4, "layers": 4, "classes": 10, "image_shape": (3, 8, 8)}
    for wrong in ({"mean": (0.5,)}, {"std": (0.2, 0.0, 0.2)}, {"mean": (float("nan"),) * 3}):
        with pytest.raises(ConfigError, match="one per image channel"):
            Supernet(**sizes, **wrong)
