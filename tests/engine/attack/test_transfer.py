"""Transfer attacks: made on another network only, part of the protocol, strong where networks agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.attack.apgd import APGD
from engine.attack.ball import Ball
from engine.attack.catalogue import ATTACKS, transfer
from engine.attack.declaration import L2, LINF, AttackSettings
from engine.attack.evaluation import Evaluation
from engine.attack.methods import run_attack
from engine.attack.protocol import Protocol
from engine.attack.transfer import highest_loss
from engine.config import AttackConfig
from engine.errors import ConfigError, StopRequested
from tests.engine.attack.trained import trained

OURS, OTHER = "0123456789ab", "ba9876543210"
NORMS = pytest.mark.parametrize("norm", [LINF, L2])
MAKERS = pytest.mark.parametrize("maker", ["mi-fgsm", "apgd-ce"])


def settings(norm: str = LINF, **sources: nn.Module) -> AttackSettings:
    return AttackSettings(0.1 if norm == LINF else 0.5, 0.02, classes=10, seed=0, norm=norm,
                          sources={name.removeprefix("n"): network for name, network in sources.items()})


class Opaque(nn.Module):
    """A network that returns the logits of another, without gradients."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x).detach()


@NORMS
@MAKERS
def test_the_images_do_not_depend_on_the_attacked_network(norm: str, maker: str) -> None:
    """They are equal for any two attacked networks, lie in the ball, and need no gradient of the attacked network."""
    source, x, y = trained()
    attack, given = transfer(OTHER, maker), settings(norm, **{f"n{OTHER}": source})
    torch.manual_seed(3)
    different = Opaque(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    made = [run_attack(attack, network, x, y, given) for network in (source, different)]
    assert torch.equal(*made) and bool(Ball(norm, given.epsilon).contains(made[0], x).all())


def test_images_of_mi_fgsm_are_those_that_it_makes_on_the_source() -> None:
    """With the attacked network as its own source, the transfer attack is MI-FGSM itself."""
    source, x, y = trained()
    made = run_attack(transfer(OURS), source, x, y, settings(**{f"n{OURS}": source}))
    assert torch.equal(made, run_attack(ATTACKS["mi-fgsm"], source, x, y, settings()))


@NORMS
def test_apgd_runs_to_the_end_of_every_image(norm: str) -> None:
    """No image is let go when it falls: on average the loss at the end is larger than where the white-box attack stops."""
    source, x, y = trained()
    given = settings(norm)
    torch.manual_seed(0)
    far = highest_loss(APGD(Ball(norm, given.epsilon), 50, "ce"), source, x, y)
    near = run_attack(replace(ATTACKS["apgd-ce"], steps=50), source, x, y, given)
    losses = [cross_entropy(source(images), y, reduction="none") for images in (far, near)]
    fallen = source(near).argmax(1) != y
    assert bool(Ball(norm, given.epsilon).contains(far, x).all()) and int(fallen.sum()) > 20
    assert float(losses[0][fallen].mean()) > 1.1 * float(losses[1][fallen].mean())
    assert bool((losses[0] > cross_entropy(source(x), y, reduction="none")).all())


def similar() -> nn.Module:
    """The trained network with a little noise on its weights."""
    network = trained()[0]
    torch.manual_seed(1)
    other = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(512, 10))
    other.load_state_dict({name: value * (1 + 0.05 * torch.randn_like(value)) for name, value in network.state_dict().items()})
    return other.eval().requires_grad_(False)


@MAKERS
def test_between_similar_networks_images_transfer(maker: str) -> None:
    """Images made on a similar network break most of those that the same attack breaks directly."""
    network, x, y = trained()
    direct = run_attack(ATTACKS[maker], network, x, y, settings())
    made = run_attack(transfer(OTHER, maker), network, x, y, settings(**{f"n{OTHER}": similar()}))
    broken = [int((network(images).argmax(1) != y).sum()) for images in (direct, made)]
    assert broken[1] >= 0.8 * broken[0] > 10


def evaluation(**changes: Any) -> Evaluation:
    network, x, y = trained()
    config = AttackConfig(**({"attacks": ("fgsm",), "epsilon": 0.1, "batch_size": 32} | changes))
    return Evaluation(config, network, x, y, classes=10, indices=range(len(y)), checkpoint=OURS, sources={OTHER: similar()})


def test_a_transfer_attack_is_an_attack_of_the_protocol() -> None:
    """It has a row, outcomes and a part of the worst case of its own, and the protocol names the source's weights."""
    it = evaluation()
    while not it.over:
        it.step()
    rows = {row["attack"]: row for row in it.rows()}
    assert list(rows) == ["natural", "fgsm", f"transfer-{OTHER}", "worst-case"]
    made = it.outcomes[f"transfer-{OTHER}"].correct
    assert rows["worst-case"]["correct"] == int(torch.minimum(made, it.outcomes["fgsm"].correct).sum())
    part = it.protocol.fields()["attacks"][-1]
    assert part["source"] == OTHER and part["maker"] == "mi-fgsm" and part["library"] == "torchattacks"
    assert "Transfer from ba9876" in it.protocol.title


def test_protocols_differ_by_source_and_maker_but_not_by_order() -> None:
    """The hashes of the sources enter the protocol, sorted."""
    config = AttackConfig(attacks=("fgsm",))

    def of(config: AttackConfig, *sources: str) -> str:
        return Protocol.of(config, classes=10, images=range(20), subset=range(20), sources=dict.fromkeys(sources)).hash

    by_apgd = config.model_copy(update={"transfer_attack": "apgd-ce"})
    assert of(config, OURS, OTHER) == of(config, OTHER, OURS)
    assert len({of(config), of(config, OURS), of(config, OTHER), of(config, OURS, OTHER), of(by_apgd, OURS)}) == 5
    assert of(config) == of(by_apgd)


def test_every_declared_transfer_is_found_by_its_name() -> None:
    """The registry rebuilds the declaration from its name alone."""
    for attack in (transfer(OTHER), transfer(OTHER, "apgd-ce"), ATTACKS["fmn-40"], ATTACKS["apgd-ce-20"]):
        assert ATTACKS[attack.name] == attack and attack.name in ATTACKS and attack.name not in list(ATTACKS)
    for name in ("transfer-xyz", "transfer-0123456789AB", "fmn-0", "apgd-ce-", "transfer-0123456789ab-"):
        assert name not in ATTACKS


def test_a_missing_source_is_named() -> None:
    """A protocol of another run cannot be repeated without its networks."""
    network, x, y = trained()
    with pytest.raises(ConfigError, match=f"needs the network with the hash {OTHER}, got no network"):
        run_attack(transfer(OTHER), network, x, y, settings())


@MAKERS
def test_a_stop_reaches_the_attack_on_the_source(maker: str) -> None:
    """The poll is called before passes of the source, too; afterwards the evaluation continues as if uninterrupted."""
    whole, stopped = (evaluation(attacks=(), sweep_radii=4, transfer_attack=maker) for _ in range(2))
    while not whole.over:
        whole.step()
    polls = iter(range(8))

    def poll() -> None:
        if next(polls, None) is None:
            raise StopRequested

    with pytest.raises(StopRequested):
        while True:
            stopped.step(poll)
    assert stopped.stage.startswith("transfer-")
    resumed = evaluation(attacks=(), sweep_radii=4, transfer_attack=maker)
    resumed.load_state_dict(stopped.state_dict())
    while not resumed.over:
        resumed.step()
    assert resumed.outcome_columns() == whole.outcome_columns()
