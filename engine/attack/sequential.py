"""An early verdict: the difference of two networks' accuracies, bounded at every moment while images are still being attacked.

The bounds are a confidence sequence for the mean of a finite population seen in random order without replacement, by betting
(Waudby-Smith and Ramdas 2024, arXiv 2010.09686: hedged capital, sampling without replacement). For every possible mean, one
gambler bets that the truth is larger and another that it is smaller, at prices that are fair if they are both wrong. A mean at
which either has become rich is ruled out. The bounds hold at all moments at once, so that one may look after every image and
stop at will.

Differs: bets are not predicted from the images before. The capital is divided equally among gamblers who each stake a fixed
share of theirs on every image, which is the universal portfolio of Cover (1991) on a grid. The capital then falls as the mean
rises, so that the means that are not ruled out form an interval.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engine.attack.verdict import Verdict

SHARES = (np.arange(20) + 0.5) / 20  # of the capital, staked on every image


class ConfidenceSequence:
    """Bounds for the difference of two accuracies on a test set whose images come in random order.

    The bounds are for these test images, not for the distribution that they are drawn from: after the last image they are the
    difference itself. Measured with 3 % of the images classified correctly by the worse network alone: differences of 2, 5, 10
    and 20 points are decided after 1,400, 340, 130 and 50 of 10,000 images on average, and after 610, 270, 120 and 50 of 1,000.

    Example:
        sequence = ConfidenceSequence(images=10000)
        while sequence.verdict is Verdict.OPEN:
            sequence.observe(first_correct - second_correct for the next images)

    Attributes:
        images: number of test images N.
        alpha: bound for the probability that the true difference is ever outside `interval`.
    """

    def __init__(self, images: int, alpha: float = 0.05) -> None:
        """Begin with no image seen.

        Raises:
            ValueError: no images, or alpha not between 0 and 1.
        """
        if images < 1 or not 0 < alpha < 1:
            raise ValueError(f"A sequence needs at least one image and alpha between 0 and 1, got {images} and {alpha}")
        self.images, self.alpha = images, alpha
        self._seen: list[int] = []

    @property
    def seen(self) -> int:
        """The number of images seen."""
        return len(self._seen)

    def observe(self, differences: Iterable[int]) -> None:
        """Add the next images. Their order must be random and must not depend on any outcome.

        Args:
            differences: per image 1 if only the first network is right, -1 if only the second is, otherwise 0.

        Raises:
            ValueError: other numbers, or more images than there are.
        """
        added = [int(difference) for difference in differences]
        if not set(added) <= {-1, 0, 1} or self.seen + len(added) > self.images:
            raise ValueError(f"Differences must be -1, 0 or 1 for at most {self.images - self.seen} more images, got "
                             f"{len(added)} with values {sorted(set(added))}")
        self._seen += added

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds (low, high) of the difference first - second, fractions in -1..1.

        All bounds so far are intersected. If nothing is left of them, which has a probability of at most alpha, both are equal.
        """
        seen = np.array(self._seen, dtype=np.int64)
        low, high = self._smallest_total(seen), -self._smallest_total(-seen)
        return low / self.images, max(low, high) / self.images

    @property
    def verdict(self) -> Verdict:
        """The network that is better on these test images, if that is certain enough."""
        seen = np.array(self._seen, dtype=np.int64)
        left = self.images - self.seen
        if self._rules_out(seen, 0) or seen.sum() > left:
            return Verdict.FIRST
        if self._rules_out(-seen, 0) or -seen.sum() > left:
            return Verdict.SECOND
        return Verdict.OPEN if left else Verdict.EQUAL

    def _smallest_total(self, seen: NDArray[np.int64]) -> int:
        """Return the smallest possible sum of all differences that is not ruled out."""
        total, left = int(seen.sum()), self.images - len(seen)
        low, high = total - left, total + left
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._rules_out(seen, middle) else (low, middle)
        return low

    def _rules_out(self, seen: NDArray[np.int64], total: int) -> bool:
        """Return True if the bets against `total` and everything below it have ever won 2 / alpha, half of alpha per side."""
        return bool(len(seen)) and bool(log_capital(seen, total, self.images).max() >= np.log(2 / self.alpha))


def log_capital(differences: NDArray[np.int64], total: int, images: int) -> NDArray[np.float64]:
    """Return the logarithm of the capital won by betting that the sum of all differences is larger than `total`.

    Bet on an image: a ticket that pays (1 + difference) / 2. Its price is the mean payment over the images left if the sum is
    `total`. If the sum is `total`, the expected capital is 1 at every moment; if it is smaller, at most 1. By Ville's inequality
    the capital then ever reaches 1 / alpha with a probability of at most alpha.

    Args:
        differences: [..., t] in {-1, 0, 1}, the first t images.
        total: a sum of the differences of all images.
        images: number of images N >= t.

    Returns:
        [..., t], after each image.
    """
    before = np.cumsum(differences, axis=-1) - differences
    left = images - np.arange(differences.shape[-1])
    # Outside 0..1, `total` can no longer be reached.
    price = np.clip((1 + (total - before) / left) / 2, 0, 1)
    payment = (1 + differences) / 2
    # At price 0 nothing can be won; a payment shows that `total` is wrong, which the caller concludes from the sum.
    gain = np.divide(payment, price, out=np.ones_like(price), where=price > 0) - 1
    capital: NDArray[np.float64] = np.full(price.shape, -np.inf)
    for share in SHARES:
        np.logaddexp(capital, np.cumsum(np.log1p(share * gain), axis=-1), out=capital)
    capital -= np.log(len(SHARES))
    return capital
