"""Attacks against the truth: on small networks the exact worst case is known, and no attack may do better.

Per image: certified bound <= exact smallest margin <= margin under every attack.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.catalogue import ATTACKS
from engine.attack.certified import certify
from engine.attack.declaration import AttackSettings
from engine.attack.exact import smallest_margin, unroll
from engine.attack.methods import run_attack
from engine.attack.walk import margins
from engine.data.digits import load

IMAGES = 100  # per network
NETWORKS: dict[str, tuple[float, list[nn.Module]]] = {  # radius, layers
    "dense": (0.08, [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)]),
    "convolutional": (0.08, [nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 10)])}


@dataclass(frozen=True)
class Case:
    """A trained network, its images, and the exact worst case of each.

    Attributes:
        lower, margin: bounds of the exact smallest margins, float64 [IMAGES].
    """

    network: nn.Module
    x: Tensor
    y: Tensor
    epsilon: float
    lower: Tensor
    margin: Tensor

    @property
    def broken(self) -> Tensor:
        """True for images that have an adversarial image in the ball."""
        return self.margin <= 0


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    epsilon, layers = NETWORKS[request.param]
    network = nn.Sequential(*copy.deepcopy(layers))
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    x, y = map(torch.from_numpy, load())
    train(network, x[IMAGES:], y[IMAGES:], epsilon)
    maps = unroll(network, (1, 8, 8))
    x, y = x[:IMAGES], y[:IMAGES]
    worst = [smallest_margin(maps, image, label, epsilon=epsilon) for image, label in zip(x, y.tolist(), strict=True)]
    bounds = torch.tensor([(one.lower, one.margin) for one in worst], dtype=torch.float64)
    return Case(network, x, y, epsilon, bounds[:, 0], bounds[:, 1])


def train(network: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> None:
    """Train on FGSM images for 20 epochs."""
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(20):
        for batch in torch.randperm(len(x)).split(100):
            natural = x[batch].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(natural), y[batch]), natural)
            x_adv = (x[batch] + epsilon * gradient.sign()).clamp(0, 1)
            optimizer.zero_grad()
            F.cross_entropy(network(x_adv), y[batch]).backward()
            optimizer.step()


def test_the_worst_case_is_proven(case: Case) -> None:
    """Both bounds of the program agree, and some images of the network can be broken and some cannot."""
    assert torch.allclose(case.lower, case.margin, rtol=0, atol=1e-6)
    assert IMAGES // 10 < int(case.broken.sum()) < IMAGES * 9 // 10


def test_the_certified_bound_is_below_the_exact_margin(case: Case) -> None:
    """Interval bounds are true: at most the exact smallest margin, and no certified image can be broken."""
    certificate = certify(case.network, case.x, case.y, epsilon=case.epsilon)
    assert (certificate.margin <= case.lower + 1e-9).all()
    assert not (certificate.certified & case.broken).any()


@pytest.mark.parametrize("name, missed", [
    ("fgsm", IMAGES), ("pgd-20", IMAGES), ("pgd-100", 2), ("apgd-t", 1), pytest.param("autoattack", 1, marks=pytest.mark.slow)])
def test_no_attack_is_below_the_exact_margin_and_strong_ones_reach_it(case: Case, name: str, missed: int) -> None:
    """No adversarial image has a margin below the exact one, up to float32 rounding of the pixels, so only images that can be
    broken are. A strong attack breaks all of them but `missed` at most."""
    x_adv = run_attack(ATTACKS[name], case.network, case.x, case.y,
                       AttackSettings(case.epsilon, case.epsilon / 10, classes=10, seed=0))
    with torch.no_grad():
        margin = margins(copy.deepcopy(case.network).double()(x_adv.double()), case.y)
    assert (margin >= case.lower - 1e-5).all()
    assert int((case.broken & (margin > 0)).sum()) <= missed
