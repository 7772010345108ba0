"""Statistics of two arms against scipy, published examples, brute force and invariances."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from scipy import stats

from engine.study.bootstrap import hierarchical_bootstrap, variance_of_difference
from engine.study.statistics import (
    detectable_difference,
    equivalence_p,
    permutation_test,
    smallest_p,
    unit_means,
    welch_interval,
)
from tests.engine.study.simulated import Truth

# Additional hours of sleep with two drugs (Student 1908), which R prints as t.test(extra ~ group).
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Survival of mice in days (Efron and Tibshirani 1993, table 2.1).
TREATED = [94.0, 197.0, 16.0, 38.0, 99.0, 141.0, 23.0]
CONTROL = [52.0, 104.0, 146.0, 10.0, 51.0, 30.0, 40.0, 27.0, 46.0]
SIZES = [(2, 2), (3, 2), (2, 4), (5, 5), (7, 9)]


def arms_of(sizes: tuple[int, int], seed: int) -> tuple[list[float], list[float]]:
    """Return two arms of these sizes."""
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(0.5, 0.02, size).tolist() for size in sizes)
    return first, second


def difference_of_means(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(np.mean(first, axis=axis) - np.mean(second, axis=axis))


def test_the_module_does_not_import_torch() -> None:
    """Pages can import all statistics of studies without loading torch."""
    command = "import sys, engine.study.contrasts, engine.study.ranking, engine.study.votes; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "False\n"


def test_unit_means_average_retrain_seeds() -> None:
    """The value of a search seed is the mean over its retrain seeds, of which search seeds may have different numbers."""
    assert unit_means([[0.25, 0.75], [0.5], [0.0, 0.25, 0.5]]) == [0.5, 0.5, 0.25]
    with pytest.raises(ValueError, match="at least one value"):
        unit_means([[0.5], []])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_the_permutation_test_is_that_of_scipy(sizes: tuple[int, int], seed: int) -> None:
    """The exact p-value equals scipy's permutation test of the absolute difference of means."""
    first, second = arms_of(sizes, seed)
    expected = stats.permutation_test((first, second), difference_of_means, alternative="greater", n_resamples=20_000)
    assert permutation_test(first, second) == (pytest.approx(expected.pvalue, abs=1e-12), True)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 6), (3, 4), (5, 5), (4, 7)])
@pytest.mark.parametrize("seed", range(4))
def test_ties_count_as_extreme(sizes: tuple[int, int], seed: int) -> None:
    """For values in hundredths, the p-value equals a count with whole numbers, in which ties are exact."""
    percent = np.random.default_rng(seed).integers(40, 46, sum(sizes)).tolist()
    first, total, everyone = sizes[0], sum(percent), range(sum(sizes))
    distances = [abs(len(percent) * sum(percent[k] for k in group) - first * total) for group in combinations(everyone, first)]
    observed = abs(len(percent) * sum(percent[:first]) - first * total)
    p, exact = permutation_test([x / 100 for x in percent[:first]], [x / 100 for x in percent[first:]])
    assert exact and p == pytest.approx(sum(distance >= observed for distance in distances) / len(distances))


def test_the_permutation_test_of_the_mice() -> None:
    """The survival times of Efron and Tibshirani have the p-value that counting all 11,440 arrangements by hand gives."""
    pooled, observed = TREATED + CONTROL, abs(np.mean(TREATED) - np.mean(CONTROL))
    extreme = sum(abs(sum(group) / 7 - (sum(pooled) - sum(group)) / 9) >= observed - 1e-9 for group in combinations(pooled, 7))
    assert permutation_test(TREATED, CONTROL) == (pytest.approx(extreme / 11_440), True)


def test_two_sided_p_values_of_equal_sizes_are_twice_the_one_sided_ones() -> None:
    """For arms of equal size, the p-value equals scipy's two-sided test, which doubles the smaller tail."""
    first, second = [0.51, 0.53, 0.56, 0.58], [0.50, 0.52, 0.54, 0.55]
    expected = stats.permutation_test((first, second), lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis))
    assert permutation_test(first, second)[0] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("sizes", [(5, 5), (4, 6), (9, 9), (7, 12)])
