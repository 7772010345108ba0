"""The confidence sequence against enumeration and simulation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from engine.attack.sequential import ConfidenceSequence, log_capital
from engine.attack.verdict import Verdict


def population(images: int, difference: int, second_only: int) -> np.ndarray:
    """Return the differences of `images` images that sum to `difference`, with `second_only` of them -1."""
    values = np.zeros(images, dtype=np.int64)
    values[:second_only] = -1
    values[second_only:2 * second_only + difference] = 1
    return values


def shuffled(values: np.ndarray, orders: int) -> np.ndarray:
    return np.random.default_rng(0).permuted(np.tile(values, (orders, 1)), axis=1)


@pytest.mark.parametrize("values", [(1, 1, 0, 0, -1, 0), (1, 1, 1, 1, 0, 0), (-1, -1, 0, 1, 1, 0), (-1, -1, -1, 0, 0, 1)])
def test_the_bets_are_fair_at_the_truth_and_unfavourable_above_it(values: tuple[int, ...]) -> None:
    """Over all orders, the mean capital is 1 after every image if the sum is the true one, and at most 1 against larger sums."""
    orders = np.array(list(permutations(values)))
    assert np.exp(log_capital(orders, sum(values), 6)).mean(0) == pytest.approx(np.ones(6))
    for larger in range(sum(values) + 1, 7):
        assert (np.exp(log_capital(orders, larger, 6)).mean(0) <= 1 + 1e-12).all()


def test_the_capital_falls_as_the_mean_rises() -> None:
    """Against a larger sum the bets win less, so the sums that are ruled out are all those below a bound."""
    seen = shuffled(population(60, 6, 9), 20)[:, :40]
    possible = range(int(seen.sum(1).max()) - 20, int(seen.sum(1).min()) + 21)
    capital = np.stack([log_capital(seen, total, 60) for total in possible])
    assert (np.diff(capital, axis=0) <= 1e-12).all()


@pytest.mark.parametrize("images, difference, second_only", [(200, 0, 10), (200, 0, 60), (200, 4, 6), (200, 20, 20), (200, 40, 0),
                                                             (200, -6, 10), (1000, 0, 50), (1000, 100, 50)])
def test_the_true_difference_is_rarely_ever_ruled_out(images: int, difference: int, second_only: int) -> None:
    """The probability of a miss at any time of the sequence is at most alpha = 0.1 (2,000 orders of 200 images, 500 of 1,000)."""
    orders = shuffled(population(images, difference, second_only), 2000 if images == 200 else 500)
    largest = np.maximum(log_capital(orders, difference, images), log_capital(-orders, -difference, images)).max(1)
    assert (largest >= np.log(2 / 0.1)).mean() <= 0.1


def test_the_interval_is_what_the_bets_leave() -> None:
    """The bisection returns the hull of all possible sums that no bet has ruled out, by trying each of them at every moment."""
    images, rich = 40, np.log(2 / 0.05)
    for order in shuffled(population(images, 14, 2), 5):
        sequence = ConfidenceSequence(images)
        for seen in range(1, images + 1):
            sequence.observe([order[seen - 1]])
            so_far = order[:seen]
            possible = range(so_far.sum() - (images - seen), so_far.sum() + (images - seen) + 1)
            standing = [total for total in possible if log_capital(so_far, total, images).max() < rich
                        and log_capital(-so_far, -total, images).max() < rich]
            low, high = sequence.interval
            assert (round(low * images), round(high * images)) == (standing[0], standing[-1])
            decided = Verdict.FIRST if low > 0 else Verdict.SECOND if high < 0 else Verdict.OPEN if low < high else Verdict.EQUAL
            assert sequence.verdict is decided


def test_intervals_shrink_to_the_difference_itself() -> None:
    """Bounds only ever tighten, start at -1..1, and end at the difference."""
    order = shuffled(population(120, 12, 9), 1)[0]
    sequence, before = ConfidenceSequence(120), (-1.0, 1.0)
    assert sequence.interval == before
    for start in range(0, 120, 10):
        sequence.observe(order[start:start + 10])
        low, high = sequence.interval
        assert before[0] <= low <= high <= before[1]
        before = low, high
    assert before == (0.1, 0.1) and sequence.verdict is Verdict.FIRST and sequence.seen == 120


def test_a_clear_difference_is_decided_early_and_mirrored() -> None:
    """20 points on 1,000 images take fewer than 200; exchanging the networks exchanges the verdict."""
    order = shuffled(population(1000, 200, 30), 1)[0][:200]
    for sign, verdict in ((1, Verdict.FIRST), (-1, Verdict.SECOND)):
        sequence = ConfidenceSequence(1000)
        sequence.observe(sign * order)
        assert sequence.verdict is verdict


def test_equal_networks_stay_open_until_no_image_can_decide() -> None:
    """Without any discordant image the verdict is open to the last one, and then equal."""
    sequence = ConfidenceSequence(30)
    sequence.observe([0] * 29)
    assert sequence.verdict is Verdict.OPEN
    sequence.observe([0])
    assert sequence.verdict is Verdict.EQUAL


def test_a_lead_that_the_images_left_cannot_turn_is_certain() -> None:
    """Two ahead with one image to go decides, however small alpha is."""
    sequence = ConfidenceSequence(4, alpha=1e-9)
    sequence.observe([1, 0, 1])
    assert sequence.verdict is Verdict.FIRST


@pytest.mark.parametrize("points, at_most", [(2, 1800), (5, 450), (10, 180), (20, 70)])
def test_the_saving(points: int, at_most: int) -> None:
    """A fraction of 10,000 images is needed on average (100 orders, 3 % of the images -1)."""
    orders = shuffled(population(10_000, points * 100, 300), 100)
    decided = np.stack([log_capital(order, 0, 10_000) for order in orders]) >= np.log(2 / 0.05)
    assert decided.any(1).all() and (decided.argmax(1) + 1).mean() < at_most


def test_wrong_input_is_refused() -> None:
    sequence = ConfidenceSequence(2)
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        sequence.observe([2])
    with pytest.raises(ValueError, match="at most 2 more"):
        sequence.observe([0, 0, 0])
    with pytest.raises(ValueError, match="at least one image"):
        ConfidenceSequence(0)
    with pytest.raises(ValueError, match="alpha between"):
        ConfidenceSequence(5, alpha=1.0)
