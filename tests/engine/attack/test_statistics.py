"""Intervals and paired tests against scipy, the literature, brute force and simulation."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from engine.attack.statistics import (
    Comparison,
    PairedCounts,
    accuracy_words,
    by_accuracy,
    distinct_pairs,
    holm,
    letters,
    mcnemar,
    paired_interval,
    tell_apart,
    wilson,
)


@pytest.mark.parametrize("correct, images", [(0, 10), (10, 10), (1, 3), (37, 64), (180, 359), (9999, 10000), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_interval_is_that_of_scipy(correct: int, images: int, level: float) -> None:
    """The interval equals scipy's Wilson interval."""
    expected = binomtest(correct, images).proportion_ci(confidence_level=level, method="wilson")
    assert wilson(correct, images, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "images", "words"), [
    (349, 359, "97.2 % (94.9 to 98.5), 359 images"), (0, 1, "0.0 % (0.0 to 79.3), 1 image"),
    (6490, 10_000, "64.9 % (64.0 to 65.8), 10,000 images")])
def test_an_accuracy_in_words_has_its_interval_and_images(correct: int, images: int, words: str) -> None:
    assert accuracy_words(correct, images) == words


def test_no_images_say_nothing() -> None:
    """Without images the interval is 0..1."""
    assert wilson(0, 0) == (0.0, 1.0)


def test_more_correct_than_images_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="0..5, got 6"):
        wilson(6, 5)


@pytest.mark.parametrize("first_only, second_only", [(0, 0), (1, 0), (0, 5), (3, 3), (4, 3), (1, 7), (12, 31), (480, 520)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(first_only: int, second_only: int) -> None:
    """The p-value equals scipy's exact binomial test with probability 1/2."""
    pairs = first_only + second_only
    expected = binomtest(first_only, pairs, 0.5).pvalue if pairs else 1.0
    assert mcnemar(first_only, second_only) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_enumerates_all_outcomes() -> None:
    """The p-value is the share of the 2^n outcomes of n fair coins that are at least as lopsided."""
    for pairs in range(1, 9):
        excess = [abs(2 * sum(coins) - pairs) for coins in product((0, 1), repeat=pairs)]
        for first in range(pairs + 1):
            assert mcnemar(first, pairs - first) == sum(one >= abs(2 * first - pairs) for one in excess) / 2**pairs


def test_mcnemar_of_many_images_does_not_overflow() -> None:
    """At 10,000 discordant pairs the integers are exact and the p-value is still scipy's."""
    assert mcnemar(5100, 4900) == pytest.approx(binomtest(5100, 10000, 0.5).pvalue, rel=1e-9)
    assert 0 <= mcnemar(0, 10000) < 1e-300


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="not be negative, got -1 and 2"):
        mcnemar(-1, 2)


@pytest.mark.parametrize("counts, low, high", [
    (PairedCounts(1, 1, 7, 12), -0.5069, -0.0256),  # Bentur et al. 2009
    (PairedCounts(59, 6, 16, 80), -0.1186, -0.0046),  # Cavo et al. 2012
])
def test_the_paired_interval_is_that_of_the_literature(counts: PairedCounts, low: float, high: float) -> None:
    """Newcombe's method 10 gives the values of Fagerland, Lydersen and Laake's R package contingencytables."""
    assert paired_interval(counts) == pytest.approx((low, high), abs=5e-5)


def test_the_paired_interval_is_antisymmetric_and_holds_the_difference() -> None:
    """Exchanging the networks mirrors the interval; it always contains the estimate and stays in -1..1."""
    for cells in product((0, 1, 4, 30), repeat=4):
        counts = PairedCounts(*cells)
        low, high = paired_interval(counts)
        mirrored = paired_interval(PairedCounts(counts.both, counts.second_only, counts.first_only, counts.neither))
        assert mirrored == pytest.approx((-high, -low), abs=1e-12)
        assert -1 <= low <= counts.difference <= high <= 1


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.1, 0.3), (0.6, 0.12, 0.04, 0.24), (0.93, 0.03, 0.01, 0.03)])
def test_the_paired_interval_covers_the_true_difference(shares: tuple[float, ...]) -> None:
    """95 % intervals of 359 images cover the difference with a probability of 0.93 to 0.98."""
    drawn = multinomial(359, shares, seed=0).rvs(4000)
    tables, times = np.unique(drawn, axis=0, return_counts=True)
    covered = 0
    for table, count in zip(tables.tolist(), times.tolist(), strict=True):
        low, high = paired_interval(PairedCounts(*table))
        covered += count * (low <= shares[1] - shares[2] <= high)
    assert 0.93 < covered / 4000 < 0.98


def rejected_by_holm(p_values: list[float], alpha: float) -> set[int]:
    """Return the rejected hypotheses by the definition: from the smallest on, until one exceeds alpha over those left."""
    rejected: set[int] = set()
    while len(rejected) < len(p_values):
        left = [position for position in range(len(p_values)) if position not in rejected]
        smallest = min(left, key=lambda position: p_values[position])
        if p_values[smallest] * len(left) > alpha:
            break
        rejected.add(smallest)
    return rejected


