"""Our attacks beside those of torchattacks and foolbox on one network trained on digits.

foolbox rather than adv-lib: it installs beside what requirements.txt pins. adv-lib 0.2.8 requires torchvision, and visdom, whose
source package no longer builds.
"""

from __future__ import annotations

from functools import partial

import foolbox
import pytest
import torch
import torchattacks
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.ball import Ball, distance
from engine.attack.carlini_wagner import CarliniWagner
from engine.attack.declaration import L2, LINF
from engine.attack.gradient_steps import GradientSteps, margin_loss
from engine.attack.minimum import FMN
from engine.data import digits
from tests.engine.attack.nearest import nearest

EPSILON = {LINF: 0.1, L2: 0.5}
NORMS = pytest.mark.parametrize("norm", [LINF, L2])


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A small convolutional network, 90 to 95 % of whose predictions are right."""
    torch.manual_seed(0)
    x, y = map(torch.from_numpy, digits.load())
    layers = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU(), nn.Flatten(),
                           nn.Linear(32 * 16, 10))
    adam = torch.optim.Adam(layers.parameters(), 2e-3)
    for _ in range(10):
        for batch in torch.randperm(1500).split(100):
            adam.zero_grad()
            F.cross_entropy(layers(x[batch]), y[batch]).backward()
            adam.step()
    return layers.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch(network: nn.Module) -> tuple[Tensor, Tensor]:
    """60 images that the network has not seen and classifies correctly."""
    x, y = (torch.from_numpy(part[1500:]) for part in digits.load())
    right = network(x).argmax(1) == y
    return x[right][:60], y[right][:60]


def foolbox_images(network: nn.Module, attack: object, batch: tuple[Tensor, Tensor], epsilon: float | None) -> Tensor:
    """The adversarial images of a foolbox attack, at one epsilon or the nearest it finds."""
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    images: Tensor = attack(model, *batch, epsilons=epsilon)[1]  # type: ignore[operator]
    return images


def foolbox_distances(network: nn.Module, attack: object, batch: tuple[Tensor, Tensor], norm: str) -> Tensor:
    """The distances of the nearest adversarial images that a foolbox attack finds; it finds one for each image."""
    x_adv = foolbox_images(network, attack, batch, None)
    assert bool((network(x_adv).argmax(1) != batch[1]).all())
    return distance(x_adv, batch[0], norm)


def standing(network: nn.Module, x_adv: Tensor, y: Tensor) -> int:
    return int((network(x_adv).argmax(1) == y).sum())


@NORMS
def test_fgsm_is_that_of_foolbox(norm: str, network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """One full step gives the same images, but for rounding, in both norms."""
    x, y = batch
    attack = foolbox.attacks.LinfFastGradientAttack() if norm == LINF else foolbox.attacks.L2FastGradientAttack()
    theirs = foolbox_images(network, attack, batch, EPSILON[norm])
    ours = GradientSteps(network, Ball(norm, EPSILON[norm]), 1, EPSILON[norm])(x, y)
    assert distance(ours, theirs, LINF).median() < 1e-6 and standing(network, ours, y) == standing(network, theirs, y)


@NORMS
def test_pgd_is_as_strong_as_that_of_foolbox_and_torchattacks(norm: str, network: nn.Module,
                                                              batch: tuple[Tensor, Tensor]) -> None:
    """Without a random start the same number of images stand, up to one; on the margin no more than two others."""
    x, y = batch
    epsilon, step = EPSILON[norm], EPSILON[norm] / 8
    theirs = (foolbox.attacks.LinfPGD if norm == LINF else foolbox.attacks.L2PGD)(steps=20, abs_stepsize=step, random_start=False)
    library = (torchattacks.PGD if norm == LINF else torchattacks.PGDL2)(network, epsilon, step, 20, random_start=False)
    ours = GradientSteps(network, Ball(norm, epsilon), 20, step)
    count = standing(network, ours(x, y), y)
    assert 0 < count < len(y)
    assert abs(count - standing(network, foolbox_images(network, theirs, batch, epsilon), y)) <= 1
    assert abs(count - standing(network, library(x, y), y)) <= 1
    by_margin = GradientSteps(network, Ball(norm, epsilon), 20, step, margin_loss, random_start=True)
    assert abs(count - standing(network, by_margin(x, y), y)) <= 2


def test_fmn_in_l_infinity_is_that_of_foolbox(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Distances agree within 1 % for 90 % of the images, and within 0.2 % in the median."""
    theirs = foolbox_distances(network, foolbox.attacks.LInfFMNAttack(steps=100), batch, LINF)
    ratio = nearest(FMN(Ball(LINF, 0.1), 100), network, *batch)[0] / theirs
    assert ((ratio - 1).abs() < 0.01).float().mean() >= 0.9 and abs(ratio.median() - 1) < 0.002


