"""Intervals and paired tests of accuracies. This module does not import torch, so pages and queries can use it cheaply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations, takewhile
from math import exp, inf, lgamma, log, sqrt
from statistics import NormalDist
from string import ascii_letters


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


def accuracy_words(correct: int, images: int) -> str:
    """Return an accuracy in words, with its 95 % Wilson interval: "97.2 % (94.9 to 98.5), 359 images".

    Args:
        correct: number of correctly classified images.
        images: number of images, at least 1.
    """
    return f"{share_words(correct, images)}, {images:,} {'image' if images == 1 else 'images'}"


def share_words(correct: int, images: int) -> str:
    """Return an accuracy and its 95 % Wilson interval in per cent: "97.2 % (94.9 to 98.5)".

    The text leaves out the number of images, which must therefore be shown nearby, for example above a table.

    Args:
        correct: number of correctly classified images.
        images: number of images, at least 1.
    """
    low, high = wilson(correct, images)
    return f"{100 * correct / images:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the median of a sample, and a confidence interval for the median of the distribution from which the sample comes.

    The interval is from the k-th smallest to the k-th largest value. It lies above the true median with a probability of at most
    (1 - level) / 2, and below it with at most the same probability. The number k is the largest for which this is so. No
    assumption about the distribution is needed.

    Args:
        values: at least one number. Numbers may be infinite, like the distance of an image without an adversarial image.
        level: confidence level in 0..1.

    Returns:
        (median, low, high). With too few values for the level (fewer than six for 95 %), low is -inf and high is inf. If the
        number of values is even, the median is the lower of the two middle values.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("A median needs at least one value, got none")
    ordered, n = sorted(values), len(values)
    logs = [lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(n)]
    tails = accumulate(map(exp, logs))  # P(at most k values below the median)
    rank = sum(1 for _ in takewhile(lambda tail: tail <= (1 - level) / 2, tails))
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (-inf, inf)
    return ordered[(n - 1) // 2], low, high


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """Numbers of images that both of two networks classify correctly, only one of them, or neither (the fourfold table).

    Attributes:
        both: number of images that both networks classify correctly.
        first_only: number of images that only the first network classifies correctly.
        second_only: number of images that only the second network classifies correctly.
        neither: number of images that both networks misclassify.
    """

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def images(self) -> int:
        """The number of images."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def difference(self) -> float:
        """The accuracy of the first network minus the accuracy of the second; 0 if there are no images."""
        return (self.first_only - self.second_only) / self.images if self.images else 0.0


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (McNemar 1947).

    The null hypothesis is that both networks are equally accurate. If only one network classifies an image correctly, it is then
    the first network with probability 1/2.

    Args:
        first_only, second_only: number of images that only the first or only the second network classifies correctly.

    Raises:
        ValueError: a number is negative.
    """
    if min(first_only, second_only) < 0:
        raise ValueError(f"Counts of discordant pairs must not be negative, got {first_only} and {second_only}")
    pairs = first_only + second_only
    ways, tail = 1, 0  # to choose k of the pairs; to choose at most min(first_only, second_only) of them
    for k in range(min(first_only, second_only) + 1):
        tail += ways
        ways = ways * (pairs - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << pairs))


def paired_interval(counts: PairedCounts, level: float = 0.95) -> tuple[float, float]:
    """Return a confidence interval of the difference of accuracies by method 10 of Newcombe (1998, Stat. Med. 17:2635-2650).

    The method combines the Wilson intervals of both accuracies and corrects for the correlation of the two outcomes. The interval
    is not derived from the McNemar test. In borderline cases, the interval may exclude a difference of 0 although the test does
    not, or the reverse.

    Args:
        counts: the fourfold table. If it has no images, the interval is -1..1.
        level: confidence level in 0..1.

    Returns:
        (low, high), fractions in -1..1.
    """
    images, first, second = counts.images, counts.both + counts.first_only, counts.both + counts.second_only
    if images == 0:
        return -1.0, 1.0
    below1, above1 = _distances(first, images, level)
    below2, above2 = _distances(second, images, level)
    phi = _corrected_phi(counts)
    low = counts.difference - sqrt(max(0.0, below1**2 - 2 * phi * below1 * above2 + above2**2))
    high = counts.difference + sqrt(max(0.0, above1**2 - 2 * phi * above1 * below2 + below2**2))
    return max(-1.0, low), min(1.0, high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by the step-down procedure of Holm (1979), in the given order.

    Reject the hypotheses whose adjusted value is at most alpha. The probability of any false rejection is then at most alpha,
    even if the tests depend on each other.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


@dataclass(frozen=True, slots=True)  # a table of 300 networks has 45,000 of them
class Comparison:
    """A comparison of two networks on the same images.

    Attributes:
        first: name of the more accurate network. If the accuracies are equal, the network that is listed earlier.
        second: name of the other network.
        counts: fourfold table of the two networks.
        low, high: interval of the difference of accuracies, from `paired_interval`, not adjusted for multiple comparisons.
        p: p-value of the exact McNemar test.
        adjusted_p: `p` after Holm's adjustment over all pairs of the compared networks.
    """

    first: str
    second: str
    counts: PairedCounts
    low: float
    high: float
    p: float
    adjusted_p: float

    def distinct(self, alpha: float = 0.05) -> bool:
        """Return True if the two networks can be told apart: if the adjusted p-value is at most `alpha`."""
        return self.adjusted_p <= alpha

    def sentence(self, alpha: float = 0.05) -> str:
        """Return the result as a sentence that gives the difference in percentage points.

        Args:
            alpha: significance level. If the adjusted p-value is larger, the sentence says that the networks cannot be told
                apart.
        """
        interval = f"({100 * self.low:.1f} to {100 * self.high:.1f})".replace("-", "−")
        numbers = f"{interval}, Holm-adjusted {_p_in_words(self.adjusted_p)}"
        points = f"{100 * self.counts.difference:.1f} points"
        if self.distinct(alpha):
            return f"{self.first} is more accurate than {self.second} by {points} {numbers}"
        return (f"{self.first} and {self.second} cannot be told apart on these {self.counts.images} images: difference {points} "
                f"{numbers}")


def tell_apart(outcomes: Mapping[str, Sequence[bool]], level: float = 0.95) -> list[Comparison]:
    """Compare every pair of networks on the same images.

    The pairs are sorted by the accuracy of their more accurate network, then by the accuracy of the other one, best first.

    Args:
        outcomes: {name of a network: one entry per image}. An entry is True if the network classifies the image correctly. All
            networks have the same images in the same order.
        level: confidence level of the intervals, in 0..1.

    Raises:
        ValueError: the networks have different numbers of images.
    """
    bits = _bits_by_accuracy(outcomes)
    pairs = [(first, second, _count(bits[first], bits[second], len(outcomes[first]))) for first, second in combinations(bits, 2)]
    p_values = [mcnemar(counts.first_only, counts.second_only) for _, _, counts in pairs]
    return [Comparison(first, second, counts, *paired_interval(counts, level), p, adjusted_p)
            for (first, second, counts), p, adjusted_p in zip(pairs, p_values, holm(p_values), strict=True)]


def distinct_pairs(outcomes: Mapping[str, Sequence[bool]], alpha: float = 0.05) -> list[tuple[str, str]]:
    """Return the pairs of networks that can be told apart, as (more accurate network, other network).

    The same pairs are `distinct` in the result of `tell_apart`. This function takes less time and, for example with 300 networks,
    much less memory, because it computes no intervals and keeps no counts.

    Args:
        outcomes: see `tell_apart`.
        alpha: significance level of the adjusted p-values.

    Raises:
        ValueError: the networks have different numbers of images.
    """
    bits = _bits_by_accuracy(outcomes)
    p_value = cache(mcnemar)  # most pairs have the counts of some other pair
    p_values = [p_value((first & ~second).bit_count(), (second & ~first).bit_count())
                for first, second in combinations(bits.values(), 2)]
    return [pair for pair, adjusted_p in zip(combinations(bits, 2), holm(p_values), strict=True) if adjusted_p <= alpha]


def by_accuracy(outcomes: Mapping[str, Sequence[bool]]) -> list[str]:
    """Return the names of the networks, most accurate first. Equally accurate networks keep their order."""
    return sorted(outcomes, key=lambda name: -sum(map(bool, outcomes[name])))


def letters(names: Sequence[str], distinct: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the compact letter display of a table (Piepho 2004, insert-and-absorb algorithm).

    Two networks share a letter if and only if they cannot be told apart.

    Args:
        names: names of the networks, most accurate first.
        distinct: pairs of networks that can be told apart, in any order.

    Returns:
        {name: letters in alphabetical order}. The first network has the letter "a". After 52 letters, numbers such as "(53)" are
        used.
    """
    groups = [frozenset(names)] if names else []
    for pair in distinct:
        together = [group for group in groups if group.issuperset(pair)]
        kept = [group for group in groups if group not in together]
        split = {group - {name} for group in together for name in pair}
        groups = kept + [part for part in split if not any(part < one for one in split) and not any(part <= one for one in kept)]
    rank = {name: position for position, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(rank[name] for name in group))
    return {name: "".join(_letter(position) for position, group in enumerate(groups) if name in group) for name in names}


