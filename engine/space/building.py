"""Conversion of a network to the channels_last memory format."""

from __future__ import annotations

import torch
from torch import nn

from engine.space.network import Network


def with_channels_last(network: nn.Module) -> nn.Module:
    """Switch a network to the channels_last memory format in place, and return it.

    The network computes the same function, up to rounding. The change has no effect on a derived network if `derived.fits_rows`
    is true for its images, because the network then uses a memory layout for small maps instead.
    """
    if isinstance(network, Network):
        network.channels_last = True
        return network
    # A convolution's output takes the format of its weight.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
