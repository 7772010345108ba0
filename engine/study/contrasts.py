"""Contrasts (declared comparisons of two arms): the result of each, and the sentence that claims no more than the data support.

* An arm beats another if the permutation test is significant after Holm's adjustment over all declared contrasts, and the Welch
  interval excludes 0.
* Two arms are equal within a margin if the equivalence test is significant after Holm's adjustment, and the Welch interval lies
  within the margin.
* Otherwise the contrast is undecided. The stated range of possible differences then contains 0.

The condition on the interval makes false claims rarer if the arms vary unequally. For example, suppose that an arm with 5 seeds
varies three times as much as an equally good arm with 10 seeds. The permutation test is then significant in 16 % of studies, but
both conditions hold in only 6 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.attack.statistics import holm
from engine.report.words import signed_text
from engine.study.bootstrap import hierarchical_bootstrap
from engine.study.sizes import MACS_TOLERANCE, macs_ratio
from engine.study.statistics import equivalence_p, permutation_test, smallest_p, unit_means, welch_interval

Verdict = Literal["better", "worse", "equal", "undecided", "demonstration"]
Interval = tuple[float, float]

FEWEST_UNITS = 5  # search seeds of an arm; with fewer, a study demonstrates and claims nothing


@dataclass(frozen=True, eq=False)
class Measured:
    """The values of one arm.

    Attributes:
        values: one tuple per search seed that has a result, with one value per retrain seed. A value is the endpoint (the
            accuracy that the study compares) as a fraction in 0..1.
        images: one boolean array [retrain seeds, images] per search seed, True for a correctly classified image. The images are
            the same for all arms. None if the endpoint is not a share of images.
        macs: mean MACs of the arm's networks; None if unknown.
    """

    values: tuple[tuple[float, ...], ...]
    images: tuple[NDArray[np.bool_], ...] | None = None
    macs: float | None = None

    @classmethod
    def of_images(cls, images: Sequence[Sequence[Sequence[bool]]], macs: float | None = None) -> Measured:
        """Return the values of an arm whose endpoint is the share of correctly classified images.

        Args:
            images: booleans as [search seed][retrain seed][image].
            macs: mean MACs of the arm's networks; None if unknown.
        """
        arrays = tuple(np.asarray(unit, dtype=np.bool_) for unit in images)
        return cls(tuple(tuple(unit.mean(axis=1).tolist()) for unit in arrays), arrays, macs)


@dataclass(frozen=True)
class Contrast:
    """The result of one contrast (a declared comparison of two arms). Differences are first minus second, as fractions.

    Attributes:
        first, second: names of the arms.
        units: numbers of search seeds with a result, of the first and the second arm.
        difference: difference of the means; None while an arm has no result.
        interval: Welch interval at level 1 - alpha, not adjusted for other contrasts; None if it does not exist.
        bootstrap: interval of the hierarchical bootstrap at level 1 - alpha; None without images or if it does not exist.
        p: p-value of the permutation test; 1 while an arm has no result.
        exact: True if the permutation test counted every arrangement.
        adjusted_p: `p` after Holm's adjustment over the declared contrasts.
        reachable_p: smallest adjusted p-value that is possible with these numbers of search seeds. If it is above alpha, no
            difference can become significant.
        margin: smallest difference that matters; None if none was declared.
        equivalence_p: p-value of the equivalence test after Holm's adjustment; None without a margin or an interval.
        macs_ratio: mean MACs of the first arm divided by the mean MACs of the second arm; None if unknown.
        alpha: family-wise significance level.
        verdict: the claim about the first arm.
    """

    first: str
    second: str
    units: tuple[int, int]
    difference: float | None
    interval: Interval | None
    bootstrap: Interval | None
    p: float
    exact: bool
    adjusted_p: float
    reachable_p: float
    margin: float | None
    equivalence_p: float | None
    macs_ratio: float | None
    alpha: float
    verdict: Verdict


def compare(arms: Mapping[str, Measured], contrasts: Sequence[tuple[str, str]], margin: float | None = None,
            alpha: float = 0.05) -> list[Contrast]:
    """Return the result of every declared contrast (comparison of two arms), in the declared order.

    Contrasts without a result count in Holm's adjustment. A p-value therefore does not grow when other contrasts get their
    results later.

    Args:
        arms: {name: values of the arm}.
        contrasts: all declared contrasts, as (first, second).
        margin: smallest difference that matters, as a fraction; None if none was declared.
        alpha: family-wise significance level.

    Raises:
        ValueError: a contrast names an unknown arm, or images differ between networks.
    """
    unknown = sorted({name for pair in contrasts for name in pair} - set(arms))
    if unknown:
        raise ValueError(f"Contrasts must name arms of the study ({', '.join(sorted(arms))}), got {', '.join(unknown)}")
    means = {name: unit_means(arm.values) for name, arm in arms.items()}
    pairs = [(means[first], means[second]) for first, second in contrasts]
    tests = [permutation_test(*pair) if all(pair) else (1.0, True) for pair in pairs]
    smallest = [smallest_p(*map(len, pair)) if all(pair) else 1.0 for pair in pairs]
    equivalence = [None if margin is None else equivalence_p(*pair, margin) for pair in pairs]
    adjusted = zip(holm([p for p, _ in tests]), holm(smallest), holm([1.0 if p is None else p for p in equivalence]), strict=True)
    results = []
    for position, (adjusted_p, reachable_p, adjusted_equivalence_p) in enumerate(adjusted):
        (a, b), (first, second) = contrasts[position], pairs[position]
        results.append(_judged(Contrast(
            first=a, second=b, units=(len(first), len(second)),
            difference=float(np.mean(first) - np.mean(second)) if first and second else None,
            interval=welch_interval(first, second, 1 - alpha), bootstrap=_bootstrap(arms[a], arms[b], 1 - alpha),
            p=tests[position][0], exact=tests[position][1], adjusted_p=adjusted_p, reachable_p=reachable_p, margin=margin,
            equivalence_p=None if equivalence[position] is None else adjusted_equivalence_p,
            macs_ratio=macs_ratio(arms[a].macs, arms[b].macs), alpha=alpha, verdict="demonstration")))
    return results


def sentence(contrast: Contrast, endpoint: str) -> str:
    """Return the result of a contrast (a declared comparison of two arms) in words. Differences are in percentage points.

    The sentence is in the past tense ("beat"), because the name of an arm may be a plural, such as "Published cells".

    Args:
        contrast: the result.
        endpoint: name of the compared accuracy, as it stands after "in", such as "worst-case accuracy under AutoAttack".
    """
    c, verdict = contrast, contrast.verdict
    if c.difference is None:
        return f"{c.first} and {c.second} cannot be compared in {endpoint} yet: an arm has no result."
    if verdict == "demonstration":
        words = (f"Demonstration, no claim: {c.first} minus {c.second} is {points_text(c.difference)} points in {endpoint} "
                 f"{_interval(c, c.interval)}, {c.units[0]} and {c.units[1]} search seeds")
    elif verdict == "better":
        words = f"{c.first} beat {c.second} by {points_text(c.difference)} points {_interval(c, c.interval)} in {endpoint}"
    elif verdict == "worse":
        interval = c.interval and (-c.interval[1], -c.interval[0])
        words = f"{c.second} beat {c.first} by {points_text(-c.difference)} points {_interval(c, interval)} in {endpoint}"
    elif verdict == "equal":
        words = (f"{c.first} and {c.second} are equal in {endpoint} within the {points_text(c.margin or 0)} points that were "
                 f"declared to matter {_interval(c, c.interval)}, Holm-adjusted "
                 f"{_equation('equivalence p', c.equivalence_p or 0)}")
    else:
        words = f"{c.first} and {c.second} cannot be told apart in {endpoint}: {_possible(c)}"
    return words + "".join(_additions(contrast)) + "."


def clause(contrast: Contrast) -> str:
    """Return the result of a contrast as a short clause without the endpoint, for a sentence that lists several contrasts."""
    c = contrast
    if c.difference is None:
        return f"{c.first} and {c.second} have no results to compare yet"
    unequal = c.macs_ratio is not None and abs(c.macs_ratio - 1) > MACS_TOLERANCE
    if c.verdict in ("better", "worse"):
        best, other, sign = (c.first, c.second, 1) if c.verdict == "better" else (c.second, c.first, -1)
        ends = sorted(sign * end for end in c.interval) if c.interval else None
        ratio = None if c.macs_ratio is None else c.macs_ratio ** sign
        size = f", with {ratio:.2f} times the MACs" if ratio is not None and abs(ratio - 1) > MACS_TOLERANCE else ""
        interval = f" ({_level(c)}: {points_text(ends[0])} to {points_text(ends[1])})" if ends else ""
        return f"{best} beat {other} by {points_text(sign * c.difference)} points{interval}{size}"
    sizes = f", where the MACs of {c.first} are {c.macs_ratio:.2f} times those of {c.second}" if unequal else ""
    if c.verdict == "equal":
        return f"{c.first} and {c.second} are equal within the declared margin{sizes}"
    possible = _possible(c) if c.interval is None else f"{_level(c)}: {_range(c.interval)} points remain possible"
    return f"{c.first} and {c.second} cannot be told apart ({possible}){sizes}"


def _bootstrap(first: Measured, second: Measured, level: float) -> Interval | None:
    if not (first.images and second.images):
        return None
    return hierarchical_bootstrap(first.images, second.images, level)


def _judged(c: Contrast) -> Contrast:
    """Return the contrast with its verdict. If there is no interval, the permutation test alone decides which arm is better."""
    if min(c.units) < FEWEST_UNITS or c.difference is None:
        return replace(c, verdict="demonstration")
    if c.adjusted_p <= c.alpha and not (c.interval and c.interval[0] <= 0 <= c.interval[1]):
        return replace(c, verdict="better" if c.difference > 0 else "worse")
    within = c.interval is not None and c.margin is not None and -c.margin <= c.interval[0] and c.interval[1] <= c.margin
    equal = within and c.equivalence_p is not None and c.equivalence_p <= c.alpha
    return replace(c, verdict="equal" if equal else "undecided")


def _additions(c: Contrast) -> list[str]:
    """Return the parts of a sentence that follow the claim.

    They give the adjusted p-value and, where it applies, say that no difference could have become significant, that the
    difference is too small to matter, or that the MACs differ.
    """
    parts = [] if c.verdict == "equal" else [f", Holm-adjusted {_equation('p', c.adjusted_p)}"]
    if c.verdict == "undecided" and c.reachable_p > c.alpha:
        parts.append("; with so few search seeds and so many contrasts, no difference could have become significant")
    if c.verdict in ("better", "worse") and c.margin is not None and abs(c.difference or 0) < c.margin:
        parts.append(f"; the difference is smaller than the {points_text(c.margin)} points that were declared to matter")
    if c.macs_ratio is not None and abs(c.macs_ratio - 1) > MACS_TOLERANCE:
        first, second = (c.second, c.first) if c.verdict == "worse" else (c.first, c.second)
        ratio = 1 / c.macs_ratio if c.verdict == "worse" else c.macs_ratio
        parts.append(f"; the MACs of {first} are {ratio:.2f} times those of {second}")
    return parts


def _possible(c: Contrast) -> str:
    """Return a text with the differences that remain possible: the Welch interval, which is extended if it does not contain 0."""
    if c.interval is None:
        return (f"the difference is {points_text(c.difference or 0)} points, and the search seeds do not vary, so the range of "
                f"possible differences is unknown")
    return f"differences from {_range(c.interval)} points remain possible ({_level(c)})"


def _range(interval: Interval) -> str:
    """Return the ends of an interval in percentage points. The interval is first extended to contain 0 if it does not.

    A difference of 0 remains possible, because no test has rejected it.
    """
    return f"{points_text(min(interval[0], 0.0))} to {points_text(max(interval[1], 0.0))}"


def _interval(c: Contrast, interval: Interval | None) -> str:
    if interval:
        return f"({_level(c)}: {points_text(interval[0])} to {points_text(interval[1])})"
    why = "an arm has one search seed" if min(c.units) < 2 else "the search seeds do not vary"
    return f"(no interval, because {why})"


def _level(c: Contrast) -> str:
    return f"{100 * (1 - c.alpha):.3g} %"


def points_text(fraction: float, *, plus: bool = False) -> str:
    """Format a difference of accuracies in percentage points: -0.053 as "−5.3". `plus` adds a sign to positive numbers."""
    return signed_text(100 * fraction, 1, plus=plus)


def p_text(p: float) -> str:
    """Format a p-value with two digits, or as "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _equation(name: str, p: float) -> str:
    return f"{name} {p_text(p)}" if p < 0.001 else f"{name} = {p_text(p)}"
