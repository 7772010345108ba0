"""The conditions of a robustness measurement, and a short hash of them by which results are compared.

Results with equal hashes may be ranked together: the same attack, settings, library, images and normalisation. The fields
record the network's weights too, but the hash leaves them out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from engine.attack.catalogue import NATURAL
from engine.attack.declaration import Attack

# Fields that name the network, or only cut the work into pieces.
NOT_HASHED = ("checkpoint", "chosen", "block_images")


def fingerprint(fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return 12 hex characters over all fields but `NOT_HASHED`, and the fields as a plain dict."""
    compared = {name: value for name, value in fields.items() if name not in NOT_HASHED}
    text = json.dumps(compared, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12], dict(fields)


def images_hash(indices: Iterable[int]) -> str:
    """Return 12 hex characters over the indices of the attacked images, in order."""
    text = ",".join(str(int(index)) for index in indices)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def attack_fields(attack: Attack | None, *, epsilon: float, step_size: float, classes: int) -> dict[str, Any]:
    """Return the fields that describe an attack; None stands for natural accuracy. A suite lists the fields of its parts.

    Args:
        attack: the declaration.
        epsilon: radius of the ball in pixel space, 0..1.
        step_size: step in pixel space, 0..1; recorded only where the attack uses it.
        classes: number of classes of the dataset; there are at most classes - 1 targets.
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
