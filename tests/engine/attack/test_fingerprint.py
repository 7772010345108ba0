"""What may be ranked together has one hash; anything else that changes, changes it."""

from __future__ import annotations

import json

import pytest

from engine.attack import ATTACKS
from engine.attack.fingerprint import attack_fields, fingerprint, images_hash

FIELDS = {"attack": "pgd-20", "epsilon": 0.15, "seed": 2, "checkpoint": "abc", "chosen": "best", "block_images": 64}


def test_the_network_and_the_block_size_are_recorded_but_not_compared() -> None:
    hashed, fields = fingerprint(FIELDS)
    assert fields == FIELDS and len(hashed) == 12
    assert fingerprint(FIELDS | {"checkpoint": "other", "chosen": "last", "block_images": 7})[0] == hashed


def test_the_order_of_the_fields_is_nothing() -> None:
    assert fingerprint(dict(reversed(FIELDS.items())))[0] == fingerprint(FIELDS)[0]


@pytest.mark.parametrize("change", [{"epsilon": 0.1}, {"seed": 3}, {"attack": "pgd-21"}, {"steps": 20}])
def test_every_other_difference_shows(change: dict) -> None:
    assert fingerprint(FIELDS | change)[0] != fingerprint(FIELDS)[0]


def test_images_are_known_by_their_numbers() -> None:
    assert images_hash([1, 2, 3]) == images_hash(iter([1, 2, 3])) != images_hash([1, 23])


def test_a_suite_carries_its_parts_and_a_step_size_only_where_it_counts() -> None:
    settings = {"epsilon": 0.1, "step_size": 0.02, "classes": 10}
    suite = attack_fields(ATTACKS["autoattack"], **settings)
    assert [(part["attack"], part["steps"], part["targets"]) for part in suite["parts"]] == [
        ("apgd-ce", 100, 0), ("apgd-t", 100, 9), ("fab-t", 100, 9), ("square", 5000, 0)]
    assert "step_size" not in suite["parts"][0] and attack_fields(ATTACKS["pgd-20"], **settings)["step_size"] == 0.02
    assert suite["parts"][3]["schedule"] == "published, not rescaled"
    assert suite["version"] == "3.5.1"
    json.dumps(suite)
