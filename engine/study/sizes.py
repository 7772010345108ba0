"""Ratios of network sizes: the MACs of one network or arm divided by the MACs of another, as number and as text."""

from __future__ import annotations

MACS_TOLERANCE = 0.02  # a larger relative difference of MACs is part of the sentence on a contrast


def macs_ratio(macs: float | None, other: float | None) -> float | None:
    """Return `macs` divided by `other`, or None if one of the numbers is unknown or 0.

    The arguments are the MACs of two networks, or the mean MACs of two arms. The ratio of two arms is thus the ratio of their
    means, not the mean of the ratios of single networks.
    """
    return macs / other if macs and other else None


def ratio_text(ratio: float) -> str:
    """Format a ratio, for example as "× 0.95"."""
    return f"\u00d7 {ratio:.2f}"
