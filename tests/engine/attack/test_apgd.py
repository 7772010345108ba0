"""Auto-PGD against torchattacks, against closed forms on linear networks, and its published schedule."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torchattacks
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from engine.attack.apgd import APGD, dlr, dlr_targeted, windows
from engine.attack.ball import Ball, lengths
from engine.attack.declaration import L2, LINF
from engine.attack.walk import Attacked, Pool, State

EPSILON = {LINF: 0.03, L2: 0.2}


class StartOfTorchattacks(APGD):
    """APGD from the random start that torchattacks draws for the whole batch after `torch.manual_seed(0)`."""

    def start(self, x: Tensor, seeds: object) -> Tensor:
        torch.manual_seed(0)
        noise = 2 * torch.rand(x.shape) - 1 if self.ball.norm == LINF else torch.randn(x.shape)
        return (x + self.ball.epsilon * noise / lengths(noise, self.ball.norm)).clamp(0, 1)


@pytest.fixture
def double() -> Iterator[None]:
    """Compute in float64: in float32, rounding that differs between processors grows over 100 iterations."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def smooth_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10), nn.Tanh(), nn.Linear(10, 10))


def walk_to_end(walk: APGD, network: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[State, list[Tensor]]:
    """Return the last state of one run, without a pool, and all points."""
    state = walk.begin(x, y, target, range(len(x))) | {"x": x, "y": y, "target": target}
    over, points = torch.zeros(len(x), dtype=torch.bool), []
    while not over.any():
        point = state["point"].detach().requires_grad_()
        logits = network(point)
        loss = walk.loss(logits, state)
        points.append(state["point"].clone())
        over = walk.advance(state, logits.detach(), loss.detach(), torch.autograd.grad(loss.sum(), point)[0])
    assert over.all() and len(points) == walk.iterations + 1
    return state, points


def attack(network: nn.Module, walk: APGD, x: Tensor, y: Tensor, runs: Tensor, start: int = 0) -> list[Attacked]:
    pool = Pool(walk, network, lambda points: network(points).argmax(1), lambda position: x[position], y, runs=runs,
                seed=lambda position, run: 1000 * (10 * start + run) + position, size=100)
    attacked = []
    while not pool.over:
        attacked += pool.step()
    return sorted(attacked, key=lambda one: one.position)


@pytest.mark.parametrize("norm", [LINF, L2])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_untargeted_runs_equal_those_of_torchattacks(norm: str, loss: str, double: None) -> None:
    """From the same start, best losses and best points after 100 iterations equal those of torchattacks up to rounding."""
    network, x = smooth_network(), torch.rand(12, 1, 8, 8)
    y = network(x).argmax(1)
    state, _ = walk_to_end(StartOfTorchattacks(Ball(norm, EPSILON[norm]), 100, loss), network, x, y, torch.full_like(y, -1))
    theirs = torchattacks.APGD(network, norm=norm, eps=EPSILON[norm], steps=100, loss=loss)
    torch.manual_seed(0)
    best, _, best_loss, _ = theirs.attack_single_run(x, y)
    assert torch.allclose(state["peak_loss"], best_loss, atol=1e-9)
    assert torch.allclose(state["peak"], best.detach(), atol=1e-9)


@pytest.mark.parametrize("norm", [LINF, L2])
def test_targeted_runs_equal_those_of_torchattacks(norm: str, double: None) -> None:
    """One image at a time, since in L2 `APGDT` takes the step size of the first image of a batch for all."""
    network, images = smooth_network(), torch.rand(6, 1, 8, 8)
    theirs = torchattacks.APGDT(network, norm=norm, eps=EPSILON[norm], steps=100)
    theirs.target_class = 3  # the second most likely wrong class
    for x in images.split(1):
        target, _, y = network(x).argsort(1)[:, -3:].unbind(1)
        state, _ = walk_to_end(StartOfTorchattacks(Ball(norm, EPSILON[norm]), 100, "dlr-targeted"), network, x, y, target)
        torch.manual_seed(0)
        best, _, best_loss, _ = theirs.attack_single_run(x, y)
        assert torch.allclose(state["peak_loss"], best_loss, atol=1e-9)
        assert torch.allclose(state["peak"], best.detach(), atol=1e-9)


@pytest.mark.parametrize("norm, epsilon", [(LINF, 0.1), (L2, 0.45)])
def test_robust_accuracy_on_digits_equals_that_of_torchattacks(norm: str, epsilon: float) -> None:
    """On a trained network the images that withstand APGD, as means over two starts, differ at most by two of 100."""
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(network(x[100:]), y[100:]).backward()
        optimizer.step()
    network.requires_grad_(False)
    x, y = x[:100], y[:100]
    correct = network(x).argmax(1) == y
    x, y = x[correct], y[correct]
    others = network(x).scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    ball = Ball(norm, epsilon)
    for loss, targets in (("ce", torch.full_like(y, -1)[:, None]), ("dlr-targeted", others[:, :3])):
        standing = []
        for start in (0, 1):
            settings = {"norm": norm, "eps": epsilon, "steps": 100, "seed": start}
            theirs = (torchattacks.APGD(network, **settings) if loss == "ce"
                      else torchattacks.APGDT(network, n_classes=4, **settings))  # three targets
            ours = attack(network, APGD(ball, 100, loss), x, y, targets, start)
            standing.append([int((network(theirs(x, y)).argmax(1) == y).sum()), sum(not one.fell for one in ours)])
            for one in ours:
                assert ball.contains(one.x_adv[None], x[[one.position]]).all()
                assert (int(network(one.x_adv[None]).argmax()) != y[one.position]) == one.fell
        by_them, by_us = torch.tensor(standing, dtype=torch.float32).mean(0)
        assert 10 < by_them < len(y) - 10 and abs(by_them - by_us) <= 2


@pytest.mark.parametrize("norm, dual, epsilon", [(LINF, 1, 0.02), (L2, 2, 0.2)])
def test_the_worst_case_of_a_linear_network_is_reached(norm: str, dual: int, epsilon: float) -> None:
    """With two classes the smallest margin in the ball is |w.x + b| - epsilon |w|, in the dual norm, if the box does not bind."""
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).requires_grad_(False), 0.3 + 0.4 * torch.rand(40, 1, 8, 8)
    y, (first, second) = network(x).argmax(1), network[1].weight
    worst = network(x).diff().abs().flatten() - epsilon * (first - second).norm(dual)
    attacked = attack(network, APGD(Ball(norm, epsilon), 100, "ce"), x, y, torch.full((40, 1), -1))
    assert [one.fell for one in attacked] == (worst < 0).tolist()
    standing = [one.position for one in attacked if not one.fell]
    assert 5 < len(standing) < 35
    assert torch.allclose(torch.tensor([attacked[position].margin for position in standing]), worst[standing], atol=1e-4)