def test_the_p_value_is_invariant(sizes: tuple[int, int]) -> None:
    """Swapped arms, a common shift, a mirrored scale and another order of the units give the same p-value."""
    first, second = arms_of(sizes, 5)
    p = permutation_test(first, second)
    assert p[1] == (comb(sum(sizes), sizes[0]) <= 20_000)
    assert permutation_test(second, first) == p
    assert permutation_test(first[::-1], [*second[1:], second[0]]) == p
    assert permutation_test([x + 0.3 for x in first], [x + 0.3 for x in second]) == p
    if p[1]:  # mirrored units are other draws of the Monte Carlo test
        assert permutation_test([1 - x for x in first], [1 - x for x in second]) == p


def test_the_monte_carlo_test_is_close_to_the_exact_one() -> None:
    """Beyond 20,000 arrangements, the p-value is within five standard errors of the share among all arrangements."""
    first, second = arms_of((9, 9), 1)
    pooled = np.array(first + second)
    groups = pooled[np.array(list(combinations(range(18), 9)))].sum(axis=1)
    expected = np.mean(np.abs(groups - pooled.sum() / 2) >= abs(sum(first) - pooled.sum() / 2) - 1e-9)
    p, exact = permutation_test(first, second)
    assert not exact and abs(p - expected) <= 5 * np.sqrt(expected * (1 - expected) / 20_000)


def test_equal_units_have_p_1() -> None:
    """Arms whose units are all equal cannot be told apart."""
    assert permutation_test([0.3] * 5, [0.3] * 5) == (1.0, True)
    assert permutation_test([0.1] * 12, [0.1] * 12) == (1.0, False)
    with pytest.raises(ValueError, match="at least one unit"):
        permutation_test([], [0.5])


@pytest.mark.parametrize("sizes", list(product(range(1, 7), repeat=2)))
def test_the_smallest_p_value_is_reached(sizes: tuple[int, int]) -> None:
    """The smallest p-value is the minimum over all assignments of skewed distinct values to arms of these sizes."""
    values = [1.5**k for k in range(sum(sizes))]
    assignments = [set(chosen) for chosen in combinations(range(len(values)), sizes[0])]
    p_values = [permutation_test([values[k] for k in chosen], [x for k, x in enumerate(values) if k not in chosen])[0]
                for chosen in assignments]
    assert smallest_p(*sizes) == pytest.approx(min(p_values))


def test_the_smallest_p_value_of_usual_sizes() -> None:
    """Five seeds against five give 2 / 252; many seeds give the smallest Monte Carlo p-value; no seeds are refused."""
    assert smallest_p(5, 5) == pytest.approx(2 / 252)
    assert smallest_p(20, 20) == pytest.approx(1 / 20_000)
    assert permutation_test([1.0] * 20, [0.0] * 20) == (pytest.approx(1 / 20_000), False)
    with pytest.raises(ValueError, match="at least one unit"):
        smallest_p(0, 5)


def test_the_interval_of_the_sleep_data() -> None:
    """The published Welch interval of the sleep data is -3.3654832 to 0.2054832."""
    assert welch_interval(DRUG_1, DRUG_2) == pytest.approx((-3.3654832, 0.2054832), abs=1e-7)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 7), (5, 5), (10, 4)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_interval_is_that_of_scipy(sizes: tuple[int, int], level: float) -> None:
    """The interval equals scipy's interval of the Welch test; swapped arms mirror it."""
    rng = np.random.default_rng(3)
    first, second = (rng.normal(0.5, 0.02, size).tolist() for size in sizes)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
    interval = welch_interval(first, second, level)
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert interval and welch_interval(second, first, level) == pytest.approx((-interval[1], -interval[0]), abs=1e-12)


@pytest.mark.parametrize("first, second", [([], [0.5, 0.6]), ([0.5], [0.4, 0.6]), ([0.1 + 0.2] * 3, [0.3] * 3)])
def test_no_interval_without_repetition_or_spread(first: list[float], second: list[float]) -> None:
    """Fewer than two units in an arm, or units that vary in neither arm, give no interval and no equivalence."""
    assert welch_interval(first, second) is None
    assert equivalence_p(first, second, 0.1) is None