def _distances(correct: int, images: int, level: float) -> tuple[float, float]:
    """Return the distances from the proportion correct / images to the ends of its Wilson interval.

    Args:
        correct: number of successes.
        images: number of trials.
        level: confidence level, 0..1.

    Returns:
        below: distance to the lower end.
        above: distance to the upper end.
    """
    low, high = wilson(correct, images, level)
    return correct / images - low, high - correct / images


def _corrected_phi(counts: PairedCounts) -> float:
    """Return the correlation of the outcomes of two networks, or 0 if it is undefined.

    A positive correlation gets Newcombe's continuity correction.
    """
    a, b, c, d = counts.both, counts.first_only, counts.second_only, counts.neither
    product = (a + b) * (c + d) * (a + c) * (b + d)
    if product == 0:
        return 0.0
    determinant = a * d - b * c
    numerator = max(determinant - counts.images / 2, 0.0) if determinant > 0 else determinant
    return numerator / sqrt(product)


def _bits_by_accuracy(outcomes: Mapping[str, Sequence[bool]]) -> dict[str, int]:
    """Return {name of a network: its outcomes as the bits of an integer, see `_as_bits`}, the most accurate network first.

    Raises:
        ValueError: the networks have different numbers of images.
    """
    lengths = {name: len(correct) for name, correct in outcomes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Networks must be compared on the same images, got {lengths}; keep the images that all of them have")
    return {name: _as_bits(outcomes[name]) for name in by_accuracy(outcomes)}


def _as_bits(outcomes: Sequence[bool]) -> int:
    """Return the outcomes as the bits of an integer, the last outcome as the lowest bit.

    With such integers, two networks can be compared in microseconds.
    """
    return int("".join("1" if correct else "0" for correct in outcomes) or "0", 2)


def _count(first: int, second: int, images: int) -> PairedCounts:
    both = (first & second).bit_count()
    return PairedCounts(both, first.bit_count() - both, second.bit_count() - both, images - (first | second).bit_count())


def _p_in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def _letter(position: int) -> str:
    return ascii_letters[position] if position < len(ascii_letters) else f"({position + 1})"
