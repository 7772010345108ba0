"""FAB against torchattacks and analytic distances; its projections against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchattacks
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from engine.attack.ball import Ball, distance
from engine.attack.declaration import L2, LINF
from engine.attack.fab import FAB, to_hyperplane
from engine.attack.walk import Pool
from tests.engine.attack.trained import trained

NORMS = pytest.mark.parametrize("norm", [LINF, L2])


def hyperplanes(count: int, size: int, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return points (some on the bounds of the box), normals (some entries zero) and gaps, in float64."""
    x = (torch.rand(count, size, dtype=torch.float64) * 1.5 - 0.25).clamp(0, 1)
    w = torch.randn(count, size, dtype=torch.float64) * (torch.rand(count, size) > 0.2)
    return x, w, reach * (2 * torch.rand(count, dtype=torch.float64) - 1)


def shortest_linf(x: np.ndarray, w: np.ndarray, gap: float) -> float | None:
    """Return the smallest t with |d| <= t, <w, d> = gap and x + d in 0..1, by linear programming."""
    size = len(x)
    bounds = [(-low, 1 - low) for low in x] + [(0, None)]
    slack = np.concatenate([np.block([[np.eye(size)], [-np.eye(size)]]), -np.ones((2 * size, 1))], axis=1)
    solution = linprog([0] * size + [1], slack, np.zeros(2 * size), [[*w, 0]], [gap], bounds)
    return float(solution.fun) if solution.success else None


def shortest_l2(x: np.ndarray, w: np.ndarray, gap: float) -> float | None:
    """Return the smallest |d|_2 with <w, d> = gap and x + d in 0..1, by sequential quadratic programming."""
    solution = minimize(lambda d: d @ d / 2, np.zeros(len(x)), jac=lambda d: d, method="SLSQP",
                        bounds=[(-low, 1 - low) for low in x], options={"maxiter": 500, "ftol": 1e-14},
                        constraints={"type": "eq", "fun": lambda d: w @ d - gap, "jac": lambda d: w})
    return float(np.sqrt(2 * solution.fun)) if solution.success else None


@pytest.mark.parametrize(("norm", "shortest"), [(LINF, shortest_linf), (L2, shortest_l2)])
@pytest.mark.parametrize("reach", [0.5, 4.0])
def test_moves_to_a_hyperplane_are_the_shortest(norm: str, shortest: object, reach: float) -> None:
    """The move ends on the hyperplane and in the box, and is as long as the solver's, if the hyperplane meets the box."""
    x, w, gap = hyperplanes(40, 12, reach)
    moves = to_hyperplane(x, w, gap, norm)
    assert ((x + moves >= -1e-12) & (x + moves <= 1 + 1e-12)).all()
    solved = 0
    for point, normal, wanted, move in zip(x.numpy(), w.numpy(), gap.numpy(), moves.numpy(), strict=True):
        expected = shortest(point, normal, wanted)  # type: ignore[operator]
        if expected is not None:
            assert normal @ move == pytest.approx(wanted, abs=1e-9)
            assert np.linalg.norm(move, np.inf if norm == LINF else 2) == pytest.approx(expected, abs=1e-6)
            solved += 1
    assert solved >= 15


@NORMS
def test_a_hyperplane_beyond_the_box_leads_to_the_nearest_corner(norm: str) -> None:
    """If <w, x + d> cannot reach the level, every pixel with a slope goes to the bound that brings it nearest."""
    x, w, _ = hyperplanes(20, 12, 1)
    for sign in (-1, 1):
        moves = to_hyperplane(x, w, torch.full((20,), 100.0 * sign, dtype=torch.float64), norm)
        corner = torch.where(w * sign > 0, 1.0, 0.0).double()
        assert torch.allclose(x + moves, torch.where(w == 0, x, corner), atol=1e-12)


