"""Promises of every registered attack, as `run_attack` states them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.hand_made import residual_shape
from engine.attack.ball import Ball
from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import Attack, AttackSettings, Passes
from engine.attack.methods import run_attack
from engine.errors import ConfigError, StopRequested
from engine.space.residual import ResidualNetwork

CLASSES = 6
NAMES = [*ATTACKS, "pgd-3"]
SETTINGS = {"epsilon": 0.1, "step_size": 0.03, "classes": CLASSES, "seed": 5}


def settings_of(attack: Attack, **changes: float) -> AttackSettings:
    """Return settings in a norm in which the attack is defined: L-infinity where possible."""
    return AttackSettings(**({"norm": attack.norms[0]} | SETTINGS | changes))



class SmallNetwork(nn.Module):
    """Two convolutions with BatchNorm and dropout: everything an attack could leave changed. Wide logits, so that some
    images fall and some stand."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
                                  nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Linear(6 * 2 * 2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x))


@pytest.fixture(params=NAMES)
def attack(request: pytest.FixtureRequest) -> Attack:
    return shortened(ATTACKS[request.param])


def shortened(attack: Attack) -> Attack:
    """The same attack with few iterations: what is promised here does not depend on their number."""
    return replace(attack, steps=min(attack.steps, 12), targets=min(attack.targets, 3),
                   parts=tuple(shortened(part) for part in attack.parts))


@pytest.fixture
def network() -> SmallNetwork:
    network = SmallNetwork()
    with torch.no_grad():  # running statistics that are not the initial ones
        for _ in range(20):
            network(torch.rand(32, 1, 6, 6))
    network.train()
    network.body[1].eval()  # a mixture of modes, to be found again
    return network


@pytest.fixture
def batch(network: SmallNetwork) -> tuple[Tensor, Tensor]:
    """Eight images with pixels at both ends of the range; six labelled as the network sees them, two not."""
    x = (torch.rand(8, 1, 6, 6) * 1.4 - 0.2).clamp(0, 1)
    y = logits_of(network, x).argmax(1)
    y[6:] = (y[6:] + 1) % CLASSES
    return x, y


def logits_of(network: SmallNetwork, x: Tensor) -> Tensor:
    copy = SmallNetwork()
    copy.load_state_dict(network.state_dict())
    with torch.no_grad():
        return copy.eval()(x)


