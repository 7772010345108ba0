"""The memory layout of networks."""

from __future__ import annotations

import torch
from torch import nn

from engine.space.network import Network


def with_channels_last(network: nn.Module) -> nn.Module:
    """The network itself, its maps from now on with the channels last in memory: the same function up to rounding.

    A derived network on maps so small that it computes them as rows stays as it is.
    """
    if isinstance(network, Network):
        network.channels_last = True
        return network
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # convolutions pass the layout of their weights on
