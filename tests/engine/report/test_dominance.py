"""Fronts of measured values, and "dominates" only where the paired test allows it."""

from __future__ import annotations

import numpy as np

from engine.attack.statistics import mcnemar
from engine.report.dominance import Candidate, Outcomes, Standing, p_better, standings, verdicts
from engine.report.pareto import Measure, on_front

NATURAL = Measure("natural", "Natural accuracy", "%", True, 200)
WORST = Measure("worst-case", "Worst case accuracy", "%", True, 200)
MACS = Measure("macs", "MACs per image", "", False)
IMAGES = 200


def network(name: str, natural: int, worst: int, macs: float = 1e6, images: str = "same") -> Candidate:
    """A network that classifies the first images correctly, so of two networks only the better one has images of its own."""
    right = {"natural": natural, "worst-case": worst}
    return Candidate(name, name, {**{key: count / IMAGES for key, count in right.items()}, "macs": macs},
                     {key: Outcomes(images, IMAGES, (1 << count) - 1) for key, count in right.items()})


def test_the_front_is_that_of_the_definition_in_three_measures() -> None:
    values = np.random.default_rng(0).integers(0, 5, (60, 3)).astype(float)
    larger = np.array([True, True, False])
    signed = values * np.where(larger, 1, -1)
    expected = [not any((other >= one).all() and (other > one).any() for other in signed) for one in signed]
    assert on_front(values.tolist(), larger.tolist()) == expected and 0 < sum(expected) < 60
    assert on_front([], [True]) == []


def test_the_p_value_is_that_of_the_paired_test_in_one_direction() -> None:
    good, bad = network("good", 180, 100), network("bad", 180, 90)
    assert p_better(good, bad, WORST) == mcnemar(10, 0) and p_better(bad, good, WORST) == 1.0
    assert p_better(good, bad, NATURAL) == 1.0  # equal
    assert p_better(good, network("small", 180, 90, macs=5e5), MACS) == 1.0 and p_better(
        network("small", 180, 90, macs=5e5), good, MACS) == 0.0


def test_outcomes_of_other_images_prove_nothing() -> None:
    assert p_better(network("good", 180, 100), network("bad", 180, 60, images="other"), WORST) == 1.0
    without = Candidate("none", "none", {"worst-case": 0.1, "natural": 0.1}, {})
    assert p_better(network("good", 180, 100), without, WORST) == 1.0


def test_a_network_is_dominated_only_if_every_measure_is_told_apart() -> None:
    """The last network is lower on both axes, but its natural accuracy is not told apart."""
    networks = [network("best", 190, 120), network("worse", 150, 60), network("close", 189, 60)]
    front = on_front([[one.values["natural"], one.values["worst-case"]] for one in networks], [True, True])
    assert standings(networks, front, [NATURAL, WORST]) == [Standing.FRONT, Standing.DOMINATED, Standing.OPEN]


def test_the_p_values_are_adjusted_for_the_number_of_networks() -> None:
    """Six images of difference are significant for one network (p = 0.031), and not for each of twenty."""
    best, lower = network("best", 190, 120), [network(f"lower {k}", 184, 114) for k in range(20)]
    measures, front = [NATURAL, WORST], [True] + [False] * 20
    assert standings([best, lower[0]], front[:2], measures)[1] is Standing.DOMINATED
    assert set(standings([best, *lower], front, measures)[1:]) == {Standing.OPEN}


def test_verdicts_in_words() -> None:
    measures = [NATURAL, WORST]
    (one,) = verdicts([network("B", 120, 50), network("A", 180, 100)], measures)
    assert one.dominates and one.sentence() == "A dominates B: it is better in natural accuracy and worst case accuracy"
    (one,) = verdicts([network("A", 180, 100), network("B", 179, 50)], measures)
    assert not one.dominates
    assert one.sentence() == ("A is better than B in worst case accuracy, and not told apart in natural accuracy: neither "
                              "dominates")
    (one,) = verdicts([network("A", 180, 50), network("B", 120, 100)], measures)
    assert one.sentence() == "A is better in natural accuracy, B in worst case accuracy: neither dominates"
    (one,) = verdicts([network("A", 180, 100), network("B", 179, 99)], measures)
    assert one.sentence() == "A and B are not told apart in natural accuracy and worst case accuracy"
    (one,) = verdicts([network("A", 180, 100), network("B", 179, 50, macs=1e5)], [WORST, MACS])
    assert one.sentence() == "A is better in worst case accuracy, B in MACs per image: neither dominates"