def test_holm_rejects_as_the_definition_says() -> None:
    """Adjusted values at or below alpha are exactly the step-down rejections, at every alpha and with ties."""
    rng = random.Random(0)
    for _ in range(300):
        p_values = [rng.choice((0.0, 0.001, 0.01, 0.04, rng.random() / 10, rng.random(), 1.0)) for _ in range(rng.randint(1, 9))]
        adjusted = holm(p_values)
        assert all(p <= value <= 1 for p, value in zip(p_values, adjusted, strict=True))
        for alpha in (0.0, 0.005, 0.05, 0.3, 0.999):
            assert {i for i, value in enumerate(adjusted) if value <= alpha} == rejected_by_holm(p_values, alpha)


def test_holm_by_hand() -> None:
    """Four p-values, adjusted by hand: the third may not be below the second."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_networks_share_a_letter_if_and_only_if_they_cannot_be_told_apart() -> None:
    """The display reproduces any pattern of rejections, also non-transitive ones, with no letter that another one includes."""
    rng = random.Random(0)
    for _ in range(400):
        names = [f"n{i}" for i in range(rng.randint(1, 8))]
        share = rng.random()
        distinct = {pair for pair in combinations(names, 2) if rng.random() < share}
        display = letters(names, rng.sample(sorted(distinct), len(distinct)))
        assert all(bool(set(display[a]) & set(display[b])) != ((a, b) in distinct) for a, b in combinations(names, 2))
        groups = [{name for name in names if letter in display[name]} for letter in set("".join(display.values()))]
        assert all(display.values()) and not any(one < other for one in groups for other in groups)
        assert display[names[0]].startswith("a")


def test_letters_by_hand() -> None:
    """A chain in which only the ends differ shares two letters; without rejections there is one."""
    assert letters(["A", "B", "C"], [("A", "C")]) == {"A": "a", "B": "ab", "C": "b"}
    assert letters(["A", "B"], []) == {"A": "a", "B": "a"}
    assert letters([], []) == {}


def outcomes_of_three() -> dict[str, list[bool]]:
    """Return 100 images: B is right on 30, A on 70 including them, C on 65 of those of A and on 3 others."""
    return {"B": [i < 30 for i in range(100)], "A": [i < 70 for i in range(100)],
            "C": [i < 65 or 70 <= i < 73 for i in range(100)]}


def test_a_table_is_compared_pair_by_pair() -> None:
    """Pairs follow the order of accuracy, and counts, differences and p-values are those of the images."""
    assert by_accuracy(outcomes_of_three()) == ["A", "C", "B"]
    a_c, a_b, c_b = tell_apart(outcomes_of_three())
    assert (a_c.first, a_c.second, a_b.first, a_b.second, c_b.first, c_b.second) == ("A", "C", "A", "B", "C", "B")
    assert a_c.counts == PairedCounts(65, 5, 3, 27) and a_c.counts.difference == pytest.approx(0.02)
    assert [one.p for one in (a_c, a_b, c_b)] == [mcnemar(5, 3), mcnemar(40, 0), mcnemar(38, 0)]
    assert [one.adjusted_p for one in (a_c, a_b, c_b)] == holm([a_c.p, a_b.p, c_b.p])
    assert (a_b.low, a_b.high) == paired_interval(a_b.counts)
    apart = [(one.first, one.second) for one in (a_c, a_b, c_b) if one.distinct()]
    assert letters(["A", "C", "B"], apart) == {"A": "a", "C": "a", "B": "b"}


def test_pairs_that_can_be_told_apart_are_those_of_the_comparisons() -> None:
    """The fast way gives the same pairs in the same order, at any level."""
    rng = random.Random(3)
    outcomes = {f"N{number}": [rng.random() < 0.3 + 0.05 * number for _ in range(120)] for number in range(9)}
    for alpha in (0.001, 0.05, 0.5):
        expected = [(one.first, one.second) for one in tell_apart(outcomes) if one.distinct(alpha)]
        assert distinct_pairs(outcomes, alpha) == expected and expected
    with pytest.raises(ValueError, match="same images"):
        distinct_pairs({"A": [True], "B": [True, False]})


def test_a_comparison_in_words() -> None:
    """The sentence says which network is better, by how much and how surely, or that the images cannot decide."""
    better = Comparison("ARNAS", "PC-DARTS", PairedCounts(200, 30, 15, 114), 0.011, 0.073, 0.004, 0.012)
    assert better.sentence() == "ARNAS is more accurate than PC-DARTS by 4.2 points (1.1 to 7.3), Holm-adjusted p = 0.012"
    assert better.sentence(alpha=0.01) == ("ARNAS and PC-DARTS cannot be told apart on these 359 images: "
                                           "difference 4.2 points (1.1 to 7.3), Holm-adjusted p = 0.012")
    sure = Comparison("A", "B", PairedCounts(0, 1, 0, 0), 0.2, 0.9, 1e-9, 1e-8)
    assert sure.sentence().endswith("Holm-adjusted p < 0.001")
    same = Comparison("A", "B", PairedCounts(2, 0, 0, 0), -0.8, 0.8, 1.0, 1.0)
    assert same.sentence().endswith("difference 0.0 points (−80.0 to 80.0), Holm-adjusted p = 1.00")


def test_networks_on_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        tell_apart({"A": [True], "B": [True, False]})


def test_pages_may_import_it() -> None:
    """The module loads neither torch nor scipy nor numpy."""
    code = "import sys, engine.attack.statistics; sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
