"""Retraining: a step is all or nothing, depends only on seed, epoch and step, and the best checkpoint is the most robust."""

from __future__ import annotations

import io

import pytest
import torch
from torch.nn import functional as F

from engine.config import RetrainConfig
from engine.data.augmentation import generator_for
from engine.data.loading import batches
from engine.errors import StopRequested
from engine.train.retrain import Retraining, Selection
from tests.engine.train.small_network import SmallNetwork, stripes

MODES = [{"training": "pgd_at"}, {"training": "natural"}, {"training": "trades"},
         {"training": "pgd_at", "auxiliary_input": "adversarial"}, {"training": "trades", "auxiliary_weight": 0.0},
         {"training": "pgd_at", "auxiliary_weight": 0.0}]


def config(**changes) -> RetrainConfig:
    # The tests' images are 6x6 and their network brings its own auxiliary head, whatever digits allow.
    values = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "epsilon": 0.1, "step_size": 0.03, "attack_steps": 2,
              "crop_padding": 1, "flip": True, "cutout": 2, "drop_path": 0.2, "selection_steps": 3, "auxiliary_weight": 0.4}
    return RetrainConfig.model_construct(**(RetrainConfig(auxiliary_weight=0.0).model_dump() | values | changes))


def retraining(**changes) -> Retraining:
    torch.manual_seed(1)
    return Retraining(config(**changes), SmallNetwork())


def epoch(training: Retraining, number: int, first: int = 0) -> None:
    x, y = stripes(32)
    for step, indices in enumerate(batches(32, 8, generator_for(2, "order", number))):
        if step >= first:
            training.step(x[indices], y[indices], epoch=number, step=step)


def flat(value: object) -> list[torch.Tensor]:
    """Every tensor of a nested state, in order."""
    if isinstance(value, torch.Tensor):
        return [value.clone()]
    if isinstance(value, dict):
        return [tensor for key in value for tensor in flat(value[key])]
    return [tensor for item in value for tensor in flat(item)] if isinstance(value, list) else []


