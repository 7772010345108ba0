"""The attack of Carlini and Wagner against the analytic distance, torch's Adam, a scalar binary search, and shifted logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.attack.ball import Ball
from engine.attack.carlini_wagner import FIRST_CONSTANT, CarliniWagner
from engine.attack.declaration import L2, LINF
from engine.errors import ConfigError
from tests.engine.attack.nearest import nearest
from tests.engine.attack.test_minimum import exact, linear

BALL = Ball(L2, 0.5)


def test_two_linear_classes_give_the_margin_over_the_norm_of_the_weights() -> None:
    """The distance is |margin| / ||w||_2 within 1 % and never below."""
    model, x, y = linear(2)
    normal = (model[1].weight[y] - model[1].weight[1 - y]).view_as(x)
    x = x + 0.2 * normal / normal.flatten(1).norm(dim=1)[:, None, None, None]  # away from the boundary
    ours, truth = nearest(CarliniWagner(BALL, 100, learning_rate=0.01), model, x, y)[0], exact(model, x, y, L2)
    assert bool((ours <= 1.01 * truth + 1e-5).all()) and bool((ours >= truth - 1e-6).all())


def test_logits_may_all_be_negative() -> None:
    """Subtracting 100 from every logit changes no prediction and no distance."""
    model, x, y = linear(4)
    walk = CarliniWagner(BALL, 60, learning_rate=0.05)
    plain, shifted = nearest(walk, model, x, y)[0], nearest(walk, lambda images: model(images) - 100, x, y)[0]
    assert bool(plain.isfinite().all())
    torch.testing.assert_close(shifted, plain, atol=1e-3, rtol=0)


def test_pixels_of_0_and_1_move() -> None:
    """On black and white images every image is broken although each pixel starts on a wall."""
    model, _, _ = linear(4)
    x = torch.randint(2, (20, 1, 4, 4)).float()
    distance, x_adv = nearest(CarliniWagner(BALL, 60, learning_rate=0.1), model, x, model(x).argmax(1))
    assert bool(distance.isfinite().all()) and bool(((x_adv - x).abs() > 0.01).any())
    assert bool((x_adv >= 0).all()) and bool((x_adv <= 1).all())


def test_a_search_step_is_adam_on_the_objective_of_the_paper() -> None:
    """The points are those of torch.optim.Adam on ||x' - x||^2 + c max(f, 0) over w, image by image."""
    model, x, y = linear(4)
    walk = CarliniWagner(BALL, 1000, 1, learning_rate=0.02)
    state = begun(walk, x, y)
    w = torch.atanh((2 * x - 1) * 0.999).requires_grad_()
    adam = torch.optim.Adam([w], lr=0.02)
    for _ in range(20):
        advance(walk, state, model)
        image = (w.tanh() + 1) / 2
        logits = model(image)
        own = logits.gather(1, y[:, None]).squeeze(1)
        f = (own - logits.scatter(1, y[:, None], -torch.inf).amax(1)).clamp(min=0)
        adam.zero_grad()
        ((image - x).square().sum() + FIRST_CONSTANT * f.sum()).backward()
        adam.step()
        torch.testing.assert_close(state["w"], w.detach(), atol=1e-4, rtol=1e-3)


def test_the_constants_are_those_of_a_binary_search() -> None:
    """c grows tenfold until a search step succeeds, and then halves an interval; each image has its own."""
    model, x, y = linear(4)
    walk = CarliniWagner(BALL, 30, 7, learning_rate=0.05)
    state = begun(walk, x, y)
    tried: list[list[tuple[float, bool]]] = [[] for _ in range(20)]
    for _ in range(walk.iterations):
        step, c, before = state["search_step"].clone(), state["c"].clone(), state["succeeded"].clone()
        adversarial = model(state["point"]).argmax(1) != y
        advance(walk, state, model)
        for image in (state["search_step"] > step).nonzero().flatten().tolist():
            tried[image].append((c[image].item(), bool(before[image] | adversarial[image])))
    for constants in tried:
        assert [c for c, _ in constants[:7]] == pytest.approx(searched([success for _, success in constants[:7]]))
    assert len({tuple(constants) for constants in map(tuple, tried)}) > 1


def searched(successes: list[bool]) -> list[float]:
    lower, upper, c, constants = 0.0, float("inf"), FIRST_CONSTANT, []
    for success in successes:
        constants.append(c)
        lower, upper = (lower, c) if success else (c, upper)
        c = 10 * c if upper == float("inf") else (lower + upper) / 2
    return constants


def test_a_search_step_that_stalls_is_aborted_for_its_image_alone() -> None:
    """Images without a gradient end their first search step at the first check; the others go on with theirs."""
    model, x, y = linear(4, 100.0)
    flat = (torch.arange(20) < 4)[:, None]

    def partly_flat(images: Tensor) -> Tensor:
        return torch.where(flat, 50.0 * torch.nn.functional.one_hot(y, 4), model(images))

    walk = CarliniWagner(BALL, 100, learning_rate=1e-4)
    state = begun(walk, x, y)
    for _ in range(11):
        advance(walk, state, partly_flat)
    assert state["search_step"].tolist() == [1] * 4 + [0] * 16
    torch.testing.assert_close(state["c"][:4], torch.full((4,), 10 * FIRST_CONSTANT))


def test_the_whole_search_is_one_walk() -> None:
    """It is over after at most iterations times search steps, and after no fewer search steps."""
    model, x, y = linear(4)
    walk = CarliniWagner(BALL, 10, 3)
    assert walk.iterations == 30
    state = begun(walk, x, y)
    ends = [advance(walk, state, model) for _ in range(30)]
    assert bool(ends[-1].all()) and not bool(ends[2].any())


def test_confidence_asks_for_a_margin() -> None:
    """With confidence kappa only points whose margin is below -kappa count as successes of the search."""
    model, x, y = linear(2, 100.0)
    walk = CarliniWagner(BALL, 40, 4, learning_rate=0.05, confidence=1.0)
    state, deepest = begun(walk, x, y), torch.full((20,), torch.inf)
    for _ in range(walk.iterations):
        logits = model(state["point"])
        deepest = torch.minimum(deepest, logits[range(20), y] - logits[range(20), 1 - y])
        advance(walk, state, model)
    assert bool((state["upper"].isfinite() == (deepest <= -1)).all()) and bool(state["upper"].isfinite().all())


def test_a_ball_in_another_norm_is_refused() -> None:
    """The objective measures L2."""
    with pytest.raises(ConfigError, match="searches in L2, got a ball in Linf"):
        CarliniWagner(Ball(LINF, 0.1), 10)


def begun(walk: CarliniWagner, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    targets = torch.full_like(y, -1)
    return walk.begin(x, y, targets, range(len(x))) | {"x": x, "y": y, "target": targets}


def advance(walk: CarliniWagner, state: dict[str, Tensor], model: Callable[[Tensor], Tensor]) -> Tensor:
    point = state["point"].detach().requires_grad_()
    logits = model(point)
    loss = walk.loss(logits, state)
    return walk.advance(state, logits.detach(), loss.detach(), torch.autograd.grad(loss.sum(), point)[0])
