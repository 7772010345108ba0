"""Bounds for the difference of two networks' accuracies. They hold at every moment while images are still being attacked.

The bounds are a confidence sequence for the mean of a finite population, sampled in random order without replacement. The method
is betting (Waudby-Smith and Ramdas 2024, arXiv 2010.09686: hedged capital, sampling without replacement). For every possible
mean, one gambler bets that the true mean is larger, and another that it is smaller. The bets are fair if the possible mean is the
true one. A possible mean is ruled out once one of its gamblers has won enough. One may look at the bounds after every image and
stop at any time.

Differs: stakes do not depend on earlier images. The capital of a gambler is divided equally among 20 strategies. Each strategy
stakes a fixed fraction of its capital on every image. This is the universal portfolio of Cover (1991) on a grid. With these
stakes, the means that are not ruled out form an interval.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engine.attack.verdict import Verdict

SHARES = (np.arange(20) + 0.5) / 20  # of the capital, staked on every image


class ConfidenceSequence:
    """Bounds for the difference of two accuracies on a test set whose images come in random order.

    The bounds are for the accuracies on exactly these test images. After the last image, both bounds equal the difference.

    Example:
        sequence = ConfidenceSequence(images=10000)
        while sequence.verdict is Verdict.OPEN:
            sequence.observe(first_correct - second_correct for the next images)

    Attributes:
        images: number of test images N.
        alpha: upper bound for the probability that `interval` misses the true difference at any moment.
    """

    def __init__(self, images: int, alpha: float = 0.05) -> None:
        """Start a sequence in which no image has been observed yet.

        Raises:
            ValueError: there are no images, or alpha is not between 0 and 1.
        """
        if images < 1 or not 0 < alpha < 1:
            raise ValueError(f"A sequence needs at least one image and alpha between 0 and 1, got {images} and {alpha}")
        self.images, self.alpha = images, alpha
        self._seen: list[int] = []

    @property
    def seen(self) -> int:
        """The number of images observed so far."""
        return len(self._seen)

    def observe(self, differences: Iterable[int]) -> None:
        """Add the outcomes of the next images. The order of the images must be random and must not depend on any outcome.

        Args:
            differences: one number per image: 1 if only the first network is right, -1 if only the second network is right,
                otherwise 0.

        Raises:
            ValueError: there are other numbers, or more numbers than images left.
        """
        added = [int(difference) for difference in differences]
        if not set(added) <= {-1, 0, 1} or self.seen + len(added) > self.images:
            raise ValueError(f"Differences must be -1, 0 or 1 for at most {self.images - self.seen} more images, got "
                             f"{len(added)} with values {sorted(set(added))}")
        self._seen += added

    @property
    def interval(self) -> tuple[float, float]:
        """The current bounds (low, high) of the first network's accuracy minus the second network's, in -1..1.

        If all possible differences are ruled out, both bounds are equal. This happens with a probability of at most alpha.
        """
        seen = np.array(self._seen, dtype=np.int64)
        low, high = self._smallest_total(seen), -self._smallest_total(-seen)
        return low / self.images, max(low, high) / self.images

    @property
    def verdict(self) -> Verdict:
        """The current answer to the question of which network is better on these test images."""
        seen = np.array(self._seen, dtype=np.int64)
        left = self.images - self.seen
        if self._rules_out(seen, 0) or seen.sum() > left:
            return Verdict.FIRST
        if self._rules_out(-seen, 0) or -seen.sum() > left:
            return Verdict.SECOND
        return Verdict.OPEN if left else Verdict.EQUAL

    def _smallest_total(self, seen: NDArray[np.int64]) -> int:
        """Return the smallest sum of the differences of all images that is not ruled out.

        Args:
            seen: differences of the images observed so far, each -1, 0 or 1.
        """
        total, left = int(seen.sum()), self.images - len(seen)
        low, high = total - left, total + left
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._rules_out(seen, middle) else (low, middle)
        return low

    def _rules_out(self, seen: NDArray[np.int64], total: int) -> bool:
        """Return True if `total` is ruled out as the sum of all differences. All smaller sums are then ruled out, too.

        `total` is ruled out if a gambler who bets on a larger sum has had a capital of at least 2 / alpha at any moment so far
        (see `log_capital`).
        """
        return bool(len(seen)) and bool(log_capital(seen, total, self.images).max() >= np.log(2 / self.alpha))


def log_capital(differences: NDArray[np.int64], total: int, images: int) -> NDArray[np.float64]:
    """Return the logarithm of the capital of a gambler who bets that the sum of all differences is larger than `total`.

    There is one difference per image: the correctness (1 or 0) of the first network minus the correctness of the second network.
    The gambler starts with capital 1. For each image, the gambler buys tickets that pay (1 + difference) / 2. Given the
    differences seen so far, the price of a ticket is the mean payment that the remaining images need for the differences of all
    images to sum to `total`, limited to 0..1. If the true sum is at most `total`, the expected capital is at most 1. By Ville's
    inequality, the probability that the capital ever reaches 1 / alpha is then at most alpha.

    Args:
        differences: differences of the first t images, [..., t], in {-1, 0, 1}.
        total: the assumed sum of the differences of all images.
        images: number N of all images, at least t.

    Returns:
        Logarithm of the capital after each image, [..., t].
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
