"""A network as results/network.json describes it: a genotype and its sizes, or the name of a hand-made one. Imports no torch.

Derived: {"genotype": ..., "channels", "layers", "classes", "image_shape", ...}, further sizes as `cost.cost` takes them.
Hand-made: {"hand_made": "wide-resnet-28-10", "classes", "image_shape"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import Genotype
from engine.architecture.hand_made import hand_made

HAND_MADE = "hand_made"  # the key that only hand-made networks have


def cost_of(description: Mapping[str, Any], *, auxiliary: bool = False) -> Cost:
    """Parameters and MACs. The auxiliary head is left out unless it is asked for: only training uses it, and published sizes are
    without it.

    Raises:
        ConfigError, GenotypeError: no such network.
    """
    if HAND_MADE in description:
        return hand_made(description[HAND_MADE]).cost(description["classes"], description["image_shape"])
    sizes = {name: value for name, value in description.items() if name != "genotype"}
    return cost(Genotype.from_dict(description["genotype"]), **{**sizes, "auxiliary": auxiliary})


def event_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the event `network`, which tells the run log what is trained or attacked.

    Raises:
        ConfigError, GenotypeError: no such network.
    """
    found = cost_of(description)
    fields: dict[str, Any] = {"parameters": found.parameters, "macs": found.macs}
    if HAND_MADE in description:
        return fields | {HAND_MADE: description[HAND_MADE]}
    genotype = Genotype.from_dict(description["genotype"])
    return fields | {"channels": description["channels"], "layers": description["layers"], "genotype": genotype.to_dict(),
                     "hash": genotype.hash}
