"""Capacity: the channels at which a network has as many parameters or MACs as another. Arithmetic; imports no torch.

Networks are counted without the auxiliary head, which only training uses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import Genotype
from engine.architecture.placement import needs_even_channels

TOLERANCE = 0.05  # networks that differ by more than this share of the larger one are not of equal capacity
QUANTITIES = {"params": "parameters", "macs": "macs"}  # what RetrainConfig.match says -> field of Cost
CHANNELS = range(2, 1025)  # what RetrainConfig.channels allows; derived networks are built at odd numbers, too


def differ(sizes: Sequence[float]) -> bool:
    """Whether the largest and the smallest of some sizes are more than 5 % of the largest apart; False of fewer than two."""
    return len(sizes) > 1 and apart(*sizes) > TOLERANCE


def nearest_channels(genotype: Genotype, target: Cost, match: str, *, layers: int, classes: int,
                     image_shape: Sequence[int], placement: str = "", width_ratio: str = "") -> tuple[int, int]:
    """(channels, their parameters or MACs) that differ least from the target, as a share of the larger of the two.

    Args:
        genotype: the architecture whose channels are sought.
        target: what it is to cost.
        match: "params" or "macs".
        layers, classes, image_shape, placement, width_ratio: as in `engine.architecture.cost.cost`.

    Raises:
        ConfigError: sizes no network can have.
    """
    quantity = QUANTITIES[match]

    def size(channels: int) -> int:
        found = cost(genotype, channels=channels, layers=layers, classes=classes, image_shape=image_shape, placement=placement,
                     width_ratio=width_ratio)
        return int(getattr(found, quantity))

    wanted = getattr(target, quantity)
    allowed = CHANNELS[::2] if width_ratio and needs_even_channels(width_ratio) else CHANNELS
    above = bisect_left(allowed, wanted, key=size)  # both quantities grow with every channel
    around = allowed[max(0, above - 1):above + 1]
    return min(((channels, size(channels)) for channels in around), key=lambda found: apart(found[1], wanted))


def apart(*sizes: float) -> float:
    """Return the distance between the smallest and the largest size, as a share of the largest."""
    return (max(sizes) - min(sizes)) / max(sizes)
