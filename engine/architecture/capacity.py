"""Capacity matching: the width at which a network has as many parameters or MACs as another. Does not import torch.

Sizes are computed by arithmetic, without building a network. They exclude the auxiliary head, which only training uses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from engine.architecture.cost import Cost
from engine.architecture.network import Network

TOLERANCE = 0.05  # capacities are equal if they differ by at most this share of the larger one
QUANTITIES = {"params": "parameters", "macs": "macs"}  # values of RetrainConfig.match and the fields of Cost


def differ(sizes: Sequence[float]) -> bool:
    """Return True if the smallest and the largest size differ by more than 5 % of the largest.

    Fewer than two sizes never differ.
    """
    return len(sizes) > 1 and apart(*sizes) > TOLERANCE


def nearest_width(network: Network, target: Cost, match: str) -> tuple[Network, int]:
    """Find the width at which a network's size is closest to a target.

    The width is the number of channels of a network from a genotype, or the base channels of a hand-made network. The size is the
    number of parameters or of MACs. The distance is relative to the larger of size and target.

    Args:
        network: the network, at any width.
        target: the cost to match.
        match: "params" or "macs".

    Returns:
        The network with the width found. A network of fixed size is returned unchanged.
        The size of the returned network.

    Raises:
        ConfigError: no network can have these sizes.
    """
    quantity = QUANTITIES[match]

    def size(width: float) -> int:
        return int(getattr(network.at_width(width).cost(), quantity))

    wanted, allowed = getattr(target, quantity), network.widths
    if not allowed:
        return network, int(getattr(network.cost(), quantity))
    above = bisect_left(allowed, wanted, key=size)  # neither quantity falls when the width grows
    around = allowed[max(0, above - 1):above + 1]
    width, found = min(((width, size(width)) for width in around), key=lambda pair: apart(pair[1], wanted))
    return network.at_width(width), found


def apart(*sizes: float) -> float:
    """Return the difference between the smallest and the largest size as a fraction of the largest."""
    return (max(sizes) - min(sizes)) / max(sizes)
