"""The confidence interval of an accuracy. This module does not import torch, so pages and queries can use it cheaply."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson(correct: int, images: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927), without continuity correction.

    Args:
        correct: number of correctly classified images (successes), 0..images.
        images: number of images (trials). With 0 images the interval is 0..1.
        level: confidence level, between 0 and 1.

    Returns:
        (low, high), the ends of the interval as fractions in 0..1.

    Raises:
        ValueError: `correct` is negative or larger than `images`.
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
    # If all images are wrong, or all are correct, rounding would make the formula miss 0 or 1 slightly.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == images else centre + half
    return low, high
