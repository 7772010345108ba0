"""The size of networks relative to others: the one definition that cells, tables, contrasts and reports use."""

from __future__ import annotations

MACS_TOLERANCE = 0.02  # a larger relative difference of MACs is part of the sentence on a contrast


def macs_ratio(macs: float | None, other: float | None) -> float | None:
    """Return MACs divided by other MACs; None if one of them is unknown.

    For two networks these are their MACs. For two arms these are the means over the networks of each arm, so the ratio is that of
    the two means (not the mean of the ratios of single networks).
    """
    return macs / other if macs and other else None


def ratio_text(ratio: float) -> str:
    """Return a ratio as text, for example "× 0.95"."""
    return f"\u00d7 {ratio:.2f}"
