"""Fingerprints of robustness measurements: the conditions of a measurement and a short hash of them.

Two results with equal hashes may be ranked together, because they share attack, settings, library version, images and
normalisation. The conditions also record the network's weights, but the hash ignores those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from engine.attack.catalogue import NATURAL
from engine.attack.declaration import Attack

# The first two fields identify the network. The third only divides the work into blocks.
NOT_HASHED = ("checkpoint", "chosen", "block_images")


def fingerprint(fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a hash (12 hex characters) of all fields except those in `NOT_HASHED`, and a dict of all fields."""
    compared = {name: value for name, value in fields.items() if name not in NOT_HASHED}
    text = json.dumps(compared, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12], dict(fields)


def images_hash(indices: Iterable[int]) -> str:
    """Return a hash (12 hex characters) of the positions of images in the dataset. It depends on the order of the positions."""
    text = ",".join(str(int(index)) for index in indices)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def attack_fields(attack: Attack | None, *, epsilon: float, step_size: float, classes: int) -> dict[str, Any]:
    """Return the entries of a fingerprint that describe the attack. For a suite they include the entries of its parts.

    Args:
        attack: declaration of the attack; None for the natural accuracy (without an attack).
        epsilon: radius of the ball around each image, with pixels in 0..1.
        step_size: length of one step, with pixels in 0..1. It is recorded only if the attack uses it.
        classes: number of classes of the dataset. An attack can have at most classes - 1 targets.
    """
    if attack is None:
        return {"attack": NATURAL, "norm": None, "epsilon": 0.0}
    fields: dict[str, Any] = {"attack": attack.name}
    if attack.library:
        fields |= {"library": attack.library, "version": version(attack.library)}
    fields |= {"norm": attack.norm, "epsilon": epsilon}
    if attack.parts:
        return fields | {"parts": [attack_fields(part, epsilon=epsilon, step_size=step_size, classes=classes)
                                   for part in attack.parts]}
    if attack.uses_step_size:
        fields["step_size"] = step_size
    return {**fields, **attack.variant, "steps": attack.steps, "restarts": attack.restarts,
            "random_start": attack.random_start, "targets": attack.targets_among(classes)}
