"""Fingerprints of robustness measurements: the conditions of a measurement and a short hash of them.

Two results with equal hashes may be ranked together, because they share attack, settings, library version, images and
normalisation. The network's weights are recorded with the conditions, but the hash does not depend on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from engine.attack.catalogue import NATURAL
from engine.attack.declaration import Attack, AttackSettings

OWN = "rampart"  # library of attacks whose code is part of this project


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Return a hash (12 hex characters) of all fields."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def images_hash(indices: Iterable[int]) -> str:
    """Return a hash (12 hex characters) of the positions of images in the dataset. The order of the positions matters."""
    text = ",".join(str(int(index)) for index in indices)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def attack_fields(attack: Attack | None, settings: AttackSettings) -> dict[str, Any]:
    """Return the entries of a fingerprint that describe the attack. For a suite, they include the entries of all parts.

    Args:
        attack: declaration of the attack; None for the natural accuracy (without an attack).
        settings: radius, step size, classes, seed and norm. The step size is recorded only if the attack uses it, and the seed
            only if the attack draws random numbers.
    """
    if attack is None:
        return {"attack": NATURAL, "norm": None, "epsilon": 0.0}
    own = not attack.library or settings.norm in attack.own_in
    code = ({"library": OWN, "version": str(attack.revision)} if own
            else {"library": attack.library, "version": version(attack.library)})
    fields: dict[str, Any] = {"attack": attack.name, **code, "norm": settings.norm, "epsilon": settings.epsilon}
    if attack.parts:
        del fields["library"], fields["version"]
        return fields | {"parts": [attack_fields(part, settings) for part in attack.parts]}
    if attack.uses_step_size:
        fields["step_size"] = settings.step_size
    if attack.random_start:
        fields["seed"] = settings.seed
    return {**fields, **attack.variant, "steps": attack.steps, "restarts": attack.restarts,
            "random_start": attack.random_start, "targets": attack.targets_among(settings.classes)}
