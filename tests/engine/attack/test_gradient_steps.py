"""Gradient steps in a ball against float64 autograd, torchattacks, and networks whose gradients vanish."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchattacks
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.ball import Ball, distance
from engine.attack.declaration import L2, LINF
from engine.attack.gradient_steps import GradientSteps, cross_entropy, margin_loss, random_point, steepest
from engine.attack.walk import margins

NORMS = pytest.mark.parametrize("norm", [LINF, L2])
EPSILON = {LINF: 0.1, L2: 0.5}


@pytest.fixture
def network() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(8 * 36, 5))
    return layers.eval().requires_grad_(False)


@pytest.fixture
def batch(network: nn.Module) -> tuple[Tensor, Tensor]:
    x = 0.1 + 0.8 * torch.rand(12, 1, 6, 6)
    return x, network(x).argmax(1)


@NORMS
@pytest.mark.parametrize("loss", [cross_entropy, margin_loss])
def test_one_step_from_the_image_is_the_steepest_ascent(norm: str, loss: object, network: nn.Module,
                                                        batch: tuple[Tensor, Tensor]) -> None:
    """A step of length 1 in the norm along the float64 gradient: its sign in L-infinity, the unit vector in L2."""
    x, y = batch
    point = x.double().requires_grad_()
    logits = network.double()(point)
    other = logits.clone().scatter(1, y[:, None], -torch.inf).max(1).values
    height = F.cross_entropy(logits, y, reduction="sum") if loss is cross_entropy else (other - logits[range(12), y]).sum()
    (gradient,) = torch.autograd.grad(height, point)
    step = gradient.sign() if norm == LINF else gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    x_adv = GradientSteps(network.float(), Ball(norm, 1.0), 1, 0.01, loss)(x, y)
    torch.testing.assert_close(x_adv, (x + 0.01 * step).clamp(0, 1).float(), atol=1e-6, rtol=0)


@NORMS
@pytest.mark.parametrize("start", [False, True])
def test_the_attack_stays_in_the_ball_and_climbs(norm: str, start: bool, network: nn.Module,
                                                 batch: tuple[Tensor, Tensor]) -> None:
    """Adversarial images are in the ball and in 0..1, and every margin has fallen on a smooth network."""
    x, y = batch
    ball = Ball(norm, EPSILON[norm])
    for decay in (0.0, 1.0):
        x_adv = GradientSteps(network, ball, 10, ball.epsilon / 4, margin_loss, decay, start)(x, y)
        assert bool(ball.contains(x_adv, x).all()) and not x_adv.requires_grad
        assert bool((margins(network(x_adv), y) < margins(network(x), y)).all())


def test_fgsm_and_pgd_are_those_of_torchattacks(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Without a random start both follow the same signs: bit-equal."""
    x, y = batch
    ball = Ball(LINF, 0.1)
    assert torch.equal(GradientSteps(network, ball, 1, 0.1)(x, y), torchattacks.FGSM(network, eps=0.1)(x, y))
    theirs = torchattacks.PGD(network, eps=0.1, alpha=0.03, steps=8, random_start=False)(x, y)
    assert torch.equal(GradientSteps(network, ball, 8, 0.03)(x, y), theirs)


