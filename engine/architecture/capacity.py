"""Capacity matching: the number of channels at which a network has as many parameters or MACs as another. Does not import torch.

Sizes are computed by arithmetic, without building a network. They exclude the auxiliary head, which only training uses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import Genotype
from engine.architecture.placement import needs_even_channels

TOLERANCE = 0.05  # capacities are equal if they differ by at most this share of the larger one
QUANTITIES = {"params": "parameters", "macs": "macs"}  # values of RetrainConfig.match and the fields of Cost
CHANNELS = range(2, 1025)  # values of RetrainConfig.channels; derived networks may have odd numbers


def differ(sizes: Sequence[float]) -> bool:
    """Return True if the smallest and the largest size differ by more than 5 % of the largest.

    Fewer than two sizes never differ.
    """
    return len(sizes) > 1 and apart(*sizes) > TOLERANCE


def nearest_channels(genotype: Genotype, target: Cost, match: str, *, layers: int, classes: int,
                     image_shape: Sequence[int], placement: str = "", width_ratio: str = "") -> tuple[int, int]:
    """Find the number of channels at which a network's size is closest to a target.

    The size is the number of parameters or of MACs. The distance is relative to the larger of size and target.

    Args:
        genotype: the architecture of the network.
        target: the cost to match.
        match: "params" or "macs".
        layers, classes, image_shape, placement, width_ratio: see `engine.architecture.cost.breakdown`.

    Returns:
        channels: number of channels.
        size: size of the network with this number of channels.

    Raises:
        ConfigError: no network can have these sizes.
    """
    quantity = QUANTITIES[match]

    def size(channels: int) -> int:
        total = cost(genotype, channels=channels, layers=layers, classes=classes, image_shape=image_shape, placement=placement,
                     width_ratio=width_ratio)
        return int(getattr(total, quantity))

    wanted = getattr(target, quantity)
    allowed = CHANNELS[::2] if width_ratio and needs_even_channels(width_ratio) else CHANNELS
    above = bisect_left(allowed, wanted, key=size)  # both quantities grow with the channels
    around = allowed[max(0, above - 1):above + 1]
    return min(((channels, size(channels)) for channels in around), key=lambda pair: apart(pair[1], wanted))


def apart(*sizes: float) -> float:
    """Return the difference between the smallest and the largest size as a fraction of the largest."""
    return (max(sizes) - min(sizes)) / max(sizes)
