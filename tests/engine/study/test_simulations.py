"""Error rates, coverage and power in simulated studies with a known truth. The seeds are fixed, so every rate is reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from engine.study.bootstrap import hierarchical_bootstrap
from engine.study.contrasts import Measured, compare
from engine.study.ranking import correlate
from engine.study.statistics import detectable_difference, equivalence_p, permutation_test, welch_interval
from tests.engine.study.simulated import Truth

CONTRASTS = [("a", "b"), ("a", "c"), ("b", "c")]
TRUTHS = {
    "typical": Truth(),
    "search seeds vary most": Truth(search=0.3),
    "retrain seeds vary most": Truth(search=0.03, retrain=0.3),
    "nothing but noise": Truth(search=0.0, retrain=0.0, arm_images=0.0),
    "images differ between arms": Truth(arm_images=1.0),
    "low accuracies": Truth(levels=(-1.5, -2.0)),
}


def false_claims(truth: Truth, studies: int) -> float:
    """Return the share of studies that claim a difference in at least one of three contrasts between equal arms."""
    rng, claims = np.random.default_rng(11), 0
    for _ in range(studies):
        outcomes, _ = truth.study(rng)
        arms = {name: Measured(tuple(map(tuple, arm.mean(axis=2).tolist()))) for name, arm in zip("abc", outcomes, strict=True)}
        claims += any(result.verdict in ("better", "worse") for result in compare(arms, CONTRASTS))
    return claims / studies


def coverage(truth: Truth, studies: int) -> tuple[float, float]:
    """Return the shares of studies whose Welch interval and whose bootstrap interval contain the true difference."""
    rng, welch, bootstrap = np.random.default_rng(12), 0, 0
    population = truth.mean(0) - truth.mean(1)
    for study in range(studies):
        (first, second), (of_first, of_second) = truth.study(rng)
        interval = welch_interval(first.mean(axis=(1, 2)).tolist(), second.mean(axis=(1, 2)).tolist())
        resampled = hierarchical_bootstrap(list(first), list(second), resamples=1000, seed=study)
        assert interval and resampled
        welch += interval[0] <= of_first - of_second <= interval[1]
        bootstrap += resampled[0] <= population <= resampled[1]
    return welch / studies, bootstrap / studies


def detections(seeds: int, contrasts: int, studies: int, spreads: tuple[float, float] = (0.02, 0.02)) -> float:
    """Return the share of studies whose permutation test reaches Holm's first step at the detectable difference."""
    difference = detectable_difference(spreads, seeds, seeds, contrasts=contrasts)
    assert difference
    rng, hits = np.random.default_rng(13), 0
    for _ in range(studies):
        first = rng.normal(0.5 + difference, spreads[0], seeds).tolist()
        second = rng.normal(0.5, spreads[1], seeds).tolist()
        hits += permutation_test(first, second)[0] <= 0.05 / contrasts
    return hits / studies


def test_few_studies_of_equal_arms_claim_a_difference() -> None:
    """At most 6 % of 300 studies of three equal arms claim any difference at a nominal 5 %."""
    assert false_claims(Truth(levels=(0.0, 0.0, 0.0), images=100), 300) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 8])
def test_family_wise_false_positives(seeds: int) -> None:
    """At most 6 % of 2,000 studies of three equal arms claim any difference at a nominal 5 %."""
    assert false_claims(Truth(levels=(0.0, 0.0, 0.0), seeds=seeds), 2000) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("spreads, sizes", [((0.01, 0.01), (5, 10)), ((0.03, 0.01), (5, 10)), ((0.03, 0.01), (5, 5))])
def test_false_positives_with_unequal_spreads(spreads: tuple[float, float], sizes: tuple[int, int]) -> None:
    """About 5 % of 4,000 contrasts of equally good arms with unequal spreads and sizes claim a difference, and at most 7 %."""
    rng, claims = np.random.default_rng(17), 0
    for _ in range(4000):
        arms = {name: Measured(tuple((value,) for value in rng.normal(0.5, spread, size).tolist()))
                for name, spread, size in zip("ab", spreads, sizes, strict=True)}
        claims += compare(arms, [("a", "b")])[0].verdict in ("better", "worse")
    assert claims / 4000 <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 9])
