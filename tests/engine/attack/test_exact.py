"""Smallest margins by integer programming against enumeration, grids and analytic cases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from engine.attack.certified import box, certify
from engine.attack.exact import Affine, SmallestMargin, smallest_margin, unroll
from engine.attack.walk import margins
from engine.errors import ConfigError


def solved(network: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> list[SmallestMargin]:
    maps = unroll(network, x.shape[1:])
    return [smallest_margin(maps, image, label, epsilon=epsilon) for image, label in zip(x, y.tolist(), strict=True)]


@torch.no_grad()
def margin_at(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the margins of a float64 network."""
    return margins(network.double()(x.double()), y)


def by_patterns(hidden: Affine, last: Affine, lower: np.ndarray, upper: np.ndarray, y: int) -> float:
    """Return the smallest margin of one hidden layer: a linear program for each pattern of active units and each wrong class."""
    smallest = np.inf
    for pattern in product((0.0, 1.0), repeat=len(hidden.bias)):
        active = np.array(pattern)
        sign = 1 - 2 * active  # sign * (W x + b) <= 0
        for other in set(range(len(last.bias))) - {y}:
            row = (last.weight[y] - last.weight[other]) * active
            program = linprog(row @ hidden.weight, A_ub=sign[:, None] * hidden.weight, b_ub=-sign * hidden.bias,
                              bounds=list(zip(lower, upper, strict=True)))
            if program.status == 0:
                smallest = min(smallest, program.fun + row @ hidden.bias + last.bias[y] - last.bias[other])
    return smallest


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_the_optimum_is_that_of_all_activation_patterns(epsilon: float) -> None:
    """The smallest margin equals the smallest of linear programs over all 32 activation patterns."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    x, y = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 2, 0])
    hidden, last = unroll(network, (1, 2, 2))
    for image, label, worst in zip(x, y.tolist(), solved(network, x, y, epsilon), strict=True):
        expected = by_patterns(hidden, last, *(bound.flatten().numpy() for bound in box(image, epsilon)), label)
        assert worst.margin == pytest.approx(expected, abs=1e-6) and worst.lower == pytest.approx(expected, abs=1e-6)


def test_no_point_of_a_fine_grid_is_better() -> None:
    """With two pixels and two hidden layers, the smallest margin on a fine grid exceeds the optimum by less than a grid step."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    with torch.no_grad():
        for layer in network[1::2]:
            layer.weight.mul_(2.5)
    x, y = torch.rand(5, 1, 1, 2), torch.tensor([0, 1, 2, 3, 0])
    first, second, last = (torch.from_numpy(affine.weight).abs() for affine in unroll(network, (1, 1, 2)))
    steepest = 2 * float((last @ second @ first).sum(1).max())  # of the margin, per change of both pixels
    for image, label, worst in zip(x, y.tolist(), solved(network, x, y, 0.2), strict=True):
        lower, upper = (bound.flatten() for bound in box(image, 0.2))
        sides = [torch.linspace(float(lower[i]), float(upper[i]), 301, dtype=torch.float64) for i in range(2)]
        grid = torch.cartesian_prod(*sides).view(-1, 1, 1, 2)
        smallest = float(margin_at(network, grid, torch.full((len(grid),), label)).min())
        assert worst.lower - 1e-6 <= smallest <= worst.lower + steepest * 0.4 / 600


def test_the_minimiser_attains_the_margin_and_lies_in_the_ball() -> None:
    """`x_adv` is in the clipped ball and has the margin; the lower bound meets it; the interval bound is below."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
                            nn.Sequential(nn.Linear(8, 6), nn.ReLU()), nn.Identity(), nn.Linear(6, 3))
    with torch.no_grad():
        network(torch.rand(50, 1, 8, 8))
    network.eval()
    x, y = (torch.rand(6, 1, 8, 8) * 1.4 - 0.2).clamp(0, 1), torch.arange(6) % 3
    certificate = certify(network, x, y, epsilon=0.1)
    worst = solved(network, x, y, 0.1)
    lower, upper = box(x, 0.1)
    x_adv = torch.stack([one.x_adv for one in worst])
    assert ((lower <= x_adv) & (x_adv <= upper)).all()
    margin = torch.tensor([one.margin for one in worst], dtype=torch.float64)
    proven = torch.tensor([one.lower for one in worst], dtype=torch.float64)
    assert torch.allclose(margin_at(network, x_adv, y), margin, atol=1e-9)
    assert torch.allclose(proven, margin, atol=1e-6) and (certificate.margin <= proven + 1e-9).all()


def test_a_linear_network_needs_no_search() -> None:
    """Without ReLU the smallest margin is the interval bound, which is exact there."""
    network, x, y = nn.Sequential(nn.Flatten(), nn.Linear(9, 4)), torch.rand(4, 1, 3, 3), torch.arange(4)
    bound = certify(network, x, y, epsilon=0.1).margin.tolist()
    assert [one.margin for one in solved(network, x, y, 0.1)] == pytest.approx(bound, abs=1e-7)


def test_a_radius_of_zero_gives_the_natural_margin() -> None:
    """At epsilon 0 the only point is the image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4))
    x, y = torch.rand(4, 1, 3, 3), torch.arange(4)
    assert [one.margin for one in solved(network, x, y, 0.0)] == pytest.approx(margin_at(network, x, y).tolist(), abs=1e-9)


def test_bounds_decide_or_say_that_they_do_not() -> None:
    """Robust above 0, broken at or below 0, undecided between; a time limit of nothing leaves true bounds."""
    image = torch.zeros(1, 1, 1)
    assert SmallestMargin(0.1, 0.2, image).robust is True and SmallestMargin(-0.2, 0.0, image).robust is False
    assert SmallestMargin(-0.1, 0.1, image).robust is None
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 10))
    x, y = torch.rand(1, 1, 8, 8), torch.tensor([3])
    maps, bound = unroll(network, (1, 8, 8)), float(certify(network, x, y, epsilon=0.3).margin)
    worst = smallest_margin(maps, x[0], 3, epsilon=0.3, limit_s=0.0)
    assert bound - 1e-9 <= worst.lower <= worst.margin
    assert worst.margin == pytest.approx(float(margin_at(network, worst.x_adv[None], y)), abs=1e-9)


def test_other_modules_are_refused() -> None:
    with pytest.raises(ConfigError, match="got MaxPool2d; take the certified bound"):
        unroll(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)), (1, 4, 4))
