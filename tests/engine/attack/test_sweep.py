"""Sweeps against analytic distances, cold attacks, brute force, and interruption anywhere."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn

from engine.attack.ball import Ball
from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import L2, LINF
from engine.attack.evaluation import Evaluation
from engine.attack.gradient_steps import random_point, steepest
from engine.attack.guard import Watched, under_attack
from engine.attack.methods import start
from engine.attack.statistics import median_interval
from engine.attack.sweep import CHECK, LAST_STANDING, NEAREST, STEPS, Sweep, radii
from engine.config import AttackConfig
from engine.data.splits import stable_seed
from engine.errors import CheckpointError, StopRequested
from tests.engine.attack.test_minimum import exact, linear
from tests.engine.attack.trained import trained

NORMS = pytest.mark.parametrize("norm", [LINF, L2])
EPSILON = {LINF: 0.1, L2: 0.5}


def sweep_of(network: nn.Module, x: Tensor, y: Tensor, norm: str, classes: int = 10, **changes: Any) -> Sweep:
    """Return a sweep that is about to begin."""
    config = AttackConfig(**({"attacks": (), "norm": norm, "sweep_radii": 16, "batch_size": 32, "epsilon": EPSILON[LINF],
                              "epsilon_l2": EPSILON[L2], "step_size": 0.04, "step_size_l2": 0.2} | changes))
    evaluation = Evaluation(config, network, x, y, classes=classes, indices=range(len(y)), checkpoint="abc")
    while not evaluation.over:
        evaluation.step()
    return Sweep(evaluation)


def run(sweep: Sweep) -> list[dict[str, Any]]:
    """Run a sweep to its end and return the fields of its events."""
    events = []
    while not sweep.over:
        events += sweep.step()
    return [fields for _, fields in events]


def curve(points: list[dict[str, Any]], attack: str) -> list[tuple[float, int]]:
    return [(point["epsilon"], point["correct"]) for point in points if point["attack"] == attack and "sweep" in point]


@NORMS
def test_on_a_linear_model_the_curve_is_the_analytic_one(norm: str) -> None:
    """An image stands at a radius exactly if |margin| over the dual norm is larger, within FMN's 1 %; cold APGD agrees."""
    torch.manual_seed(1)
    model, x, y = linear(2)
    truth = exact(model, x, y, norm)
    far = float(truth.median())
    points = run(sweep_of(model, x, y, norm, classes=2, epsilon=far, epsilon_l2=far))
    assert len(curve(points, NEAREST.name)) >= 16
    for attack in (NEAREST.name, CHECK.name):
        for radius, correct in curve(points, attack):
            assert int((truth > radius + 1e-5).sum()) <= correct <= int((1.01 * truth + 1e-5 > radius).sum()), (attack, radius)
    (critical,) = [point for point in points if "median" in point]
    assert critical["low"] <= critical["median"] <= critical["high"]
    assert critical["median"] == pytest.approx(truth.sort().values[9].item(), rel=0.011)


@NORMS
def test_a_curve_falls_and_begins_at_natural_accuracy(norm: str) -> None:
    """No accuracy rises with the radius or with the steps; at radius 0 it is natural; at the last hardly an image stands."""
    network, x, y = trained()
    y = y.clone()
    y[:5] = (y[:5] + 1) % 10  # misclassified without an attack
    sweep = sweep_of(network, x, y, norm)
    points = run(sweep)
    accuracies = [correct for _, correct in curve(points, NEAREST.name)]
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[0] == len(y) - 5
    assert accuracies[-1] <= LAST_STANDING * len(y)
    by_steps = [(point["steps"], point["correct"]) for point in points if point.get("sweep") == "steps"]
    assert [steps for steps, _ in by_steps] == list(STEPS)
    assert [correct for _, correct in by_steps] == sorted((correct for _, correct in by_steps), reverse=True)
    columns = sweep.columns()
    assert columns["distance"][:5] == columns["steps"][:5] == [0.0] * 5 and columns["image"] == list(range(len(y)))
    assert all(far > 0 for far in columns["distance"][5:])