def test_images_stay_in_the_ball_and_in_range(attack: Attack, network: SmallNetwork, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    before = x.clone()
    x_adv = run_attack(attack, network, x, y, settings_of(attack))
    assert x_adv.shape == x.shape and x_adv.dtype == torch.float32 and not x_adv.requires_grad
    # An attack that searches for the nearest adversarial image may find it outside the ball.
    assert attack.nearest or bool(Ball(attack.norms[0], SETTINGS["epsilon"]).contains(x_adv, x).all())
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert torch.equal(x, before)


def test_epsilon_zero_returns_the_images(attack: Attack, network: SmallNetwork, batch: tuple[Tensor, Tensor]) -> None:
    if attack.nearest:
        pytest.skip("searches for the nearest adversarial image, whatever epsilon is")
    x, y = batch
    assert torch.equal(run_attack(attack, network, x, y, settings_of(attack, epsilon=0.0)), x)


def test_the_loss_does_not_fall_and_no_image_is_repaired(attack: Attack, network: SmallNetwork,
                                                         batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    x_adv = run_attack(attack, network, x, y, settings_of(attack))
    before, after = logits_of(network, x), logits_of(network, x_adv)
    assert F.cross_entropy(after, y) >= F.cross_entropy(before, y) - 1e-6
    assert not ((before.argmax(1) != y) & (after.argmax(1) == y)).any()


def test_a_large_ball_breaks_something(attack: Attack, network: SmallNetwork, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    x_adv = run_attack(attack, network, x, y, settings_of(attack, epsilon=0.8, step_size=0.3))
    assert (logits_of(network, x_adv).argmax(1) == y).sum() < (logits_of(network, x).argmax(1) == y).sum()


def test_the_network_and_the_random_state_are_as_found(attack: Attack, network: SmallNetwork,
                                                       batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    F.cross_entropy(network(x), y).backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes, random_state = [module.training for module in network.modules()], torch.get_rng_state()
    run_attack(attack, network, x, y, settings_of(attack))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(network.parameters(), gradients, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_the_seed_decides(attack: Attack, network: SmallNetwork, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    first = run_attack(attack, network, x, y, settings_of(attack))
    torch.rand(7)  # the global random state has moved on
    assert torch.equal(run_attack(attack, network, x, y, settings_of(attack)), first)


def test_a_stop_reaches_into_the_attack_and_leaves_everything_as_found(attack: Attack, network: SmallNetwork,
                                                                       batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    allowed = min(2, attack.passes(CLASSES).forward - 1)
    asked = 0

    def poll() -> None:
        nonlocal asked
        asked += 1
        if asked > allowed:
            raise StopRequested

    modes, random_state = [module.training for module in network.modules()], torch.get_rng_state()
    with pytest.raises(StopRequested):
        run_attack(attack, network, x, y, settings_of(attack), poll=poll)
    assert asked == allowed + 1
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())


class Counted(torch.autograd.Function):
    """The identity. It counts the images whose gradients pass through it."""

    backwards = 0

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        Counted.backwards += len(gradient)
        return gradient


@pytest.mark.parametrize("steps", [1, 12])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("name", [name for name in NAMES if not ATTACKS[name].parts])
def test_the_declared_cost_is_that_of_a_batch_of_which_no_image_breaks(network: SmallNetwork, name: str, steps: int,
                                                                       targets: int) -> None:
    x, counts = torch.rand(4, 1, 6, 6), [0]
    y = logits_of(network, x).argmax(1)
    attack = replace(ATTACKS[name], steps=min(ATTACKS[name].steps, steps), targets=min(ATTACKS[name].targets, targets))
    network.classifier.register_forward_hook(lambda module, inputs, logits: Counted.apply(logits))
    Counted.backwards = 0
    run_attack(attack, network, x, y, settings_of(attack, epsilon=0.0), on_pass=counts.append)
    spent, declared = Passes(counts[-1] // 4, Counted.backwards // 4), attack.passes(CLASSES)
    if name in ("fab-t", "cw"):  # how many points are evaluated twice, or how early a search ends, depends on the network
        assert spent.forward <= declared.forward and spent.backward <= declared.backward
    else:
        assert spent == declared


def test_a_suite_costs_what_its_parts_cost() -> None:
    parts = [part.passes(CLASSES) for part in ATTACKS["autoattack"].parts]
    assert ATTACKS["autoattack"].passes(CLASSES) == Passes(sum(one.forward for one in parts), sum(one.backward for one in parts))


def test_too_few_classes_are_refused_with_a_sentence(attack: Attack) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    x, y = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    settings = settings_of(attack, classes=3)
    if attack.min_classes > 3:
        with pytest.raises(ConfigError, match="needs at least 4 classes, got 3"):
            run_attack(attack, network, x, y, settings)
    else:
        run_attack(attack, network, x, y, settings)


def test_an_empty_batch_is_no_fault(attack: Attack, network: SmallNetwork) -> None:
    x = torch.rand(0, 1, 6, 6)
    assert run_attack(attack, network, x, torch.zeros(0, dtype=torch.int64), settings_of(attack)).shape == x.shape


def test_hand_made_networks_are_attacked_and_left_as_found(attack: Attack) -> None:
    _attacked_and_left_as_found(attack, "wide-resnet-10-1")


@pytest.mark.parametrize("name", ["resnet-18", "preact-resnet-18"])
def test_so_are_the_larger_ones(name: str) -> None:
    _attacked_and_left_as_found(ATTACKS["pgd-3"], name)


def _attacked_and_left_as_found(attack: Attack, name: str) -> None:
    network = ResidualNetwork(residual_shape(name), classes=CLASSES, image_shape=(1, 4, 4)).train()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        y = network.eval()(x).argmax(1)
    network.train()
    x_adv = run_attack(attack, network, x, y, settings_of(attack))
    assert attack.nearest or bool(Ball(attack.norms[0], SETTINGS["epsilon"]).contains(x_adv, x).all())
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(module.training for module in network.modules()) and all(p.requires_grad for p in network.parameters())


def test_facts_are_complete(attack: Attack) -> None:
    assert attack.title and attack.summary and attack.source and set(attack.norms) <= {"Linf", "L2"}
    assert all(part.name in ATTACKS for part in attack.parts) and bool(attack.builder) != bool(attack.parts)
    assert attack.header and attack.prefix.isidentifier()
    assert bool(attack.steps) != bool(attack.parts)


def test_each_attack_has_columns_of_its_own() -> None:
    prefixes = {attack.prefix for _, attack in ATTACKS.items()}
    assert len(prefixes) == len(ATTACKS) and not prefixes & {"natural", "worst"}


def test_declarations_do_not_import_torch() -> None:
    """The dashboard reads them."""
    code = "import sys, engine.attack.catalogue, engine.attack.fingerprint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
