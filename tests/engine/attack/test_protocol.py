"""A protocol is everything but the network: what enters its hash, and what does not."""

from __future__ import annotations

import json

import pytest

from engine.attack.protocol import Protocol
from engine.config import AttackConfig

IMAGES = list(range(100, 140))


def protocol(images: list[int] = IMAGES, classes: int = 10, **changes) -> Protocol:
    config = AttackConfig(**({"attacks": ("fgsm", "pgd-20", "autoattack")} | changes))
    return Protocol.of(config, classes=classes, images=images, subset=images[:10])


@pytest.mark.parametrize("changes", [
    {"epsilon": 0.1}, {"step_size": 0.01}, {"seed": 1}, {"attacks": ("fgsm",)}, {"norm": "L2"}, {"worst_case_only": True},
    {"images": IMAGES[1:]}, {"classes": 5}, {"dataset": "cifar10"}, {"attacks": ("pgd-20", "fgsm", "autoattack")}])
def test_everything_that_changes_a_figure_changes_the_hash(changes: dict) -> None:
    assert protocol(**changes).hash != protocol().hash


@pytest.mark.parametrize("changes", [
    {"device": "cpu"}, {"threads": 2}, {"split_seed": 7}, {"checkpoint": "last"}, {"epsilon_l2": 3.0}, {"step_size_l2": 0.7}])
def test_nothing_of_the_run_or_the_network_enters(changes: dict) -> None:
    """The split seed enters only through the images that it leads to; radii of the other norm do not count."""
    assert protocol(**changes).hash == protocol().hash


def test_the_size_of_a_block_counts_only_for_attacks_that_draw_for_a_whole_block() -> None:
    deterministic = {"attacks": ("fgsm",)}
    assert protocol(batch_size=7, **deterministic).hash == protocol(**deterministic).hash
    assert protocol(batch_size=7).hash != protocol().hash


def test_the_fields_are_plain_and_the_title_is_a_line() -> None:
    assert json.loads(json.dumps(protocol().fields())) == protocol().fields()
    assert protocol().title == "L∞ 8/255, 40 images: FGSM, PGD-20, AutoAttack"
    assert protocol(norm="L2", worst_case_only=True, attacks=("fgsm",)).title == "L2 0.5, 40 images: worst case of FGSM"
