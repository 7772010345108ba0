"""The confidence interval of an accuracy. Imports no torch: pages and queries use it too."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson(correct: int, images: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927), without continuity correction.

    Args:
        correct: number of successes, 0..images.
        images: number of trials; without any the interval is 0..1.
        level: confidence level in 0..1.

    Returns:
        (low, high), fractions in 0..1.

    Raises:
        ValueError: more successes than trials, or fewer than none.
    """
    if not 0 <= correct <= images:
        raise ValueError(f"correct must be in 0..{images}, got {correct}")
    if images == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = correct / images
    scale = 1 / (1 + z * z / images)
    centre = scale * (share + z * z / (2 * images))
    half = scale * z * sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    # At the ends the formula gives 0 and 1 only up to rounding.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == images else centre + half
    return low, high
