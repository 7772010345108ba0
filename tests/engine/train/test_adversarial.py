"""The attack inside training, and the losses."""

from __future__ import annotations

import pytest
import torch
import torchattacks
from torch.nn import functional as F

from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import AttackSettings
from engine.attack.methods import run_attack
from engine.data.augmentation import generator_for
from engine.errors import StopRequested
from engine.train.adversarial import divergence, fast_images, trades_images, trades_loss, training_images
from tests.engine.train.small_network import SmallNetwork, stripes

ATTACK = {"epsilon": 0.1, "step_size": 0.03, "steps": 4}


def attacked(network: SmallNetwork, make=training_images, **changes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y = stripes(12)
    return x, y, make(network, x, y, generator=generator_for(0, "attack"), **(ATTACK | changes))


@pytest.mark.parametrize("make", [training_images, trades_images])
@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_images_stay_in_the_ball_and_raise_the_loss(make, start: str) -> None:
    """|x_adv - x|_inf <= epsilon, 0 <= x_adv <= 1, and the loss that the attack maximises is larger at x_adv."""
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
    """The ball of radius 0 contains the image alone."""
    x, _, x_adv = attacked(SmallNetwork(), make, epsilon=0.0)
    assert torch.equal(x_adv, x)


def test_one_step_from_the_image_is_fgsm() -> None:
    """PGD of one step of length epsilon from the image itself is x + epsilon sign(gradient), clipped to 0..1."""
    network = SmallNetwork()
    x, y, x_adv = attacked(network, steps=1, step_size=0.1, start="none")
    fgsm = run_attack(ATTACKS["fgsm"], network, x, y, AttackSettings(0.1, 0.0, classes=4, seed=0))
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
    """KL(p || p) = 0 and KL >= 0, so TRADES is the natural loss at epsilon 0 and no less above it."""
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
    """KL(p || q) = sum p (log p - log q), averaged over the batch."""
    logits, logits_adv = torch.randn(5, 3), torch.randn(5, 3)
    p, q = logits.softmax(1), logits_adv.softmax(1)
    assert divergence(logits, logits_adv) == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-5)


def test_the_divergence_pulls_at_both_predictions() -> None:
    """KL(p || q) has a gradient in both of its arguments."""
    logits, logits_adv = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    divergence(logits, logits_adv).backward()
    assert logits.grad.abs().max() > 0 and logits_adv.grad.abs().max() > 0


def test_trades_is_the_published_algorithm() -> None:
    """Zhang et al. 2019, algorithm 1, written out in float64: PGD on KL(p(x) || p(x')), then CE + beta KL in the weights."""
    epsilon, step_size, steps, beta = 0.1, 0.03, 4, 6.0
    network, theirs = SmallNetwork().double(), SmallNetwork().double()
    theirs.load_state_dict(network.state_dict())
    x, y = stripes(12)
    x = x.double()

    def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (p * (p.log() - q.log())).sum() / len(p)

    x_adv = trades_images(network, x, y, epsilon=epsilon, step_size=step_size, steps=steps, generator=generator_for(0, "attack"))
    images = x + 0.001 * torch.randn(x.shape, generator=generator_for(0, "attack"), dtype=x.dtype)
    theirs.eval()
    for _ in range(steps):
        images = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(kl(theirs(x).detach().softmax(1), theirs(images).softmax(1)), images)
        images = (images + step_size * gradient.sign()).detach()
        images = images.clamp(min=x - epsilon, max=x + epsilon).clamp(0, 1)
    assert torch.allclose(x_adv, images, atol=1e-12)

    trades_loss(network(x), network(x_adv), y, beta).backward()
    theirs.train()
    p = theirs(x).softmax(1)
    natural = -p[torch.arange(len(y)), y].log().mean()
    gradients = torch.autograd.grad(natural + beta * kl(p, theirs(images).softmax(1)),
                                    [*theirs.stem.parameters(), *theirs.classifier.parameters()])
    ours = [parameter.grad for parameter in (*network.stem.parameters(), *network.classifier.parameters())]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, gradients, strict=True))


def test_the_attack_of_trades_knows_no_labels_and_that_of_madry_does() -> None:
    """TRADES maximises KL(p(x) || p(x')), which contains no label; Madry's attack maximises the cross-entropy of the label."""
    network = SmallNetwork()
    x, y = stripes(12)
    for make, blind in ((trades_images, True), (training_images, False)):
        one, other = (make(network, x, labels, generator=generator_for(0, "attack"), **ATTACK)
                      for labels in (y, (y + 1) % 4))
        assert torch.equal(one, other) == blind


@pytest.mark.parametrize("ratio", [0.5, 1.25, 2.0])
def test_fast_at_is_the_published_step(ratio: float) -> None:
    """Wong, Rice and Kolter 2020, algorithm 3, written in the perturbation as there, in training mode, in float64."""
    epsilon = 0.1
    network, theirs = SmallNetwork().double(), SmallNetwork().double()
    theirs.load_state_dict(network.state_dict())
    x, y = stripes(12)
    x = x.double()
    x_adv = fast_images(network, x, y, epsilon=epsilon, step_size=ratio * epsilon, generator=generator_for(0, "attack"))

    unit = torch.rand(x.shape, generator=generator_for(0, "attack"), dtype=x.dtype)
    start = (epsilon * (2 * unit - 1)).clamp(min=-x, max=1 - x).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(theirs(x + start), y), start)
    moved = (start.detach() + ratio * epsilon * gradient.sign()).clamp(-epsilon, epsilon).clamp(min=-x, max=1 - x)
    assert torch.allclose(x_adv, x + moved, atol=1e-12)
    # As published, BatchNorm has seen the start images.
    assert all(torch.allclose(value, theirs.state_dict()[name]) for name, value in network.state_dict().items())
    assert network.training and all(p.requires_grad and p.grad is None for p in network.parameters())


def test_fast_at_stays_in_the_ball_and_in_the_pixels_and_costs_one_pass() -> None:
    network, polled = SmallNetwork(), []
    x, y = stripes(12)
    x[:, :, 0], x[:, :, 1] = 0.0, 1.0
    x_adv = fast_images(network, x, y, epsilon=0.1, step_size=0.125, generator=generator_for(0, "attack"),
                        poll=lambda: polled.append(1))
    assert (x_adv - x).abs().max() <= 0.1 + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1 and len(polled) == 1
    nothing = fast_images(network, x, y, epsilon=0.0, step_size=0.0, generator=generator_for(0, "attack"))
    assert torch.equal(nothing, x)


def test_the_steps_are_those_of_torchattacks() -> None:
    network = SmallNetwork()
    x, y, x_adv = attacked(network, start="none")
    theirs = torchattacks.PGD(network.eval(), eps=0.1, alpha=0.03, steps=4, random_start=False)(x, y)
    assert torch.allclose(x_adv, theirs, atol=1e-6)
