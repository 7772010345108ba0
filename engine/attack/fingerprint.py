"""What a robustness number was measured with, and a short hash by which like is ranked with like.

Rows with equal hashes may be ranked together: same attack, settings, library and images. The network itself is recorded
in the fields but is no part of the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from engine.attack import LIBRARY, Attack

# What names the network or only cuts the work into pieces.
NOT_HASHED = ("checkpoint", "chosen", "block_images")


def fingerprint(fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns (12 hex characters over all fields but `NOT_HASHED`, the fields as a plain dict)."""
    compared = {name: value for name, value in fields.items() if name not in NOT_HASHED}
    text = json.dumps(compared, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12], dict(fields)


def images_hash(indices: Any) -> str:
    """12 hex characters over the indices (ints, in order) of the images that were attacked."""
    text = ",".join(str(int(index)) for index in indices)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def attack_fields(attack: Attack | None, *, epsilon: float, step_size: float, classes: int) -> dict[str, Any]:
    """The fields that describe the attack; None stands for no attack (natural accuracy).

    Args:
        attack: from the registry; a suite lists its parts with their own fields.
        epsilon, step_size: pixel space; the step size is given only where the attack uses it.
        classes: of the dataset; there are at most classes - 1 targets.
    """
    if attack is None:
        return {"attack": "natural", "norm": None, "epsilon": 0.0}
    fields: dict[str, Any] = {"attack": attack.name, "library": LIBRARY, "version": version(LIBRARY),
                              "norm": attack.norm, "epsilon": epsilon}
    if attack.parts:
        return fields | {"parts": [attack_fields(part, epsilon=epsilon, step_size=step_size, classes=classes)
                                   for part in attack.parts]}
    if attack.uses_step_size:
        fields["step_size"] = step_size
    if attack.name == "square":
        # torchattacks can also stretch the schedule of the square's size over the queries: another attack.
        fields["schedule"] = "published, not rescaled"
    return fields | {"steps": attack.steps, "restarts": attack.restarts, "random_start": attack.random_start,
                     "targets": min(attack.targets, classes - 1)}
