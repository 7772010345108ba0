"""Conversion of a network to the channels_last memory format."""

from __future__ import annotations

import torch
from torch import nn

from engine.space.network import Network


def with_channels_last(network: nn.Module) -> nn.Module:
    """Switch a network to the channels_last memory format in place, and return it.

    The network computes the same function, up to rounding. Derived networks for small images (`derived.fits_rows`) have a memory
    layout of their own, so the switch has no effect on them.
    """
    if isinstance(network, Network):
        network.channels_last = True
        return network
    # A convolution's output takes the format of its weight.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
