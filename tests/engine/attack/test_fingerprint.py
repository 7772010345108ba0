"""Comparable results share one hash; any other change changes it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.attack.catalogue import ATTACKS
from engine.attack.fingerprint import attack_fields, fingerprint, images_hash

# Recorded when every fingerprint named its preprocessing "none"; run logs hold such hashes.
RECORDED = {"fgsm": "30cf98644d74", "pgd-20": "9923372509c9", "pgd-100": "be75033c3854", "apgd-ce": "863dcb502bd2",
            "apgd-t": "97947321faa3", "fab-t": "9e55134bcafe", "square": "d272e47cb085", "autoattack": "e831f6287510"}
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


@pytest.mark.parametrize("name", RECORDED)
def test_hashes_are_those_of_older_runs(name: str) -> None:
    fields = attack_fields(ATTACKS[name], epsilon=8 / 255, step_size=2 / 255, classes=10) | {"preprocessing": "none"}
    assert fingerprint(fields)[0] == RECORDED[name]


def test_an_attack_of_our_own_has_no_library() -> None:
    fields = attack_fields(replace(ATTACKS["fgsm"], library=""), epsilon=0.1, step_size=0.02, classes=10)
    assert "library" not in fields and "version" not in fields