def same(one: Retraining, other: Retraining) -> bool:
    pairs = zip(flat(one.state_dict()), flat(other.state_dict()), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mode", MODES)
def test_a_step_moves_the_weights_and_reports_what_it_did(mode: dict) -> None:
    training = retraining(**mode)
    before = flat(training.network.state_dict())
    polled: list[int] = []
    report = training.step(*stripes(8), epoch=0, step=0, poll=lambda: polled.append(1))
    assert any(not torch.equal(a, b) for a, b in zip(before, flat(training.network.state_dict()), strict=True))
    assert report.passes == len(polled)
    assert (report.adversarial_accuracy is None) == (mode["training"] == "natural")
    assert training.steps == 1 and all(parameter.grad is None for parameter in training.network.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_at_any_pass_leaves_everything_as_it_was(mode: dict) -> None:
    training = retraining(**mode)
    epoch(training, 0)
    training.network.stem[1].eval()
    modes = [module.training for module in training.network.modules()]
    state, random_state, dropped = flat(training.state_dict()), torch.get_rng_state(), training.network.drop_path
    passes = retraining(**mode).step(*stripes(8), epoch=0, step=0).passes
    for allowed in range(passes):
        left = [allowed]

        def poll(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise StopRequested

        with pytest.raises(StopRequested):
            training.step(*stripes(8), epoch=1, step=0, poll=poll)
        assert all(torch.equal(a, b) for a, b in zip(state, flat(training.state_dict()), strict=True))
        assert [module.training for module in training.network.modules()] == modes
        assert torch.equal(torch.get_rng_state(), random_state) and training.network.drop_path == dropped
        assert all(p.requires_grad and p.grad is None for p in training.network.parameters())


def test_resumed_equals_uninterrupted_bit_for_bit() -> None:
    whole = retraining()
    epoch(whole, 0)
    epoch(whole, 1)
    first, buffer = retraining(), io.BytesIO()
    epoch(first, 0)
    x, y = stripes(32)
    order = list(batches(32, 8, generator_for(2, "order", 1)))
    first.step(x[order[0]], y[order[0]], epoch=1, step=0)
    first.keep_best(first.select(*stripes(16, seed=1)), epoch=0)
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    torch.rand(3)  # a new process has another global random state
    resumed = retraining()
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert same(resumed, first) and resumed.best["epoch"] == 0
    epoch(resumed, 1, first=1)
    resumed.best = None
    assert same(resumed, whole) and resumed.steps == whole.steps


def test_the_saved_state_does_not_move_with_the_network() -> None:
    training = retraining()
    epoch(training, 0)
    training.keep_best(training.select(*stripes(16, seed=1)), epoch=0)
    before = flat(training.best)
    epoch(training, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, flat(training.best), strict=True))


def test_natural_training_with_epsilon_zero_and_trades_take_the_same_step() -> None:
    # Without BatchNorm's memory of the additional passes the two losses are one at epsilon 0.
    def after(**mode) -> list[torch.Tensor]:
        training = retraining(drop_path=0.0, epsilon=0.0, **mode)
        training.step(*stripes(8), epoch=0, step=0)
        return [parameter.detach() for parameter in training.network.parameters()]

    for a, b in zip(after(training="natural"), after(training="trades"), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_published_auxiliary_loss_sees_the_clean_images() -> None:
    # With drop path, augmentation and the main loss's gradient equal, only the auxiliary head tells the two apart.
    heads = {}
    for choice in ("clean", "adversarial"):
        training = retraining(auxiliary_input=choice, drop_path=0.0, crop_padding=0, flip=False, cutout=0, weight_decay=0.0,
                              gradient_clip=1e9)
        x, y = stripes(8)
        before = training.network.auxiliary_head.weight.detach().clone()
        clean = 0.4 * F.cross_entropy(training.network.train().forward_with_auxiliary(x)[1], y)
        (expected,) = torch.autograd.grad(clean, training.network.auxiliary_head.weight)
        training.step(x, y, epoch=0, step=0)
        moved = before - training.network.auxiliary_head.weight.detach()
        heads[choice] = torch.allclose(moved, 0.05 * expected, atol=1e-6)
    assert heads == {"clean": True, "adversarial": False}


def test_selection_changes_nothing_and_is_the_same_twice() -> None:
    training = retraining()
    epoch(training, 0)
    state, random_state = flat(training.state_dict()), torch.get_rng_state()
    x, y = stripes(20, seed=1)
    first, again = training.select(x, y), training.select(x, y)
    assert first == again and first.images == 20
    assert all(torch.equal(a, b) for a, b in zip(state, flat(training.state_dict()), strict=True))
    assert torch.equal(torch.get_rng_state(), random_state) and training.network.training
    assert first.adversarial_loss >= first.natural_loss and first.adversarial_accuracy <= first.natural_accuracy


def test_selection_covers_every_image_in_blocks() -> None:
    training = retraining()
    x, y = stripes(21, seed=1)
    training.network.eval()
    with torch.no_grad():
        right = int((training.network(x).argmax(1) == y).sum())
    assert training.select(x, y, batch_size=8).natural_accuracy == pytest.approx(right / 21)


def test_the_best_is_the_most_robust_then_the_most_accurate_then_the_first() -> None:
    training = retraining()

    def offer(adversarial: float, natural: float, epoch: int) -> bool:
        return training.keep_best(Selection(0.0, natural, 0.0, adversarial, 10), epoch)

    assert offer(0.4, 0.9, 0)
    assert not offer(0.3, 1.0, 1)
    assert offer(0.4, 0.95, 2)
    assert not offer(0.4, 0.95, 3)
    assert offer(0.5, 0.5, 4)
    assert training.best["epoch"] == 4


def test_training_learns_and_becomes_robust() -> None:
    training = retraining(epochs=6, crop_padding=0, flip=False, cutout=0, drop_path=0.0, learning_rate=0.1)
    before = training.select(*stripes(32, seed=1))
    for number in range(6):
        epoch(training, number)
    after = training.select(*stripes(32, seed=1))
    assert after.natural_accuracy >= 0.9 and after.adversarial_accuracy > before.adversarial_accuracy + 0.2