@NORMS
def test_moves_scale_with_the_hyperplane_and_vanish_without_one(norm: str) -> None:
    """<a w, d> = a gap is the same hyperplane, also for a = 1e-30 in float32; a zero normal and a zero gap give no move."""
    x, w, gap = (tensor.float() for tensor in hyperplanes(10, 12, 0.5))
    moves = to_hyperplane(x, w, gap, norm)
    assert torch.allclose(to_hyperplane(x, w * 1e-30, gap * 1e-30, norm), moves, atol=1e-6)
    assert not to_hyperplane(x, 0 * w, gap, norm).any() and not to_hyperplane(x, 0 * w, 0 * gap, norm).any()
    assert not to_hyperplane(x, w, 0 * gap, norm).any()


class Recording(nn.Module):
    """A network that keeps the images it is given with a gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.points = network, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            self.points.append(x.detach().clone())
        return self.network(x)


def evaluations(walk: FAB, network: nn.Module, x: Tensor, y: Tensor, target: Tensor,
                asked: bool = False) -> list[dict[str, Tensor]]:
    """Return the states at every evaluation of a run, with "wrong" and "live"; `asked`: gradients only where the walk asks."""
    state = walk.begin(x, y, target, list(range(len(x)))) | {"x": x, "y": y, "target": target}
    visited, over = [], torch.zeros(len(x), dtype=torch.bool)
    while not over.all():
        point = state["point"].clone().requires_grad_()
        with torch.enable_grad():
            logits = network(point)
            loss = walk.loss(logits, state)
            (gradient,) = torch.autograd.grad(loss.sum(), point)
        visited.append(dict(state) | {"wrong": logits.argmax(1) != y, "live": ~over})
        given = (loss.detach(), gradient) if not asked or walk.needs_gradient(state) else (None, None)
        over = over | walk.advance(state, logits.detach(), *given)
    return visited


def nearest(visited: list[dict[str, Tensor]], x: Tensor, norm: str) -> Tensor:
    """Return the distance [n] of the nearest misclassified point of each image's run."""
    distances = [torch.where(state["wrong"] & state["live"], distance(state["point"], x, norm), torch.inf) for state in visited]
    return torch.stack(distances).amin(0)


@pytest.mark.parametrize(("norm", "epsilon"), [(LINF, 0.15), (L2, 1.0)])
def test_follows_the_path_of_torchattacks(norm: str, epsilon: float) -> None:
    """One image alone visits the points that torchattacks differentiates at, and finds an image at the same distance."""
    network, images, labels = trained()
    for x, y in zip(images[:6, None], labels[:6, None], strict=True):
        target = network(x).argsort(1)[:, -2]
        recording = Recording(network)
        attack = torchattacks.FAB(recording, norm=norm, eps=epsilon, steps=20, multi_targeted=True, n_classes=2)
        theirs = attack.attack_single_run_targeted  # n_classes = 2: the most likely wrong class alone
        attack.target_class = 2
        adversarial = theirs(x, y)
        visited = evaluations(FAB(Ball(norm, epsilon), 20), network, x, y, target)
        ours = [state["point"] for state in visited if not (state["stepped"] & state["wrong"])][:20]
        assert torch.allclose(torch.cat(ours), torch.cat(recording.points), atol=2e-4)
        far = min(float(distance(state["point"], x, norm)) for state in visited if state["stepped"] & state["wrong"])
        assert far == pytest.approx(float(distance(adversarial, x, norm)), abs=1e-4)


@NORMS
def test_evaluations_are_steps_and_backward_moves(norm: str) -> None:
    """A run of K steps evaluates K + 1 points and one more for each misclassified point but the last."""
    network, x, y = trained()
    visited = evaluations(FAB(Ball(norm, 0.1), 10), network, x, y, network(x).argsort(1)[:, -2])
    count = torch.stack([state["live"] for state in visited]).sum(0)
    back = torch.stack([state["live"] & state["stepped"] & state["wrong"] & (state["steps"] < 10) for state in visited]).sum(0)
    assert torch.equal(count, 11 + back) and back.max() > 2 and (count <= 20).all()


