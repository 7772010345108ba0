"""The curvature objective: image by image from its definition, its gradients by autograd through the plain supernet and by
finite differences, and the back ends that can compute it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.errors import ConfigError
from engine.graphs import Graphs
from engine.search.bilevel import Bilevel
from engine.search.evaluation_mode import in_evaluation_mode
from engine.search.registries import OBJECTIVES, Objective
from engine.space.compiled.build import unavailable
from engine.space.supernet import Supernet
from tests.darts_state import darts_state_dict
from tests.engine.search.functional_networks import TwoLayers
from tests.engine.search.recordings import Rerun
from tests.engine.space.test_supernet import DARTS, assert_equal, pair

H, STRENGTH = 1.5, 4.0


def small(batch: int = 5) -> tuple[TwoLayers, Tensor, Tensor, Tensor, Tensor]:
    """Return a smooth network in which images do not interact, with images, labels, weights and alphas."""
    generator = torch.Generator().manual_seed(0)
    network = TwoLayers(pixels=9)
    x, y = torch.rand(batch, 1, 3, 3, generator=generator, dtype=torch.float64), torch.randint(3, (batch,), generator=generator)
    return (network, x, y, network.initial_weights(generator, torch.float64, torch.device("cpu")),
            100 * network.initial_alphas(generator, torch.float64, torch.device("cpu")))


def curvature(network: object, x: Tensor, y: Tensor, h: float = H) -> Objective:
    return replace(OBJECTIVES["curvature"], constants=(network,), inputs=(x, y, torch.tensor(h, dtype=torch.float64)))


def by_definition(logits, x: Tensor, y: Tensor, h: float) -> Tensor:
    """Return Lambda, image by image, one gradient at a time."""

    def gradient(image: Tensor, i: int) -> Tensor:
        image = image.detach().requires_grad_()
        batch = torch.cat([x[:i], image[None], x[i + 1:]])  # others stay where they are: without BatchNorm they do not matter
        loss = F.cross_entropy(logits(batch), y, reduction="none")[i]
        return torch.autograd.grad(loss, image, create_graph=True)[0]

    norms = []
    for i, image in enumerate(x):
        here = gradient(image, i)
        sign = torch.sign(here.detach())
        norms.append((gradient(image + h * sign / sign.norm(), i) - here).square().sum().sqrt())
    return STRENGTH * sum(norms) / len(norms)


def test_is_the_mean_over_images_of_its_definition() -> None:
    network, x, y, weights, alphas = small()
    expected = by_definition(lambda images: network.logits(images, weights, alphas), x, y, H)
    assert curvature(network, x, y)(weights, alphas).loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert curvature(network, x, y)(weights, alphas).accuracy is None
    alone = [curvature(network, x[i:i + 1], y[i:i + 1])(weights, alphas).loss.item() for i in range(len(y))]
    assert curvature(network, x, y)(weights, alphas).loss.item() == pytest.approx(sum(alone) / len(alone), rel=1e-12)


def test_approximates_the_largest_eigenvalue_where_the_sign_is_its_vector() -> None:
    """A quadratic of one pixel has one eigenvalue: of softmax over (s x, 0), s^2 p (1 - p)."""

    class OnePixel:
        def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
            return torch.cat([weights * x.flatten(1), 0 * x.flatten(1)], dim=1)

        def image_unit(self, x: Tensor) -> Tensor:
            return x.new_ones(())

    x, y = torch.tensor([[[[0.3]]], [[[0.7]]]], dtype=torch.float64), torch.tensor([0, 1])
    scale = torch.tensor(2.0, dtype=torch.float64)
    p = torch.sigmoid(scale * x.flatten())
    found = curvature(OnePixel(), x, y, h=1e-5)(scale, scale).loss / STRENGTH / 1e-5
    assert found.item() == pytest.approx((scale**2 * p * (1 - p)).mean().item(), rel=1e-4)


def test_gradients_of_weights_and_alphas_are_those_of_finite_differences() -> None:
    network, x, y, weights, alphas = small(3)
    objective = curvature(network, x, y)
    assert torch.autograd.gradcheck(lambda w, a: objective(w, a).loss, (weights.requires_grad_(), alphas.requires_grad_()),
                                    fast_mode=True)


def test_at_radius_zero_value_and_gradient_are_zero() -> None:
    """At radius zero both gradients of the difference are the same, so the curvature and its gradient vanish."""
    network, x, y, weights, alphas = small()
    gradient, value = Bilevel().alpha_gradient(curvature(network, x, y, h=0.0), weights, alphas)
    assert value.loss.item() == 0 and gradient.eq(0).all()


def test_an_image_without_a_gradient_has_no_direction() -> None:
    network, x, y, weights, alphas = small()
    gradient, value = Bilevel().alpha_gradient(curvature(network, x, y), 0 * weights, alphas)
    assert value.loss.item() == 0 and gradient.isfinite().all()


MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


@pytest.mark.parametrize(("backend", "evaluation", "normalised"), [
    ("dense", False, False), ("dense", True, True), ("merged", False, True), ("channels_last", True, False)])
def test_on_the_supernet_equals_autograd_through_the_plain_one(backend: str, evaluation: bool, normalised: bool) -> None:
    """Both gradients at once, with batch and running statistics, with and without normalised images."""
    reference, supernet, weights, buffers, alphas = pair(2, 3, (3, 8, 8), DARTS, backend)
    pixels, y = torch.rand(3, 3, 8, 8, dtype=torch.float64), torch.randint(10, (3,))
    x = pixels
    if normalised:
        supernet = Supernet(kinds=DARTS, channels=2, layers=3, classes=10, image_shape=(3, 8, 8), backend=backend, mean=MEAN,
                            std=STD)
        mean, std = (torch.tensor(value).double()[:, None, None] for value in (MEAN, STD))
        x = (pixels - mean) / std
    if evaluation:
        for module in reference.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # one pass is enough for statistics that fit
        reference(x)
        _, buffers, _ = supernet.load_darts_state_dict(reference.state_dict())
        reference.eval()
    objective = curvature(supernet, pixels, y)
    objective = in_evaluation_mode(objective, buffers) if evaluation else objective
    before = buffers.clone()
    of_weights, of_alphas, value = Bilevel().both_gradients(objective, weights, alphas)

    def input_gradient(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        return torch.autograd.grad(len(y) * F.cross_entropy(reference(images), y), images, create_graph=True)[0]

    here = input_gradient(x)
    sign = torch.sign(here.detach())
    ahead = input_gradient(x + H * sign / sign.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    expected = STRENGTH * (ahead - here).flatten(1).norm(dim=1).mean()
    parameters = reference.weight_parameters()
    theirs = torch.autograd.grad(expected, [*parameters.values(), *reference.alphas.values()], allow_unused=True)
    assert_equal(value.loss, expected, "value")
    assert_equal(of_alphas, torch.cat([g.reshape(-1) for g in theirs[len(parameters):]]), "alpha gradient")
    by_name = darts_state_dict(supernet, of_weights)
    for (name, parameter), gradient in zip(parameters.items(), theirs):
        assert_equal(by_name[name], torch.zeros_like(parameter) if gradient is None else gradient, name)
    assert torch.equal(before, buffers)


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_only_its_passes_leave_a_back_end_that_can_be_differentiated_once() -> None:
    x, y = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.randint(10, (4,))
    _, compiled, weights, _, alphas = pair(2, 3, (1, 8, 8), DARTS, "compiled")
    dense = Supernet(kinds=DARTS, channels=2, layers=3, classes=10, image_shape=(1, 8, 8), backend="dense")
    ours, theirs = (Bilevel().alpha_gradient(curvature(one, x, y), weights, alphas)[0] for one in (compiled, dense))
    assert torch.equal(ours, theirs) and ours.abs().sum() > 0
    weights.requires_grad_()
    (gradient,) = torch.autograd.grad(compiled.logits(x, weights, alphas).sum(), weights, create_graph=True)
    with pytest.raises(ConfigError, match="differentiated once"):
        torch.autograd.grad(gradient.sum(), weights)


def test_one_recording_serves_every_radius_and_every_buffer() -> None:
    _, supernet, weights, buffers, alphas = pair(2, 3, (1, 8, 8), DARTS, "dense")
    y, recordings = torch.randint(10, (4,)), []

    def record(function, inputs):
        recordings.append(function)
        return Rerun(function, inputs)

    recorded, eager = Bilevel(graphs=Graphs(record)), Bilevel()
    for h in (0.3, 1.5):
        objective = in_evaluation_mode(curvature(supernet, torch.rand(4, 1, 8, 8, dtype=torch.float64), y, h=h),
                                       buffers + torch.rand_like(buffers))
        ours, theirs = (passes.alpha_gradient(objective, weights, alphas) for passes in (recorded, eager))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1].loss, theirs[1].loss)
    assert len(recordings) == 1 and recorded.passes == eager.passes == 4
