"""The planted-example test: examples certainly exist, a strong protocol finds them, and a weak one does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.architecture.catalogue import CATALOG
from engine.architecture.hand_made import residual_shape
from engine.attack.ball import Ball, distance
from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import AttackSettings
from engine.attack.evaluation import Evaluation
from engine.attack.guard import attacked, under_attack
from engine.attack.inspection import Inspection
from engine.attack.planted import last_layer, missed, plant, planted
from engine.config import AttackConfig
from engine.errors import StopRequested
from engine.space.network import Network
from engine.space.residual import ResidualNetwork
from tests.engine.attack import suspicious_networks as suspicious

LINF = AttackSettings(epsilon=0.1, step_size=0.025, classes=10, seed=0)
L2 = AttackSettings(epsilon=0.5, step_size=0.1, classes=10, seed=0, norm="L2")
SIZES = {"classes": 10, "image_shape": (1, 8, 8), "mean": (0.3,), "std": (0.25,)}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return suspicious.trained()


def images(count: int = 64) -> tuple[Tensor, Tensor]:
    x, y = suspicious.digits("test")
    return x[:count], y[:count]


def named(name: str) -> nn.Module:
    """Return an untrained network of each kind that this project builds."""
    if name == "ARNAS":
        return Network(CATALOG[name].genotype, channels=4, layers=3, **SIZES).eval()
    return ResidualNetwork(residual_shape(name), **SIZES).eval()


def verdict(network: nn.Module, *attacks: str, norm: str = "Linf") -> tuple[str, str]:
    x, y = images(32)
    config = AttackConfig(attacks=attacks, epsilon=0.1, step_size=0.025, norm=norm)
    evaluation = Evaluation(config, network, x, y, classes=10, indices=range(32))
    with under_attack(network):
        return planted(Inspection(evaluation, {}))


@pytest.mark.parametrize("settings", [LINF, L2], ids=["Linf", "L2"])
@pytest.mark.parametrize("name", ["trained", "ARNAS", "wide-resnet-10-1"])
def test_every_image_certainly_has_an_adversarial_example(network: nn.Module, name: str, settings: AttackSettings) -> None:
    """The image is classified correctly, and the planted point in its ball is not, by both forms of the network."""
    network = network if name == "trained" else named(name)
    with under_attack(network):
        planting = plant(network, last_layer(network, images()[0]), *images(12), settings)
        assert len(planting.x) >= 10
        for logits in (planting.network, attacked(planting.network)):
            assert torch.equal(logits(planting.x).argmax(1), planting.y)
            assert torch.equal(logits(planting.examples).argmax(1), (planting.y + 1) % 10)
        margins = logits(planting.x)
        assert torch.allclose(margins.gather(1, planting.y[:, None]), torch.tensor(0.5), atol=1e-2)
    ball = Ball(settings.norm, settings.epsilon)
    assert ball.contains(planting.examples, planting.x).all()
    separate = torch.stack([distance(planting.x, other.expand_as(planting.x), settings.norm) for other in planting.x])
    assert (separate + torch.eye(len(separate)) * 99 > 2 * settings.epsilon).all()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_strong_protocol_finds_them_and_a_weak_one_does_not(network: nn.Module, norm: str) -> None:
    assert verdict(network, "fgsm", "apgd-ce", norm=norm)[0] == "passed"
    assert verdict(network, "fgsm", norm=norm)[0] in ("warning", "failed")
    assert verdict(network, "pgd-1", norm=norm)[0] in ("warning", "failed")


def test_the_share_is_told(network: nn.Module) -> None:
    finding, sentence = verdict(network, "pgd-1")
    share = int(sentence.split()[2])
    assert sentence.startswith("PGD-1 find") and finding == "failed" and share < 26


def test_an_attack_on_nothing_but_noise_finds_few(network: nn.Module) -> None:
    """Rounded pixels hide the gradient; planted points come from a random search, which PGD cannot match."""
    hidden = suspicious.Quantised(network)
    with under_attack(hidden):
        planting = plant(hidden, last_layer(hidden, images()[0]), *images(), LINF)
        assert len(planting.x) > 8
        assert len(missed(planting, [ATTACKS["pgd-20"]], LINF)) > 0.5 * len(planting.x)


def test_one_step_suffices_on_a_linear_network() -> None:
    """On a linear network FGSM reaches the maximum over the ball, so that it finds every planted example."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Linear(20, 10)).eval()
    assert verdict(linear, "fgsm")[0] == "passed"


def test_a_network_without_a_linear_layer_at_the_end_is_skipped(network: nn.Module) -> None:
    for other in (suspicious.Scaled(network), suspicious.Probabilities(network)):
        assert last_layer(other, images()[0]) is None
        assert verdict(other, "fgsm")[0] == "skipped"
    assert last_layer(network, images()[0]) == "classifier"
    assert last_layer(suspicious.Quantised(network), images()[0]) == "network.classifier"


def test_images_that_share_their_balls_are_left_out(network: nn.Module) -> None:
    """Two images within two radii cannot have read-outs of their own."""
    x, y = images(20)
    with under_attack(network):
        assert len(plant(network, "classifier", torch.cat([x, x + 1e-3]).clamp(0, 1), y.repeat(2), LINF).x) <= 20


def test_planting_is_reproducible_and_can_be_stopped(network: nn.Module) -> None:
    def at_once() -> None:
        raise StopRequested

    with under_attack(network):
        one, other = (plant(network, "classifier", *images(), LINF) for _ in range(2))
        assert torch.equal(one.examples, other.examples) and torch.equal(one.network.head.weight, other.network.head.weight)
        with pytest.raises(StopRequested):
            plant(network, "classifier", *images(), LINF, poll=at_once)
    assert network.classifier.out_features == 10