@NORMS
def test_needs_a_gradient_at_every_second_evaluation(norm: str) -> None:
    """With gradients only where the walk asks, K steps take 2 K evaluations and lead to the same nearest image."""
    network, x, y = trained()
    x, y = x[:30], y[:30]
    target = network(x).argsort(1)[:, -2]
    always, asked = (evaluations(FAB(Ball(norm, 0.1), 10), network, x, y, target, asked=asked) for asked in (False, True))
    assert len(asked) == 20
    assert torch.allclose(nearest(asked, x, norm), nearest(always, x, norm), atol=1e-5)


def test_images_out_of_phase_wait() -> None:
    """An evaluation without gradient moves no image that has yet to step; an image to be judged may step at once with one."""
    network, x, y = trained()
    x, y, walk = x[:2], y[:2], FAB(Ball(LINF, 0.1), 10)
    state = walk.begin(x, y, network(x).argsort(1)[:, -2], [0, 1]) | {"x": x, "y": y}
    state["stepped"] = torch.tensor([True, False])
    logits = network(x)
    assert walk.needs_gradient(state)  # a tie
    walk.advance(state, logits, None, None)
    assert torch.equal(state["point"], x) and not state["stepped"].any() and not state["steps"].any()
    state["stepped"] = torch.tensor([True, False])
    walk.advance(state, logits, torch.ones(2), torch.ones_like(x))
    assert state["stepped"].all() and state["steps"].tolist() == [1, 1] and not torch.equal(state["point"], x)


@NORMS
@pytest.mark.parametrize(("eta", "excess"), [(1.05, 6e-3), (1.001, 2e-4)])
def test_reaches_the_analytic_distance_of_linear_networks(norm: str, eta: float, excess: float) -> None:
    """The nearest image of class t is |logit difference| / |w_t - w_y|_dual away if no pixel is at a bound; eta overshoots."""
    linear = nn.Linear(12, 2)
    linear.bias.data = -linear.weight.data.sum(1) / 2  # the boundary passes through the centre of the box
    network = nn.Sequential(nn.Flatten(), linear).requires_grad_(False)
    x = 0.3 + 0.4 * torch.rand(20, 1, 3, 4)
    logits = network(x)
    y, target = logits.argmax(1), logits.argmin(1)
    normal = linear.weight[target] - linear.weight[y]
    gap = (logits.gather(1, y[:, None]) - logits.gather(1, target[:, None])).squeeze(1)
    least = gap / torch.linalg.vector_norm(normal, ord=1 if norm == LINF else 2, dim=1)
    free = least < 0.25
    visited = evaluations(FAB(Ball(norm, 1.0), 100, eta=eta), network, x, y, target)
    reached = nearest(visited, x, norm)
    assert free.sum() >= 10 and (reached[free] >= least[free] - 1e-6).all()
    assert (reached[free] <= (1 + excess) * least[free] + 1e-6).all()


@pytest.mark.parametrize(("norm", "epsilon"), [(LINF, 0.15), (L2, 0.7)])
def test_breaks_the_images_that_torchattacks_breaks(norm: str, epsilon: float) -> None:
    """In the pool, with all nine targets, the same images withstand as in torchattacks, but for at most one."""
    network, x, y = trained()
    x, y = x[:40], y[:40]
    pool = Pool(FAB(Ball(norm, epsilon), 20), network, lambda images: network(images).argmax(1), lambda rows: x[rows], y,
                runs=network(x).argsort(1, descending=True)[:, 1:], seed=lambda position, run: position, size=16)
    fell = torch.zeros(len(x), dtype=torch.bool)
    while not pool.over:
        for attacked in pool.step():
            fell[attacked.position] = attacked.fell
            assert not attacked.fell or pool.walk.ball.contains(attacked.x_adv[None], x[attacked.position, None])
    theirs = torchattacks.FAB(network, norm=norm, eps=epsilon, steps=20, multi_targeted=True)(x, y)
    broken = network(theirs).argmax(1) != y
    assert (fell != broken).sum() <= 1 and 5 < fell.sum() < 38