@pytest.mark.parametrize("norm", [LINF, L2])
def test_every_point_is_in_the_ball_and_the_best_one_is_kept(norm: str) -> None:
    network, x = smooth_network(), torch.rand(9, 1, 8, 8)
    y, ball = torch.arange(9), Ball(norm, EPSILON[norm])
    state, points = walk_to_end(APGD(ball, 40, "ce"), network, x, y, y)
    assert all(bool(ball.contains(point, x).all()) for point in points)
    losses = torch.stack([functional.cross_entropy(network(point), y, reduction="none") for point in points])
    assert torch.allclose(state["peak_loss"], losses.amax(0), atol=1e-6)
    assert torch.equal(state["peak"], torch.stack(points)[losses.argmax(0), torch.arange(9)])


def test_checkpoints_of_a_hundred_iterations_are_the_published_ones() -> None:
    at = {step: length for step, length in enumerate(windows(100)) if length}
    assert at == {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    assert [step for step, length in enumerate(windows(3)) if length] == [1, 2, 3]


def test_dlr_is_positive_if_misclassified_and_ignores_shift_and_scale() -> None:
    logits, y = torch.randn(500, 6, dtype=torch.float64), torch.randint(6, (500,))
    target = (y + torch.randint(1, 6, (500,))) % 6
    assert torch.equal(dlr(logits, y, target) > 0, logits.argmax(1) != y)
    pair = logits.gather(1, torch.stack((y, target), 1))
    assert torch.equal(dlr_targeted(logits, y, target) > 0, pair[:, 1] > pair[:, 0])
    for loss in (dlr, dlr_targeted):
        assert torch.allclose(loss(7 * logits - 50, y, target), loss(logits, y, target))