def test_one_arm_without_spread_has_an_interval() -> None:
    """If only one arm varies, its variance and its degrees of freedom give the interval of a one-sample t test."""
    first = [0.5, 0.52, 0.57]
    expected = stats.ttest_1samp(first, 0.4).confidence_interval()
    assert welch_interval(first, [0.4] * 6) == pytest.approx((expected.low - 0.4, expected.high - 0.4))


@pytest.mark.parametrize("margin", [0.2, 1.0, 2.0, 3.0, 3.4])
def test_equivalence_is_two_one_sided_tests(margin: float) -> None:
    """The p-value is the larger one of scipy's two one-sided tests, and is 5 % if the 90 % interval touches the margin."""
    below = stats.ttest_ind(DRUG_1, np.array(DRUG_2) - margin, equal_var=False, alternative="greater").pvalue
    above = stats.ttest_ind(DRUG_1, np.array(DRUG_2) + margin, equal_var=False, alternative="less").pvalue
    p = equivalence_p(DRUG_1, DRUG_2, margin)
    assert p == pytest.approx(max(below, above)) == equivalence_p(DRUG_2, DRUG_1, margin)
    low, high = welch_interval(DRUG_1, DRUG_2, 0.9) or (0.0, 0.0)
    assert equivalence_p(DRUG_1, DRUG_2, max(-low, high)) == pytest.approx(0.05)


def test_a_margin_must_be_positive() -> None:
    """A margin of 0 is refused."""
    with pytest.raises(ValueError, match="above 0"):
        equivalence_p(DRUG_1, DRUG_2, 0.0)


@pytest.mark.parametrize("units, effect", [(64, 0.50), (26, 0.80), (394, 0.20)])
def test_the_detectable_difference_of_cohen(units: int, effect: float) -> None:
    """Cohen (1992, table 2): 394, 26 and 64 units a group detect small, large and medium effects with 80 % power at 5 %."""
    assert detectable_difference(1.0, units, units) == pytest.approx(effect, abs=0.01)


def test_the_detectable_difference_scales() -> None:
    """The difference is proportional to the spread, grows with contrasts and power, and falls with the number of seeds."""
    base = detectable_difference(0.02, 6, 6) or 0.0
    assert detectable_difference(0.04, 6, 6) == pytest.approx(2 * base)
    assert detectable_difference((0.02, 0.02), 6, 6) == pytest.approx(base)
    assert detectable_difference((0.02, 0.05), 6, 9) == pytest.approx(detectable_difference((0.05, 0.02), 9, 6))
    larger = [detectable_difference(0.02, 6, 6, contrasts=3), detectable_difference(0.02, 6, 6, power=0.9),
              detectable_difference(0.02, 5, 5), detectable_difference((0.02, 0.03), 6, 6)]
    assert all(difference is not None and difference > base for difference in larger)


@pytest.mark.parametrize("sizes, contrasts, possible", [((3, 3), 1, False), ((4, 4), 1, True), ((5, 5), 6, True),
                                                        ((5, 5), 7, False), ((1, 30), 1, False), ((0, 0), 1, False)])
def test_sizes_that_cannot_be_significant_detect_nothing(sizes: tuple[int, int], contrasts: int, possible: bool) -> None:
    """There is no detectable difference if the permutation test cannot reach alpha / contrasts, or without repetition."""
    assert (detectable_difference(0.02, *sizes, contrasts=contrasts) is not None) == possible


def test_a_spread_must_be_positive() -> None:
    """A spread of 0 is refused."""
    with pytest.raises(ValueError, match="above 0"):
        detectable_difference((0.02, 0.0), 5, 5)


def unbiased_variance(first: np.ndarray, second: np.ndarray) -> float:
    """Return D^2 minus the mean product of differences that share neither a seed nor an image, for arrays [seeds, images]."""
    def products(one: np.ndarray, other: np.ndarray, same_arm: bool) -> float:
        terms = [one[u, i] * other[v, j] for u, v in product(range(len(one)), range(len(other))) if not (same_arm and u == v)
                 for i, j in product(range(one.shape[1]), repeat=2) if i != j]
        return float(np.mean(terms))
    squared_mean = products(first, first, True) - 2 * products(first, second, False) + products(second, second, True)
    return float((first.mean() - second.mean()) ** 2 - squared_mean)