def test_fmn_in_l2_is_as_near_as_ddn(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Its median ratio to DDN is at most 1.02; foolbox's own FMN in L2 does not project, and ends further away throughout."""
    ours = nearest(FMN(Ball(L2, 0.5), 100), network, *batch)[0]
    assert (ours / foolbox_distances(network, foolbox.attacks.DDNAttack(steps=100), batch, L2)).median() < 1.02
    theirs = foolbox_distances(network, foolbox.attacks.L2FMNAttack(steps=100), batch, L2)
    assert (ours / theirs).median() < 0.8 and bool((ours < 1.1 * theirs).all())


@NORMS
def test_fmn_is_near_deepfool(norm: str, network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """DeepFool follows the nearest of the linearised boundaries; the medians differ by less than 10 %."""
    attack = (foolbox.attacks.LinfDeepFoolAttack if norm == LINF else foolbox.attacks.L2DeepFoolAttack)()
    theirs = foolbox_distances(network, attack, batch, norm)
    assert nearest(FMN(Ball(norm, 0.1), 100), network, *batch)[0].median() < 1.1 * theirs.median()


def test_the_curve_of_fmn_lies_at_that_of_pgd(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """At every radius the images whose distance exceeds it are as many as stand against PGD, up to three of sixty."""
    x, y = batch
    distances = nearest(FMN(Ball(LINF, 0.1), 100), network, x, y)[0]
    for epsilon in (0.03, 0.06, 0.09, 0.12, 0.15):
        x_adv = GradientSteps(network, Ball(LINF, epsilon), 40, epsilon / 8, random_start=True)(x, y)
        assert abs(int((distances > epsilon).sum()) - standing(network, x_adv, y)) <= 3


def test_carlini_and_wagner_is_as_near_as_that_of_foolbox(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """With the same rate, iterations and search steps the median ratio of distances is within 2 % of 1 or below."""
    few = batch[0][:25], batch[1][:25]
    attack = foolbox.attacks.L2CarliniWagnerAttack(9, 100, stepsize=0.1, initial_const=0.01)
    theirs = foolbox_distances(network, attack, few, L2)
    ours = nearest(CarliniWagner(Ball(L2, 0.5), 100, learning_rate=0.1), network, *few)[0]
    assert bool(ours.isfinite().all()) and 0.9 < (ours / theirs).median() < 1.02


def test_carlini_and_wagner_withstands_negative_logits_where_torchattacks_does_not(network: nn.Module,
                                                                                   batch: tuple[Tensor, Tensor]) -> None:
    """Subtracting 100 from all logits changes no classifier: our distances stay, torchattacks breaks next to no image."""
    few = batch[0][:15], batch[1][:15]
    shifted = Shifted(network)
    walk = CarliniWagner(Ball(L2, 0.5), 60, 5, learning_rate=0.1)
    plain, ours = nearest(walk, network, *few)[0], nearest(walk, shifted, *few)[0]
    assert bool(ours.isfinite().all()) and (ours / plain - 1).abs().median() < 0.01
    theirs = partial(torchattacks.CW, c=10, steps=100, lr=0.05)
    assert standing(network, theirs(network)(*few), few[1]) < 8 < standing(shifted, theirs(shifted)(*few), few[1])


class Shifted(nn.Module):
    """A network with 100 subtracted from its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x) - 100
        return logits
