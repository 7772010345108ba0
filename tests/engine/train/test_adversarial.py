"""The attack inside training, and the losses."""

from __future__ import annotations

import pytest
import torch
import torchattacks
from torch.nn import functional as F

from engine.attack import ATTACKS
from engine.attack.methods import run_attack
from engine.data.augmentation import generator_for
from engine.errors import StopRequested
from engine.train.adversarial import divergence, trades_images, trades_loss, training_images
from tests.engine.train.small_network import SmallNetwork, stripes

ATTACK = {"epsilon": 0.1, "step_size": 0.03, "steps": 4}


def attacked(network: SmallNetwork, make=training_images, **changes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y = stripes(12)
    return x, y, make(network, x, y, generator=generator_for(0, "attack"), **(ATTACK | changes))


@pytest.mark.parametrize("make", [training_images, trades_images])
@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_images_stay_in_the_ball_and_raise_the_loss(make, start: str) -> None:
    network = SmallNetwork()
    x, y, x_adv = attacked(network, make, start=start)
    assert (x_adv - x).abs().max() <= 0.1 + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
    network.eval()
    if make is training_images:
        assert F.cross_entropy(network(x_adv), y) > F.cross_entropy(network(x), y) + 1e-3
    else:  # TRADES attacks the prediction, right or wrong
        _, _, beginning = attacked(network, make, start=start, steps=1, step_size=0.0)
        assert divergence(network(x), network(x_adv)) > divergence(network(x), network(beginning))


@pytest.mark.parametrize("make", [training_images, trades_images])
def test_epsilon_zero_returns_the_images(make) -> None:
    x, _, x_adv = attacked(SmallNetwork(), make, epsilon=0.0)
    assert torch.equal(x_adv, x)


def test_one_step_from_the_image_is_fgsm() -> None:
    network = SmallNetwork()
    x, y, x_adv = attacked(network, steps=1, step_size=0.1, start="none")
    fgsm = run_attack(ATTACKS["fgsm"], network, x, y, epsilon=0.1, step_size=0, classes=4, seed=0)
    assert torch.allclose(x_adv, fgsm, atol=1e-7)


def test_the_network_and_the_random_state_are_as_found() -> None:
    network = SmallNetwork()
    network.stem[1].eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes, random_state = [module.training for module in network.modules()], torch.get_rng_state()
    attacked(network)
    attacked(network, trades_images)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("make, passes", [(training_images, 4), (trades_images, 5)])
def test_a_stop_is_looked_for_before_each_pass(make, passes: int) -> None:
    polled: list[int] = []
    attacked(SmallNetwork(), make, poll=lambda: polled.append(1))
    assert len(polled) == passes

    def stop() -> None:
        raise StopRequested

    network = SmallNetwork()
    with pytest.raises(StopRequested):
        attacked(network, make, poll=stop)
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())


def test_trades_equals_the_natural_loss_at_epsilon_zero_and_exceeds_it_above() -> None:
    network = SmallNetwork()
    for epsilon in (0.0, 0.01, 0.1):
        x, y, x_adv = attacked(network, trades_images, epsilon=epsilon)
        logits, logits_adv = network(x), network(x_adv)
        natural, loss = F.cross_entropy(logits, y), trades_loss(logits, logits_adv, y, beta=6.0)
        if epsilon == 0:
            assert torch.equal(loss, natural)
        else:
            assert loss > natural + 1e-4


def test_the_divergence_is_that_of_the_definition() -> None:
    logits, logits_adv = torch.randn(5, 3), torch.randn(5, 3)
    p, q = logits.softmax(1), logits_adv.softmax(1)
    assert divergence(logits, logits_adv) == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-5)


def test_the_divergence_pulls_at_both_predictions() -> None:
    logits, logits_adv = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    divergence(logits, logits_adv).backward()
    assert logits.grad.abs().max() > 0 and logits_adv.grad.abs().max() > 0


def test_the_steps_are_those_of_torchattacks() -> None:
    network = SmallNetwork()
    x, y, x_adv = attacked(network, start="none")
    theirs = torchattacks.PGD(network.eval(), eps=0.1, alpha=0.03, steps=4, random_start=False)(x, y)
    assert torch.allclose(x_adv, theirs, atol=1e-6)
