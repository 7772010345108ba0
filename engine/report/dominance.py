"""Dominance of networks: which network is better than another in all chosen measures, by more than chance.

An accuracy differs only if the exact McNemar test on the same images says so. Sizes and times are exact. If a network has a
higher measured accuracy but the test finds no difference, the two networks are "not told apart", and neither dominates the other.

A network dominates another only if it is better in every chosen measure. The p-value of this claim is the largest p-value of the
single measures (intersection-union test: Berger 1982, Technometrics 24:295-300).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from engine.attack.statistics import holm, mcnemar
from engine.report.pareto import Measure

ALPHA = 0.05


class Standing(Enum):
    """The comparison of a network with the front. The value of each member is its text in legends."""

    FRONT = "on the front"
    OPEN = "not told apart from the front"
    DOMINATED = "dominated"


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of one attack on the images of a network.

    Attributes:
        images: hash of the image numbers. Only outcomes with equal hashes are compared.
        total: number of images.
        bits: one bit per image, in the order of the images, set if the image is classified correctly.
    """

    images: str
    total: int
    bits: int


@dataclass(frozen=True)
class Candidate:
    """A network with its values.

    Attributes:
        run: id of the attack run.
        label: name of the network.
        values: {name of a measure: value}: accuracies as fractions, times in seconds, other measures as counts.
        outcomes: {name of an accuracy: outcomes}. An accuracy without recorded outcomes is left out.
    """

    run: str
    label: str
    values: Mapping[str, float]
    outcomes: Mapping[str, Outcomes]


@dataclass(frozen=True)
class Verdict:
    """The comparison of two networks in all chosen measures.

    Attributes:
        first, second: labels of the networks.
        better: titles of the measures in which the first network is better.
        worse: titles of the measures in which the second network is better.
        open: titles of the measures in which the networks are not told apart.
        dominates: True if the first network is better in every measure.
    """

    first: str
    second: str
    better: tuple[str, ...]
    worse: tuple[str, ...]
    open: tuple[str, ...]
    dominates: bool

    def sentence(self) -> str:
        """Return the comparison in words."""
        if self.dominates:
            return f"{self.first} dominates {self.second}: it is better in {_listed(self.better)}"
        if not self.better and not self.worse:
            return f"{self.first} and {self.second} are not told apart in {_listed(self.open)}"
        rest = f", and not told apart in {_listed(self.open)}" if self.open else ""
        if self.better and self.worse:
            return (f"{self.first} is better in {_listed(self.better)}, {self.second} in {_listed(self.worse)}{rest}: "
                    "neither dominates")
        first, second = (self.first, self.second) if self.better else (self.second, self.first)
        return f"{first} is better than {second} in {_listed(self.better or self.worse)}{rest}: neither dominates"


def p_better(first: Candidate, second: Candidate, measure: Measure) -> float:
    """Return the p-value of "the first network is better than the second in this measure".

    It is 1 if the measured value of the first network is not better. For an exact measure, it is 0 or 1. For an accuracy without
    recorded outcomes on the same images, it is 1.
    """
    gain = first.values[measure.name] - second.values[measure.name]
    if (gain if measure.larger else -gain) <= 0:
        return 1.0
    if not measure.is_accuracy:
        return 0.0
    one, other = first.outcomes.get(measure.name), second.outcomes.get(measure.name)
    if one is None or other is None or one.images != other.images:
        return 1.0
    both = (one.bits & other.bits).bit_count()
    only_first, only_second = one.bits.bit_count() - both, other.bits.bit_count() - both
    return mcnemar(only_first, only_second) if only_first > only_second else 1.0


def standings(networks: Sequence[Candidate], front: Sequence[bool], measures: Sequence[Measure]) -> list[Standing]:
    """Return, for each network, whether it is on the front, not told apart from the front, or dominated.

    A network is dominated if a network on the front is better in every measure. The p-values are multiplied by the number of
    networks on the front (Bonferroni) and adjusted by Holm's method over the networks that are not on the front, so that the
    probability of any false "dominated" is at most 5 %.

    Args:
        networks: the networks.
        front: for each network, True if it is on the front of the measured values.
        measures: the measures in which networks are compared.
    """
    best = [network for network, is_front in zip(networks, front, strict=True) if is_front]
    others = [place for place, is_front in enumerate(front) if not is_front]
    values = [min(1.0, len(best) * min(max(p_better(one, networks[place], measure) for measure in measures) for one in best))
              for place in others]
    result = [Standing.FRONT if is_front else Standing.OPEN for is_front in front]
    for place, adjusted in zip(others, holm(values), strict=True):
        if adjusted <= ALPHA:
            result[place] = Standing.DOMINATED
    return result


def verdicts(networks: Sequence[Candidate], measures: Sequence[Measure]) -> list[Verdict]:
    """Compare every two networks in every measure. The p-values of all tests of accuracies are adjusted by Holm's method."""
    pairs = list(combinations(networks, 2))
    tests = [(first, second, measure) for first, second in pairs for measure in measures]
    raw = [min(p_better(*test), p_better(test[1], test[0], test[2])) for test in tests]
    estimated = [place for place, (_, _, measure) in enumerate(tests) if measure.is_accuracy]
    adjusted = dict(enumerate(raw)) | dict(zip(estimated, holm([raw[place] for place in estimated]), strict=True))
    size = len(measures)
    return [_verdict(first, second, measures, [adjusted[number * size + place] for place in range(size)])
            for number, (first, second) in enumerate(pairs)]


def _verdict(first: Candidate, second: Candidate, measures: Sequence[Measure], p_values: Sequence[float]) -> Verdict:
    better: list[str] = []
    worse: list[str] = []
    unknown: list[str] = []
    for measure, p in zip(measures, p_values, strict=True):
        gain = (first.values[measure.name] - second.values[measure.name]) * (1 if measure.larger else -1)
        (unknown if p > ALPHA else better if gain > 0 else worse).append(measure.phrase)
    if len(worse) == len(measures):
        first, second, better, worse = second, first, worse, better
    return Verdict(first.label, second.label, tuple(better), tuple(worse), tuple(unknown), len(better) == len(measures))


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
