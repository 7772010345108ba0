"""The smallest difference that a study can detect, computed before its launch. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance

from engine.study.contrasts import FEWEST_UNITS
from engine.study.declaration import Arm, Study
from engine.study.results import Results
from engine.study.statistics import detectable_difference, smallest_p

ASSUMED_SPREAD = 0.02  # standard deviation between search seeds as long as no study has measured it
ALPHA, POWER = 0.05, 0.8


@dataclass(frozen=True)
class Spread:
    """The standard deviation of the compared accuracy between the search seeds of one arm.

    Attributes:
        value: the standard deviation, as a fraction.
        seeds: number of search seeds from which it was measured; 0 if it is the assumption `ASSUMED_SPREAD`.
    """

    value: float
    seeds: int


@dataclass(frozen=True)
class Power:
    """The power of a study: which differences it can detect with its number of seeds.

    Attributes:
        spread: standard deviation between search seeds on which `difference` is based.
        difference: smallest true difference between two arms, as a fraction, that is detected with a probability of 80 % by every
            contrast with enough search seeds for a claim; None if no contrast can become significant.
        smallest_p: smallest adjusted p-value that any contrast can have with these numbers of search seeds.
        contrasts: number of contrasts (declared comparisons of two arms).
        claims: number of contrasts with enough search seeds for a claim. The others are demonstrations.
        units: number of search seeds of the compared arm that has the fewest.
    """

    spread: Spread
    difference: float | None
    smallest_p: float
    contrasts: int
    claims: int
    units: int


def spread_of(study: Study, finished: Iterable[Results]) -> Spread:
    """Return the standard deviation between search seeds to expect in a study.

    The standard deviation is pooled over the arms of similar studies. If there are no similar studies, `ASSUMED_SPREAD` is used.
    Arms with the same settings in several studies count as one arm, because these studies share runs.

    Args:
        study: the study.
        finished: results of other studies. Studies with another dataset, preset or endpoint are left out.
    """
    arms: dict[str, dict[int, float]] = {}
    for results in finished:
        other = results.study
        if (other.dataset, other.preset, other.endpoint) == (study.dataset, study.preset, study.endpoint):
            for arm in other.arms:
                means = {seed: fmean(cell.endpoint.accuracy for cell in cells)
                         for seed, cells in results.arms[arm.name].by_seed.items()}
                arms.setdefault(_identity(other, arm), {}).update(means)
    groups = [list(means.values()) for means in arms.values() if len(means) > 1]
    seeds = sum(map(len, groups))
    within = sum(variance(group) * (len(group) - 1) for group in groups)
    return Spread(sqrt(within / (seeds - len(groups))), seeds) if within > 0 else Spread(ASSUMED_SPREAD, 0)


def _identity(study: Study, arm: Arm) -> str:
    """Return a text that is equal for arms with the same settings and the same rule for the sizes of their networks."""
    reference = study.arm(study.reference).settings if study.reference else None
    return json.dumps([arm.settings, study.match, reference], sort_keys=True)


def power_of(study: Study, spread: Spread) -> Power | None:
    """Return the power of a study (the smallest difference that it can detect); None if the study does not compare arms in pairs.

    Args:
        study: the study.
        spread: standard deviation between search seeds, from `spread_of`.
    """
    units = [(len(study.seeds_of(study.arm(first))), len(study.seeds_of(study.arm(second)))) for first, second in study.contrasts]
    if not units:
        return None
    claims = [pair for pair in units if min(pair) >= FEWEST_UNITS]
    differences = [detectable_difference(spread.value, *pair, POWER, ALPHA, len(units)) for pair in dict.fromkeys(claims)]
    smallest = min(smallest_p(*pair) for pair in dict.fromkeys(units))
    return Power(spread, max((one for one in differences if one is not None), default=None), min(1.0, len(units) * smallest),
                 len(units), len(claims), min(map(min, units)))