def test_false_positives_of_the_permutation_test(seeds: int) -> None:
    """At most 6 % of 2,000 comparisons of equal arms have p <= 0.05, for the exact and for the Monte Carlo test."""
    rng = np.random.default_rng(14)
    p_values = [permutation_test(*rng.normal(0.5, 0.02, (2, seeds)).tolist())[0] for _ in range(2000)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.06


def test_intervals_cover_in_a_few_studies() -> None:
    """Both intervals contain the true difference in 90 to 99.5 % of 200 typical studies."""
    assert all(0.90 <= share <= 0.995 for share in coverage(Truth(), 200))


@pytest.mark.slow
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
def test_intervals_cover_at_their_level(truth: Truth) -> None:
    """Both 95 % intervals of 5 x 2 networks on 300 images contain the true difference in 93 to 97 % of 1,000 studies."""
    assert all(0.93 <= share <= 0.97 for share in coverage(truth, 1000))


@pytest.mark.parametrize("seeds, contrasts", [(5, 1), (5, 3), (5, 6), (6, 1), (8, 3)])
def test_the_detectable_difference_is_detected(seeds: int, contrasts: int) -> None:
    """The permutation test finds the detectable difference in about 80 % of 2,000 studies."""
    assert 0.75 <= detections(seeds, contrasts, 2000) <= 0.85


def test_the_detectable_difference_of_unequal_spreads_is_detected() -> None:
    """The power of about 80 % also holds if one arm varies twice as much."""
    assert 0.75 <= detections(8, 1, 2000, (0.02, 0.04)) <= 0.86


@pytest.mark.parametrize("spreads", [(0.01, 0.01), (0.01, 0.03)])
def test_false_equivalence(spreads: tuple[float, float]) -> None:
    """At most 5 % of 4,000 studies call arms equal whose true difference is the margin (plus two standard errors of the rate)."""
    rng, margin = np.random.default_rng(15), 0.02
    p_values = [equivalence_p(rng.normal(0.5 + margin, spreads[0], 5).tolist(), rng.normal(0.5, spreads[1], 5).tolist(), margin)
                for _ in range(4000)]
    assert np.mean([p is not None and p <= 0.05 for p in p_values]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 4000)


def ranking_claims(architectures: int, strength: float, studies: int) -> tuple[float, float]:
    """Return how often two measures of the parameters alone seem to add to them: by Kendall's partial tau, and by the verdict."""
    rng, classical, claims = np.random.default_rng(16), 0, 0
    for study in range(studies):
        parameters = rng.normal(size=architectures)
        score, accuracy = strength * parameters + rng.normal(size=(2, architectures))
        columns = {"score": score.tolist(), "accuracy": accuracy.tolist(), "parameters": parameters.tolist()}
        result = correlate(columns, "score", "accuracy", ["parameters"], resamples=500, seed=study)
        assert result.interval
        classical += not result.interval[0] <= 0 <= result.interval[1]
        claims += result.adds
    return classical / studies, claims / studies


def test_a_ranking_that_only_counts_parameters_adds_nothing() -> None:
    """At most 8 % of 100 rankings by parameters plus noise seem to add something, although Kendall's partial tau is not 0."""
    classical, claims = ranking_claims(100, 1.5, 100)
    assert claims <= 0.08 < 0.5 < classical


@pytest.mark.slow
@pytest.mark.parametrize("architectures", [20, 50])
def test_false_claims_of_rankings(architectures: int) -> None:
    """At most 5 % of 1,000 rankings by parameters plus noise seem to add something to the parameters."""
    assert ranking_claims(architectures, 1.0, 1000)[1] <= 0.05
