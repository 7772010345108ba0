"""Comparable results share one hash; any other change changes it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import AttackSettings
from engine.attack.fingerprint import attack_fields, fingerprint, images_hash

FIELDS = {"attack": "pgd-20", "epsilon": 0.15, "seed": 2, "images": 64}
SETTINGS = AttackSettings(0.1, 0.02, classes=10, seed=3)


def test_the_order_of_the_fields_is_nothing() -> None:
    assert fingerprint(dict(reversed(FIELDS.items()))) == fingerprint(FIELDS) and len(fingerprint(FIELDS)) == 12


@pytest.mark.parametrize("change", [{"epsilon": 0.1}, {"seed": 3}, {"attack": "pgd-21"}, {"steps": 20}])
def test_every_difference_shows(change: dict) -> None:
    assert fingerprint(FIELDS | change) != fingerprint(FIELDS)


def test_images_are_known_by_their_numbers() -> None:
    assert images_hash([1, 2, 3]) == images_hash(iter([1, 2, 3])) != images_hash([1, 23])


def test_a_suite_carries_its_parts_and_a_step_size_only_where_it_counts() -> None:
    suite = attack_fields(ATTACKS["autoattack"], SETTINGS)
    assert [(part["attack"], part["steps"], part["targets"]) for part in suite["parts"]] == [
        ("apgd-ce", 100, 0), ("apgd-t", 100, 9), ("fab-t", 100, 9), ("square", 5000, 0)]
    assert "step_size" not in suite["parts"][0] and attack_fields(ATTACKS["pgd-20"], SETTINGS)["step_size"] == 0.02
    assert suite["parts"][3]["schedule"] == "published, not rescaled"
    json.dumps(suite)


def test_the_seed_counts_only_where_random_numbers_are_drawn() -> None:
    def fields(name: str, seed: int) -> dict:
        return attack_fields(ATTACKS[name], replace(SETTINGS, seed=seed))

    assert fields("fgsm", 1) == fields("fgsm", 2) and fields("pgd-20", 1) != fields("pgd-20", 2)


def test_code_of_our_own_is_recorded_with_its_revision() -> None:
    own = attack_fields(replace(ATTACKS["fgsm"], library="", revision=3), SETTINGS)
    assert (own["library"], own["version"]) == ("rampart", "3")
    assert (attack_fields(ATTACKS["fgsm"], SETTINGS)["version"]) == "3.5.1"
