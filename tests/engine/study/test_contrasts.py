"""Claims of contrasts: verdicts follow tests and intervals, and sentences claim no more than the verdicts."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from engine.attack.statistics import holm
from engine.study.bootstrap import hierarchical_bootstrap
from engine.study.contrasts import Contrast, Measured, compare, sentence
from engine.study.statistics import equivalence_p, permutation_test, welch_interval

LOW = (0.400, 0.404, 0.398, 0.402, 0.401)
HIGH = (0.440, 0.443, 0.437, 0.442, 0.438)


def arm(values: tuple[float, ...], macs: float | None = None) -> Measured:
    """Return an arm with one retrain seed for each search seed."""
    return Measured(tuple((value,) for value in values), macs=macs)


def one(first: Measured, second: Measured, margin: float | None = None) -> Contrast:
    """Return the contrast of two arms named A and B."""
    return compare({"A": first, "B": second}, [("A", "B")], margin)[0]


def test_the_numbers_are_those_of_the_functions() -> None:
    """A result holds the p-values, intervals and Holm's adjustments of the unit means, over all declared contrasts."""
    rng = np.random.default_rng(1)
    arms = {name: Measured(tuple(map(tuple, rng.normal(mean, 0.02, (6, 2)).tolist()))) for name, mean in
            (("A", 0.5), ("B", 0.52), ("C", 0.58))}
    means = {name: [float(np.mean(unit)) for unit in measured.values] for name, measured in arms.items()}
    pairs = [("A", "B"), ("C", "A"), ("C", "B")]
    results = compare(arms, pairs, margin=0.03)
    assert [(result.first, result.second) for result in results] == pairs
    p_values = [permutation_test(means[a], means[b])[0] for a, b in pairs]
    assert [result.p for result in results] == p_values
    assert [result.adjusted_p for result in results] == holm(p_values)
    assert [result.interval for result in results] == [welch_interval(means[a], means[b]) for a, b in pairs]
    equal = [equivalence_p(means[a], means[b], 0.03) or 0.0 for a, b in pairs]
    assert [result.equivalence_p for result in results] == holm(equal)
    assert all(result.units == (6, 6) and result.exact and result.bootstrap is None for result in results)


def test_images_give_the_bootstrap_interval() -> None:
    """An arm of images has its share of correct images as endpoint, and its contrasts have a bootstrap interval."""
    rng = np.random.default_rng(2)
    first, second = (rng.random((5, 2, 100)) < p for p in (0.7, 0.5))
    result = one(Measured.of_images(first.tolist()), Measured.of_images(second.tolist()))
    assert result.difference == pytest.approx(first.mean() - second.mean())
    assert result.bootstrap == hierarchical_bootstrap(list(first), list(second))


def test_swapped_arms_have_the_mirrored_result() -> None:
    """The verdicts of swapped arms are opposite, and their sentence is the same but for the order of the MACs."""
    better, worse = one(arm(HIGH), arm(LOW)), one(arm(LOW), arm(HIGH))
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.p == worse.p == pytest.approx(2 / 252)
    swapped = sentence(worse, "accuracy").replace("A", "*").replace("B", "A").replace("*", "B")
    assert sentence(better, "accuracy") == swapped


def test_the_sentence_of_a_better_arm() -> None:
    """A significant difference names winner, points, interval, endpoint and adjusted p-value."""
    assert sentence(one(arm(HIGH), arm(LOW)), "worst-case accuracy") == (
        "A beat B by 3.9 points (95 %: 3.5 to 4.3) in worst-case accuracy, Holm-adjusted p = 0.0079.")


def test_a_difference_below_the_margin_says_so() -> None:
    """A significant difference that was declared not to matter is still a difference, and the sentence says that it is small."""
    words = sentence(one(arm(HIGH), arm(LOW), margin=0.05), "accuracy")
    assert words.startswith("A beat B by 3.9 points") and "smaller than the 5.0 points that were declared to matter" in words


def test_the_sentence_of_equal_arms() -> None:
    """Arms whose interval lies within the margin are equal within it."""
    result = one(arm(LOW), arm(LOW[::-1]), margin=0.01)
    assert result.verdict == "equal"
    assert sentence(result, "accuracy").startswith(
        "A and B are equal in accuracy within the 1.0 points that were declared to matter (95 %: −0.3 to 0.3), Holm-adjusted")
    assert one(arm(LOW), arm(LOW[::-1])).verdict == "undecided"


def test_the_sentence_of_undecided_arms() -> None:
    """Arms without a significant difference cannot be told apart, and the sentence gives the differences that remain possible."""
    result = one(arm((0.40, 0.45, 0.42, 0.47, 0.41)), arm((0.43, 0.39, 0.44, 0.40, 0.42)))
    low, high = result.interval or (0.0, 0.0)
    assert result.verdict == "undecided"
    assert sentence(result, "accuracy").startswith(
        f"A and B cannot be told apart in accuracy: differences from −{-100 * low:.1f} to {100 * high:.1f} points remain "
        f"possible (95 %), Holm-adjusted p = ")


