"""The attacks compared with each other and with torchattacks, and their refusal of wrong input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from engine.attack.ball import Ball
from engine.attack.catalogue import ATTACKS, pgd
from engine.attack.declaration import AttackSettings
from engine.attack.guard import Watched, predictions, under_attack
from engine.attack.methods import builder_of, run_attack
from engine.data.splits import stable_seed
from engine.errors import CheckpointError, ConfigError

SETTINGS = {"epsilon": 0.1, "step_size": 0.03, "classes": 10, "seed": 5}


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10))


@pytest.fixture
def batch(network: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(16, 1, 8, 8)
    with under_attack(network):
        return x, predictions(network, x)


def test_one_full_step_of_pgd_without_random_start_is_fgsm(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    one_step = replace(ATTACKS["pgd-1"], random_start=False)
    settings = SETTINGS | {"step_size": SETTINGS["epsilon"]}
    by_pgd = run_attack(one_step, network, *batch, AttackSettings(**settings))
    assert torch.equal(by_pgd, run_attack(ATTACKS["fgsm"], network, *batch, AttackSettings(**settings)))


def test_pgd_is_that_of_torchattacks(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    ours = run_attack(ATTACKS["pgd-20"], network, *batch, AttackSettings(**SETTINGS))
    network.eval()
    torch.manual_seed(stable_seed(SETTINGS["seed"], "pgd-20", 0))
    theirs = torchattacks.PGD(network, eps=0.1, alpha=0.03, steps=20, random_start=True)(*batch)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_longer_attack_is_known_by_its_name() -> None:
    assert ATTACKS["pgd-100"].steps == 100 and ATTACKS["pgd-100"].title == "PGD-100"
    assert ATTACKS["pgd-100"] is ATTACKS["pgd-100"] and ATTACKS["pgd-7"] == pgd(7)
    assert "pgd-7" in ATTACKS and "pgd-0" not in ATTACKS and "pgd-" not in ATTACKS
    with pytest.raises(ConfigError, match="Did you mean 'pgd-20'"):
        ATTACKS["pgd20"]


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_autoattack_is_composed_at_its_published_settings(network: nn.Module, norm: str) -> None:
    settings = AttackSettings(0.1, 0.03, classes=100, seed=3, norm=norm)
    parts = ATTACKS["autoattack"].parts
    built = {part.name: builder_of(part)(Watched(network), part, settings) for part in parts}
    assert [type(walk).__name__ for walk in built.values()] == ["APGD", "APGD", "FAB", "Square"]
    assert (built["apgd-ce"].loss_name, built["apgd-t"].loss_name) == ("ce", "dlr-targeted")
    assert [walk.iterations for walk in built.values()] == [100, 100, 100, 5000]
    assert [part.targets_among(100) for part in parts] == [0, 9, 9, 0] and all(part.restarts == 1 for part in parts)
    assert built["square"].initial_share == 0.8
    assert all(walk.ball == Ball(norm, 0.1) for walk in built.values())


def test_nobody_falls_and_every_part_spends_its_whole_budget() -> None:
    """On a network that no attack fools, the evaluations add up to 100 iterations, 9 targets and 5,000 queries for each image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
    with torch.no_grad():
        network[1].weight.mul_(1e-3)
        network[1].bias.copy_(torch.arange(12.0))
    x, y = torch.rand(2, 1, 8, 8), torch.full((2,), 11)
    passes: dict[str, float] = {}
    for part in ATTACKS["autoattack"].parts:
        counted: list[int] = []
        run_attack(part, network, x, y, AttackSettings(**(SETTINGS | {"classes": 12})), on_pass=counted.append)
        passes[part.name] = counted[-1] / len(x)
    assert passes["apgd-ce"] == 101 and passes["apgd-t"] == 9 * 101 and passes["square"] == 5001
    # FAB-T: one evaluation for each iteration and target, and one more for each point that had to be moved back.
    assert 9 * 101 <= passes["fab-t"] <= 9 * 201


def test_there_are_at_most_as_many_targets_as_wrong_classes() -> None:
    attack = ATTACKS["apgd-t"]
    assert attack.targets_among(5) == 4 and attack.targets_among(100) == 9


def test_the_cascade_is_as_strong_as_each_of_its_parts(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    settings = SETTINGS | {"epsilon": 0.02}
    ce, targeted = (replace(ATTACKS[name], steps=30) for name in ("apgd-ce", "apgd-t"))
    standing = []
    for attack in (ce, targeted, replace(ATTACKS["autoattack"], parts=(ce, targeted))):
        with under_attack(network):
            standing.append(predictions(network, run_attack(attack, network, x, y, AttackSettings(**settings))) == y)
    assert torch.equal(standing[2], standing[0] & standing[1])
    assert 0 < int(standing[2].sum()) < len(y)


@pytest.mark.parametrize("change, expected", [
    (lambda n, x, y: (n, x * 255, y), "Pixels must be in 0..1"),
    (lambda n, x, y: (n, x.double(), y), "float32"),
    (lambda n, x, y: (n.double(), x, y), "float32"),
    (lambda n, x, y: (n, x, y.int()), "int64"),
    (lambda n, x, y: (n, x, y[:3]), "Labels must be int64 of shape"),
    (lambda n, x, y: (nn.Flatten(), x, y), "a network with parameters"),
])
def test_tensors_the_attack_cannot_take_are_refused(network: nn.Module, batch: tuple[Tensor, Tensor], change,
                                                    expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        run_attack(ATTACKS["fgsm"], *change(network, *batch), AttackSettings(**SETTINGS))


def test_a_diverged_network_is_not_scored(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        network[4].bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="finite logits"):
        predictions(network, batch[0])
