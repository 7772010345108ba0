"""What outcomes per image say, against counts by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from engine.attack.statistics import wilson
from engine.report.outcomes import (
    BROKEN,
    WITHSTANDS,
    WRONG,
    attacks_of,
    by_class,
    confusion,
    falls,
    has_predictions,
    of_attack,
    stage_of,
)

# Image -> (label, natural prediction, prediction under a, and under the cascade b with its parts b/x and b/y).
IMAGES = {10: (0, 0, 0, 0, 0, 0), 11: (0, 0, 1, 0, 0, 0), 12: (1, 1, 1, 2, 1, 2), 13: (1, 1, 0, 2, 2, 2), 14: (2, 0, 0, 0, 0, 0)}
NAMES = ("natural", "a", "b", "b/x", "b/y")


@pytest.fixture
def outcomes() -> pd.DataFrame:
    rows = [{"image": image, "label": label, "attack": name, "correct": label == prediction, "prediction": prediction,
             "margin": 1.0 if label == prediction else -1.0 - (name == "b"), "linf": 0.1, "l2": 0.2, "iterations": 5}
            for name, place in zip(NAMES, range(5)) for image, (label, *predictions) in IMAGES.items()
            for prediction in (predictions[place],)]
    return pd.DataFrame(rows)


def test_attacks_leave_out_natural_images_and_parts(outcomes: pd.DataFrame) -> None:
    assert attacks_of(outcomes) == ["a", "b"] and has_predictions(outcomes)
    assert not has_predictions(outcomes[["image", "label", "attack", "correct"]])


def test_each_image_withstands_falls_or_was_wrong_before(outcomes: pd.DataFrame) -> None:
    table = of_attack(outcomes, "a")
    assert dict(table["outcome"]) == {10: WITHSTANDS, 11: BROKEN, 12: WITHSTANDS, 13: BROKEN, 14: WRONG}
    assert dict(table["only"]) == {10: False, 11: True, 12: False, 13: False, 14: False}


def test_the_worst_case_takes_the_attack_with_the_smallest_margin(outcomes: pd.DataFrame) -> None:
    table = of_attack(outcomes, "worst-case")
    assert dict(table["outcome"]) == {10: WITHSTANDS, 11: BROKEN, 12: BROKEN, 13: BROKEN, 14: WRONG}
    assert (table["by"][11], table["by"][13], table["prediction"][13]) == ("a", "b", 2)


def test_iterations_of_a_cascade_are_those_of_all_its_parts(outcomes: pd.DataFrame) -> None:
    assert set(of_attack(outcomes, "a")["iterations"]) == {5} and set(of_attack(outcomes, "b")["iterations"]) == {10}


def test_a_protocol_without_a_cascade_has_no_parts(outcomes: pd.DataFrame) -> None:
    alone = outcomes[outcomes["attack"].isin(["natural", "a"])]
    assert of_attack(alone, "worst-case")["iterations"].tolist() == [5] * 5 and confusion(alone).sum() == 5


def test_an_adversarial_image_outside_the_ball_counts_as_correct(outcomes: pd.DataFrame) -> None:
    """A search for the nearest adversarial image ends with a wrong prediction, beyond the radius."""
    outcomes.loc[(outcomes["attack"] == "a") & (outcomes["image"] == 11), "correct"] = True
    assert of_attack(outcomes, "a")["prediction"][11] == 0


def test_confusion_counts_every_covered_image_once(outcomes: pd.DataFrame) -> None:
    assert confusion(outcomes, "natural").tolist() == [[2, 0, 0], [0, 2, 0], [1, 0, 0]]
    assert confusion(outcomes).tolist() == [[1, 1, 0], [0, 0, 2], [1, 0, 0]]


def test_images_fall_to_combinations_of_attacks(outcomes: pd.DataFrame) -> None:
    """The combinations partition the images that are right without an attack and covered by all attacks."""
    combinations = dict(falls(outcomes))
    assert combinations == {frozenset(): 1, frozenset("a"): 1, frozenset("b"): 1, frozenset("ab"): 1}
    fewer = outcomes[~((outcomes["attack"] == "b") & (outcomes["image"] == 10))]
    assert sum(dict(falls(fewer)).values()) == 3


def test_classes_have_natural_and_worst_case_accuracy_with_intervals(outcomes: pd.DataFrame) -> None:
    first, _, third = by_class(outcomes)
    assert (first.natural.correct, first.natural.images) == (2, 2)
    assert first.worst is not None and (first.worst.correct, first.worst.images) == (1, 2)
    assert (first.worst.low, first.worst.high) == wilson(1, 2)
    assert third.natural.accuracy == 0
    without = outcomes[~((outcomes["attack"] == "b") & (outcomes["label"] == 2))]
    assert by_class(without)[2].worst is None


def test_the_adversarial_image_of_a_cascade_is_that_of_the_part_that_broke_it(outcomes: pd.DataFrame) -> None:
    assert [stage_of(outcomes, "b", image) for image in IMAGES] == ["b/y", "b/y", "b/y", "b/x", "b/x"]
    assert {stage_of(outcomes, "a", image) for image in IMAGES} == {"a"}


def test_counts_agree_with_brute_force() -> None:
    """`falls` against a loop over images, on random outcomes of four attacks."""
    generator = np.random.default_rng(0)
    correct = {name: generator.random(200) < 0.7 for name in ("natural", *"abcd")}
    frame = pd.concat([pd.DataFrame({"image": range(200), "label": 0, "attack": name, "correct": flags & correct["natural"]})
                       for name, flags in correct.items()])
    expected: dict[frozenset[str], int] = {}
    for image in np.flatnonzero(correct["natural"]):
        key = frozenset(name for name in "abcd" if not correct[name][image])
        expected[key] = expected.get(key, 0) + 1
    combinations = falls(frame)
    assert dict(combinations) == expected
    assert [number for _, number in combinations] == sorted(expected.values(), reverse=True)


def test_confidence_is_that_of_the_prediction_and_missing_in_older_runs(outcomes: pd.DataFrame) -> None:
    """An image that withstands although its nearest adversarial image is wrong has no confidence in its label."""
    assert of_attack(outcomes, "a")[["confidence", "natural_confidence"]].isna().all().all()
    outcomes["confidence"] = np.where(outcomes["attack"] == "natural", 0.9, 0.6)
    beyond = (outcomes["attack"] == "a") & (outcomes["image"] == 11)
    outcomes.loc[beyond, "correct"] = True  # farther away than the radius
    table = of_attack(outcomes, "a")
    assert table["confidence"].dropna().to_dict() == {10: 0.6, 12: 0.6, 13: 0.6, 14: 0.6}
    assert set(table["natural_confidence"]) == {0.9} and table["prediction"][11] == 0