@NORMS
def test_the_curve_agrees_with_cold_attacks(norm: str) -> None:
    """At the marks the curve is at most 3 points from APGD-CE of 100 steps and from the cold marks themselves."""
    network, x, y = trained()
    sweep = sweep_of(network, x, y, norm)
    points = run(sweep)
    marks = curve(points, CHECK.name)
    assert [radius for radius, _ in marks] == pytest.approx([share * EPSILON[norm] for share in (0.5, 1, 1.5)])
    for radius, mark in marks:
        ours = int((sweep.thresholds["epsilon"] > radius + 1e-6).sum())
        standing, _ = cold(network, x, y, norm, radius)
        assert abs(ours - mark) <= 0.03 * len(y) and abs(ours - standing) <= 0.03 * len(y), (radius, ours, mark, standing)


def cold(network: nn.Module, x: Tensor, y: Tensor, norm: str, radius: float) -> tuple[int, int]:
    """Return the images that withstand APGD-CE of 100 steps at a radius, and the network evaluations of single images."""
    settings = replace(sweep_of(network, x, y, norm).settings, epsilon=radius)
    with under_attack(network):
        watched = Watched(network)
        pool = start(ATTACKS["apgd-ce"], watched, lambda position: x[position], y, targets=torch.zeros_like(y)[:, None],
                     ids=range(len(y)), settings=settings, size=32)
        fell = 0
        while not pool.over:
            pool.step()
            fell += sum(image.fell for batch in pool.finished() for image in batch)
    return len(y) - fell, watched.passes


@NORMS
def test_a_sweep_of_16_radii_costs_less_than_three_attacks(norm: str) -> None:
    """The curve with its marks takes fewer evaluations than three runs of APGD-CE at a radius at which half of the images stand.

    APGD-CE lets go of images that fall, so that it costs 101 evaluations for half of the images and a few for the others.
    """
    network, x, y = trained()
    sweep = sweep_of(network, x, y, norm)
    spent: dict[str, int] = {}
    while not sweep.over:
        part, before = sweep.part, sweep.passes
        sweep.step()
        spent[part] = spent.get(part, 0) + sweep.passes - before
    attack = cold(network, x, y, norm, EPSILON[norm])[1]
    of_radii = sum(passes for part, passes in spent.items() if part != "steps")
    assert spent["epsilon"] == 80 * len(y)
    assert of_radii < 3 * attack, (spent, attack)


@NORMS
def test_accuracy_by_steps_is_that_of_pgd_stopped_there(norm: str) -> None:
    """An image falls after the first step at which a plain loop from the same start misclassifies it."""
    network, x, y = trained()
    x, y = x[:30], y[:30]
    sweep = sweep_of(network, x, y, norm)
    run(sweep)
    settings, ball = sweep.settings, Ball(norm, EPSILON[norm])
    point = random_point(ball, x, [stable_seed(0, "pgd-steps", "image", image, 0) for image in range(30)])
    fallen = torch.full((30,), torch.inf)
    for step in range(STEPS[-1] + 1):
        wrong = network(point).argmax(1) != y
        fallen = torch.where(wrong & fallen.isinf(), float(step), fallen)
        leaf = point.detach().requires_grad_()
        gradient = torch.autograd.grad(nn.functional.cross_entropy(network(leaf), y, reduction="sum"), leaf)[0]
        point = ball.project(point + settings.step_size * steepest(gradient, norm), x)
    assert torch.equal(sweep.thresholds["steps"], fallen)
    assert 0 < int(fallen.isfinite().sum()) < 30


class StopAfter:
    """A poll that requests a stop at its n-th call."""

    def __init__(self, polls: int) -> None:
        self.polls = polls

    def __call__(self) -> None:
        self.polls -= 1
        if self.polls < 0:
            raise StopRequested


@pytest.mark.parametrize("polls", [0, 1, 57, 151, 260, 330])
def test_interrupted_anywhere_equals_uninterrupted(polls: int) -> None:
    """A sweep that is stopped at a pass, written to disk and read by a new one ends with equal thresholds and events."""
    network, x, y = trained()
    x, y = x[:40], y[:40]
    whole = sweep_of(network, x, y, LINF)
    expected = run(whole)
    stopped, events, poll = sweep_of(network, x, y, LINF), [], StopAfter(polls)
    with pytest.raises(StopRequested):
        while True:
            events += [fields for _, fields in stopped.step(poll)]
    buffer = io.BytesIO()
    torch.save(stopped.state_dict(), buffer)
    buffer.seek(0)
    resumed = sweep_of(network, x, y, LINF)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    events += run(resumed)
    assert events == expected
    for name, thresholds in whole.thresholds.items():
        assert torch.equal(thresholds, resumed.thresholds[name]), name


