"""The shared PGD loop: stays in the ball, raises the loss, equals FGSM at one step, and restores the model when abandoned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.attack.pgd import pgd, project
from engine.errors import StopRequested

EPSILON, STEP = 0.1, 0.04


def images() -> Tensor:
    return torch.rand(4, 1, 3, 3, dtype=torch.float64)


def height(x: Tensor) -> Tensor:
    """A loss with curvature, so that the sign changes from step to step."""
    return (x.sin() * torch.arange(9.0).view(3, 3) - 8 * (x - 0.52) ** 2).sum()


def slope(x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(height(x), x)[0]


def test_stays_in_the_ball_and_climbs() -> None:
    x = images()
    noise = EPSILON * (2 * torch.rand_like(x) - 1)
    x_adv = pgd(slope, x, x + noise, epsilon=EPSILON, step_size=STEP, steps=7, clip=False)
    assert (x_adv - x).abs().max() <= EPSILON + 1e-12
    assert height(x_adv) > height(x + noise)
    assert not x_adv.requires_grad


def test_a_start_outside_the_ball_is_brought_into_it() -> None:
    x = images()
    x_adv = pgd(torch.zeros_like, x, x + 3, epsilon=EPSILON, step_size=STEP, steps=1, clip=False)
    assert torch.allclose(x_adv, x + EPSILON)
    assert torch.equal(x_adv, project(x + 3, x, EPSILON, clip=False))


@pytest.mark.parametrize("clip", [False, True])
def test_leaves_the_pixel_range_unless_clipped(clip: bool) -> None:
    x = torch.ones(1, 1, 2, 2)
    x_adv = pgd(torch.ones_like, x, x, epsilon=EPSILON, step_size=STEP, steps=5, clip=clip)
    assert x_adv.max().item() == pytest.approx(1 if clip else 1 + EPSILON)


def test_epsilon_zero_gives_the_images() -> None:
    x = images()
    assert torch.equal(pgd(slope, x, x + 1, epsilon=0.0, step_size=STEP, steps=3, clip=True), x)


def test_one_full_step_without_noise_is_fgsm() -> None:
    x = images()
    x_adv = pgd(slope, x, x, epsilon=EPSILON, step_size=EPSILON, steps=1, clip=True)
    assert torch.allclose(x_adv, (x + EPSILON * slope(x).sign()).clamp(0, 1))


def test_one_gradient_per_step_and_a_stop_passes_through() -> None:
    x, calls = images(), []

    def counted(images: Tensor) -> Tensor:
        calls.append(images)
        if len(calls) == 5:
            raise StopRequested
        return slope(images)

    before = x.clone()
    pgd(counted, x, torch.zeros_like(x), epsilon=EPSILON, step_size=STEP, steps=4, clip=False)
    assert len(calls) == 4
    with pytest.raises(StopRequested):
        pgd(counted, x, torch.zeros_like(x), epsilon=EPSILON, step_size=STEP, steps=4, clip=False)
    assert torch.equal(x, before)