def test_pgd_in_l2_is_that_of_torchattacks(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Without a random start both follow the same unit vectors."""
    x, y = batch
    theirs = torchattacks.PGDL2(network, eps=0.5, alpha=0.1, steps=8, random_start=False)(x, y)
    torch.testing.assert_close(GradientSteps(network, Ball(L2, 0.5), 8, 0.1)(x, y), theirs, atol=1e-5, rtol=0)


def test_mi_fgsm_is_that_of_torchattacks(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Dividing gradients by the mean or by the sum of their absolute values gives the same signs of the momentum."""
    x, y = batch
    theirs = torchattacks.MIFGSM(network, eps=0.1, alpha=0.01, steps=10, decay=1.0)(x, y)
    torch.testing.assert_close(GradientSteps(network, Ball(LINF, 0.1), 10, 0.01, decay=1.0)(x, y), theirs, atol=1e-6, rtol=0)


@NORMS
def test_momentum_is_the_recursion_of_the_paper(norm: str, network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """g' = mu g + gradient / ||gradient||_1, and a step along sign(g') or g' / ||g'||_2 (Dong et al. 2018)."""
    x, y = batch
    network, point, momentum = network.double(), x.double(), torch.zeros_like(x).double()
    for _ in range(5):
        variable = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(variable), y, reduction="sum"), variable)
        momentum = 0.7 * momentum + gradient / gradient.flatten(1).abs().sum(1)[:, None, None, None]
        step = momentum.sign() if norm == LINF else momentum / momentum.flatten(1).norm(dim=1)[:, None, None, None]
        point = (point + 0.01 * step).clamp(0, 1)  # the ball is too large to matter
    ours = GradientSteps(network, Ball(norm, 9.0), 5, 0.01, decay=0.7)(x.double(), y)
    torch.testing.assert_close(ours, point)


def test_a_tiny_gradient_still_gives_a_full_step(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Directions do not depend on the gradient's scale, where torchattacks adds 1e-10 to its length; that of 0 is 0."""
    x, y = batch

    def confident(images: Tensor) -> Tensor:
        return network(images) + 60 * F.one_hot(y, 5)

    x_adv = GradientSteps(confident, Ball(L2, 0.5), 1, 0.1)(x, y)
    inside = ((x_adv > 0) & (x_adv < 1) & (x > 0) & (x < 1)).flatten(1).all(1)
    assert bool(inside.any()) and bool((distance(x_adv, x, L2)[inside] > 0.0999).all())
    theirs = torchattacks.PGDL2(Confident(confident), eps=0.5, alpha=0.1, steps=1, random_start=False)(x, y)
    assert bool((distance(theirs, x, L2) < 1e-6).all())
    gradient = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(steepest(gradient * 1e-30, L2), steepest(gradient, L2))
    assert torch.equal(steepest(0 * gradient, L2), 0 * gradient)


class Confident(nn.Module):
    """A function as the module that torchattacks asks for."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits, self.device_of = logits, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


@NORMS
def test_random_starts_fill_the_ball_uniformly(norm: str) -> None:
    """In d dimensions (distance / epsilon)^d is uniform in 0..1: the largest gap of its distribution is that of chance."""
    x = torch.full((2000, 1, 2, 2), 0.5)
    share = (distance(random_point(Ball(norm, 0.2), x, range(2000)), x, norm) / 0.2).double() ** 4
    gap = (share.sort().values - (torch.arange(2000) + 0.5) / 2000).abs().max()
    assert gap < 1.63 / 2000 ** 0.5  # Kolmogorov's bound at 1 %


def test_the_start_comes_from_the_global_generator(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Equal global seeds give equal images, other seeds give others; without a random start nothing is drawn."""
    x, y = batch

    def images(seed: int, start: bool = True) -> Tensor:
        torch.manual_seed(seed)
        return GradientSteps(network, Ball(LINF, 0.1), 2, 0.03, random_start=start)(x, y)

    assert torch.equal(images(1), images(1)) and not torch.equal(images(1), images(2))
    assert torch.equal(images(1, start=False), images(2, start=False))
    assert torch.initial_seed() == 2 and torch.equal(torch.get_rng_state(), torch.manual_seed(2).get_state())


@NORMS
def test_epsilon_zero_and_empty_batches_give_the_images(norm: str, network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """A ball of radius 0 holds only the image; no images give no images."""
    x, y = batch
    torch.testing.assert_close(GradientSteps(network, Ball(norm, 0.0), 3, 0.1, random_start=True)(x, y), x, atol=1e-7, rtol=0)
    assert GradientSteps(network, Ball(norm, 0.1), 3, 0.1, random_start=True)(x[:0], y[:0]).shape == (0, 1, 6, 6)