@pytest.mark.parametrize("seed", range(5))
def test_the_variance_of_the_bootstrap_is_unbiased(seed: int) -> None:
    """The variance equals the unbiased estimate that is built from products of independent values."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=6)
    first, second = (images * strength + rng.normal(size=(units, 1)) + 0.3 * rng.normal(size=(units, 6))
                     for units, strength in ((3, 2.0), (4, 0.0)))
    variance, freedom = variance_of_difference(first, second)
    assert variance == pytest.approx(unbiased_variance(first, second))
    assert 1 <= freedom <= 2 + 3 + 5


def test_the_bootstrap_of_equally_difficult_images_is_the_welch_interval() -> None:
    """If arms differ in seeds but not in images, the interval is about the Welch interval of the same level."""
    rng = np.random.default_rng(7)
    first, second = ([np.tile(rng.random(1000) < p, (2, 1)) for p in rng.normal(mean, 0.03, 8)] for mean in (0.6, 0.5))
    expected = welch_interval([unit.mean() for unit in first], [unit.mean() for unit in second])
    assert hierarchical_bootstrap(first, second, resamples=5000) == pytest.approx(expected, abs=0.008)


def test_the_bootstrap_of_varying_images_is_wider() -> None:
    """Images that are difficult for one arm only widen the bootstrap interval but not the Welch interval."""
    (first, second), _ = Truth(arm_images=1.5, search=0.02, retrain=0.02).study(np.random.default_rng(8))
    welch = welch_interval(first.mean(axis=(1, 2)).tolist(), second.mean(axis=(1, 2)).tolist())
    bootstrap = hierarchical_bootstrap(list(first), list(second))
    assert welch and bootstrap and bootstrap[1] - bootstrap[0] > 1.2 * (welch[1] - welch[0])


def test_the_bootstrap_is_reproducible_and_mirrored() -> None:
    """The same arguments give the same interval; swapped arms, reordered units and images give nearly the mirrored interval."""
    (first, second), _ = Truth().study(np.random.default_rng(9))
    low, high = hierarchical_bootstrap(list(first), list(second), resamples=8000) or (0.0, 0.0)
    assert hierarchical_bootstrap(list(first), list(second), resamples=8000) == (low, high)
    swapped = hierarchical_bootstrap(list(second[::-1, :, ::-1]), list(first[..., ::-1]), resamples=8000)
    assert swapped == pytest.approx((-high, -low), abs=0.05 * (high - low))
    narrower = hierarchical_bootstrap(list(first), list(second), level=0.8)
    assert narrower and low < narrower[0] < first.mean() - second.mean() < narrower[1] < high


def test_the_bootstrap_takes_unequal_numbers_of_retrain_seeds() -> None:
    """Search seeds count equally, whatever their number of retrain seeds; copies of a network change nothing but the draws."""
    (first, second), _ = Truth(retrain=0.0).study(np.random.default_rng(10))
    once = hierarchical_bootstrap([unit[:1] for unit in first], list(second), resamples=8000)
    copied = hierarchical_bootstrap([np.repeat(unit[:1], 1 + k, axis=0) for k, unit in enumerate(first)], list(second),
                                    resamples=8000)
    assert once and copied == pytest.approx(once, abs=0.05 * (once[1] - once[0]))


@pytest.mark.parametrize("first, second", [
    ([], []),
    ([np.ones((2, 9))], [np.ones((2, 9)), np.zeros((2, 9))]),
    ([np.ones((2, 9))] * 3, [np.zeros((1, 9))] * 3),
    ([np.ones((2, 1)), np.zeros((2, 1))], [np.ones((2, 1)), np.zeros((2, 1))]),
])
def test_no_bootstrap_without_repetition_or_spread(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    """Fewer than two search seeds or two images, or outcomes that do not vary, give no interval."""
    assert hierarchical_bootstrap(first, second) is None


def test_the_bootstrap_refuses_different_images() -> None:
    """Different numbers of images, or a search seed without a network, are an error."""
    with pytest.raises(ValueError, match="same images"):
        hierarchical_bootstrap([np.ones((1, 4))] * 2, [np.ones((1, 5))] * 2)
    with pytest.raises(ValueError, match="at least one network"):
        hierarchical_bootstrap([np.ones((0, 4)), np.ones((1, 4))], [np.ones((1, 4))] * 2)
