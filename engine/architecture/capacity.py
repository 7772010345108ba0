"""Capacity matching by arithmetic: the channels that give two networks the same parameters or MACs. Imports no torch.

Sizes exclude the auxiliary head, which only training uses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import Genotype
from engine.architecture.placement import needs_even_channels

TOLERANCE = 0.05  # capacities are equal if they differ by at most this share of the larger one
QUANTITIES = {"params": "parameters", "macs": "macs"}  # value of RetrainConfig.match -> field of Cost
CHANNELS = range(2, 1025)  # values of RetrainConfig.channels; derived networks may have odd numbers


def differ(sizes: Sequence[float]) -> bool:
    """Return True if the smallest and the largest size differ by more than 5 % of the largest; False for fewer than two sizes."""
    return len(sizes) > 1 and apart(*sizes) > TOLERANCE


def nearest_channels(genotype: Genotype, target: Cost, match: str, *, layers: int, classes: int,
                     image_shape: Sequence[int], placement: str = "", width_ratio: str = "") -> tuple[int, int]:
    """Return the channels whose network is closest to a target size, and its parameters or MACs.

    The distance is relative to the larger of the two sizes.

    Args:
        genotype: the architecture.
        target: the cost to match.
        match: "params" or "macs".
        layers, classes, image_shape, placement, width_ratio: as in `engine.architecture.cost.cost`.

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
    """Return the difference between the smallest and the largest size, as a share of the largest."""
    return (max(sizes) - min(sizes)) / max(sizes)