def test_the_state_of_another_sweep_is_refused() -> None:
    """Another norm, epsilon or set of images is another sweep."""
    network, x, y = trained()
    state = sweep_of(network, x[:20], y[:20], LINF).state_dict()
    for other in (sweep_of(network, x[:20], y[:20], L2), sweep_of(network, x[:19], y[:19], LINF),
                  sweep_of(network, x[:20], y[:20], LINF, epsilon=0.05)):
        with pytest.raises(CheckpointError, match="saved sweep must belong to the same network"):
            other.load_state_dict(state)


def test_fingerprints_say_what_is_comparable() -> None:
    """Curves share a fingerprint whatever radii they show; other images, attacks and norms have others."""
    network, x, y = trained()

    def of(**changes: Any) -> list[str]:
        return [fields["fingerprint"] for name in ("epsilon", "mark 1")
                for fields in [sweep_of(network, x[:20], y[:20], **({"norm": LINF} | changes)).points(name)[0]]]

    assert of() == of(sweep_radii=5) == of(epsilon=0.1)
    assert not set(of()) & set(of(norm=L2)) and not set(of()) & set(of(sweep_images=10)) and len(set(of())) == 2


def test_a_network_without_a_correct_image_has_no_curve_above_0() -> None:
    """Every threshold is 0, and the network is evaluated for natural predictions only."""
    network, x, y = trained()
    sweep = sweep_of(network, x, (y + 1) % 10, LINF)
    points = run(sweep)
    assert {point["correct"] for point in points if "correct" in point} == {0} and sweep.passes == 0


@pytest.mark.parametrize(("distances", "expected"), [
    ([0.1] * 100, [0.0, 0.025, 0.05, 0.075, 0.1, 0.125]),
    ([0.1] * 90 + [math.inf] * 10, [0.0, 0.025, 0.05, 0.075, 0.1, 0.125]),
    ([math.inf] * 5, [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]), ([0.0] * 5, [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]),
    ([0.1001] * 100, [0.0, 0.026, 0.052, 0.078, 0.1, 0.104])])
def test_radii_reach_the_point_where_nearly_all_have_fallen(distances: list[float], expected: list[float]) -> None:
    """Evenly spaced with a spacing of two digits, and epsilon 0.1 among them."""
    assert radii(distances, 6, 0.1) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 5, 16, 1000])
@pytest.mark.parametrize("epsilon", [8 / 255, 0.1, 0.15, 0.5])
def test_a_curve_has_as_many_radii_as_asked_for(count: int, epsilon: float) -> None:
    """0 and epsilon are among them, and no two are equal."""
    for distances in ([0.1] * 9, [0.0], [0.01 * number for number in range(80)], [math.inf] * 3):
        found = radii(distances, count, epsilon)
        assert len(found) == count and found[0] == 0 and epsilon in found
        assert all(second - first > 1e-9 for first, second in pairwise(found))


@pytest.mark.parametrize("n", [1, 5, 6, 7, 20, 101, 1000])
def test_the_median_interval_is_the_narrowest_of_order_statistics(n: int) -> None:
    """Its ends err with at most 2.5 % on either side by the binomial distribution, and the next inner ones with more."""
    median, low, high = median_interval([float(value) for value in range(1, n + 1)])
    assert median == (n + 1) // 2
    rank = 0 if low == -math.inf else int(low)
    assert (high == math.inf) if rank == 0 else (high == n + 1 - rank)
    assert rank == 0 or binom.cdf(rank - 1, n, 0.5) <= 0.025
    assert binom.cdf(rank, n, 0.5) > 0.025


def test_the_median_of_a_sample_of_infinities() -> None:
    """Images without an adversarial image count as farther than all others."""
    assert median_interval([0.1] * 10 + [math.inf] * 90)[0] == math.inf
    assert median_interval([0.1] * 90 + [math.inf] * 10) == (0.1, 0.1, 0.1)
    with pytest.raises(ValueError, match="at least one value"):
        median_interval([])
