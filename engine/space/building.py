"""The network that a description (`engine.architecture.network`) describes, as a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from engine.architecture.genotype import Genotype
from engine.architecture.hand_made import hand_made
from engine.architecture.network import HAND_MADE
from engine.space.network import Network
from engine.space.residual import ResidualNetwork


def network_from(description: Mapping[str, Any], *, mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None) -> nn.Module:
    """A network with fresh weights, drawn from the global generator.

    Args:
        description: as in results/network.json.
        mean, std: per image channel in pixels 0..1, subtracted and divided by inside the network; None for none.

    Raises:
        ConfigError, GenotypeError: no such network, or sizes no network can have.
    """
    if HAND_MADE in description:
        return ResidualNetwork(hand_made(description[HAND_MADE]), classes=description["classes"],
                               image_shape=description["image_shape"], mean=mean, std=std)
    sizes = {name: value for name, value in description.items() if name != "genotype"}
    return Network(Genotype.from_dict(description["genotype"]), **sizes, mean=mean, std=std)


def with_channels_last(network: nn.Module) -> nn.Module:
    """The network itself, its maps from now on with the channels last in memory: the same function up to rounding.

    A derived network on maps so small that it computes them as rows stays as it is.
    """
    if isinstance(network, Network):
        network.channels_last = True
        return network
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # convolutions pass the layout of their weights on