def test_a_claim_needs_test_and_interval() -> None:
    """If the permutation test is significant but the interval contains 0, nothing is claimed."""
    result = one(arm((0.41, 0.41, 0.41, 0.41, 0.60)), arm((0.400, 0.401, 0.402, 0.403, 0.404)))
    assert result.adjusted_p <= 0.05 and result.interval and result.interval[0] < 0 < result.interval[1]
    assert result.verdict == "undecided"


def test_zero_remains_possible_unless_a_test_rejects_it() -> None:
    """If the interval excludes 0 but Holm's adjustment does not reject, the possible differences are extended to 0."""
    names, rng = "ABCDEFGH", np.random.default_rng(3)
    arms = {name: arm(tuple(rng.normal(0.4, 0.002, 5).tolist())) for name in names} | {"A": arm(HIGH)}
    result = compare(arms, [("A", "B"), *pairwise(names[1:])])[0]
    assert result.interval and result.interval[0] > 0 and result.verdict == "undecided"
    words = sentence(result, "accuracy")
    assert "differences from 0.0 to" in words
    assert "so few search seeds and so many contrasts, no difference could have become significant" in words
    assert result.reachable_p == pytest.approx(7 * 2 / 252)


@pytest.mark.parametrize("sizes", [(4, 5), (5, 4), (2, 2), (1, 9)])
def test_few_seeds_demonstrate(sizes: tuple[int, int]) -> None:
    """With fewer than five search seeds in an arm, the sentence gives numbers and claims nothing."""
    result = one(arm(tuple(0.5 + 0.001 * k for k in range(sizes[0]))), arm(tuple(0.1 + 0.001 * k for k in range(sizes[1]))))
    words = sentence(result, "accuracy")
    assert result.verdict == "demonstration" and words.startswith("Demonstration, no claim: A minus B is ")
    assert f"{sizes[0]} and {sizes[1]} search seeds" in words and "beat" not in words


def test_an_arm_without_results_counts_in_the_adjustment() -> None:
    """A declared contrast without results has p = 1 and still weakens the other contrasts."""
    arms = {"A": arm(HIGH), "B": arm(LOW), "C": Measured(())}
    first, missing = compare(arms, [("A", "B"), ("A", "C")])
    assert first.adjusted_p == pytest.approx(4 / 252) and first.verdict == "better"
    assert (missing.p, missing.difference, missing.verdict) == (1.0, None, "demonstration")
    assert sentence(missing, "accuracy") == "A and C cannot be compared in accuracy yet: an arm has no result."


def test_units_without_spread_have_no_interval() -> None:
    """If all seeds give the same values, the permutation test decides alone, and equal arms stay undecided."""
    different, same = one(arm((0.5,) * 5), arm((0.4,) * 5), 0.01), one(arm((0.0,) * 5), arm((0.0,) * 5), 0.01)
    words = "A beat B by 10.0 points (no interval, because the search seeds do not vary) in accuracy"
    assert sentence(different, "accuracy").startswith(words)
    assert same.verdict == "undecided" and "the range of possible differences is unknown" in sentence(same, "accuracy")


@pytest.mark.parametrize("first, second, words", [(HIGH, LOW, "; the MACs of A are 1.34 times those of B."),
                                                  (LOW, HIGH, "; the MACs of B are 0.75 times those of A.")])
def test_unequal_macs_stand_in_the_sentence(first: tuple[float, ...], second: tuple[float, ...], words: str) -> None:
    """A ratio of MACs beyond 2 % ends the sentence, from the view of the arm that the sentence starts with."""
    assert sentence(one(arm(first, 1.34e6), arm(second, 1.0e6)), "accuracy").endswith(words)
    assert "MACs" not in sentence(one(arm(first, 1.019e6), arm(second, 1.0e6)), "accuracy")
    assert "MACs" not in sentence(one(arm(first, 1.34e6), arm(second)), "accuracy")


def test_no_sentence_says_no_difference() -> None:
    """No verdict is worded as "no difference", and every sentence names endpoint and ends with a full stop."""
    rng = np.random.default_rng(4)
    for spread in (0.0, 0.001, 0.02):
        for shift in (0.0, 0.005, 0.05):
            result = one(arm(tuple(rng.normal(0.5 + shift, spread, 5).tolist())),
                         arm(tuple(rng.normal(0.5, spread, 5).tolist())), 0.01)
            words = sentence(result, "accuracy under PGD-20")
            assert "accuracy under PGD-20" in words and words.endswith(".") and not re.search(r"−0\.0 |(?<!PGD)-\d", words)
            assert "no difference " not in words.replace("no difference could have become significant", "")


def test_unknown_arms_are_refused() -> None:
    """A contrast that names an unknown arm is an error."""
    with pytest.raises(ValueError, match="got Z"):
        compare({"A": arm(LOW)}, [("A", "Z")])
