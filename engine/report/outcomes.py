"""Summaries of one network under attack: accuracy per class, confusion matrix, and images broken by each set of attacks.

They are computed from the table of `RunLog.outcomes`, which has one row per image and attack. This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.attack.catalogue import NATURAL, WORST
from engine.attack.statistics import wilson
from engine.report.robustness import Measurement

WITHSTANDS, BROKEN, WRONG = "withstands", "broken", "wrong"  # "wrong": misclassified without an attack already
# Columns that outcomes of the oldest runs lack. The column confidence came later still.
DETAIL = ["prediction", "margin", "linf", "l2", "iterations"]


def attacks_of(outcomes: pd.DataFrame) -> list[str]:
    """Return the names of the attacks in the order of the outcomes. The parts of suites such as AutoAttack are left out."""
    names = outcomes["attack"].drop_duplicates()
    return [name for name in names if name != NATURAL and "/" not in name]


def has_predictions(outcomes: pd.DataFrame) -> bool:
    """Return True if a table of outcomes contains the predictions and distances of adversarial images.

    Runs of older versions recorded neither predictions nor distances.
    """
    return set(DETAIL) <= set(outcomes.columns)


def of_attack(outcomes: pd.DataFrame, attack: str) -> pd.DataFrame:
    """Return the outcome of an attack on each image, as a table indexed by image number, in the order of the dataset.

    Columns:
        label: label of the image.
        natural_prediction: prediction without an attack.
        natural_confidence: softmax probability of that prediction. NaN if an older run did not record it.
        prediction: prediction under the attack. For an image that withstands the attack, it is always the label.
        confidence: softmax probability of the prediction under the attack. NaN if an older run did not record it, or if the
            recorded probability belongs to another class.
        margin, linf, l2: as in `outcomes`.
        iterations: number of iterations. For a suite such as AutoAttack, this is the sum over its parts.
        by: name of the attack.
        outcome: `WITHSTANDS`, `BROKEN` or `WRONG` (misclassified without an attack).
        only: True if this attack breaks the image and no other attack does.

    Args:
        outcomes: outcomes with predictions, from `RunLog.outcomes`.
        attack: name of an attack, or "worst-case". The worst case takes, for each image, the attack that is worst for it. Images
            that some attack has not covered are left out of the worst case.
    """
    if "confidence" not in outcomes:
        outcomes = outcomes.assign(confidence=np.nan)
    tops = outcomes[outcomes["attack"].isin(attacks_of(outcomes))]
    chosen = _worst(tops) if attack == WORST else tops[tops["attack"] == attack]
    natural = outcomes[outcomes["attack"] == NATURAL].set_index("image")
    parts = outcomes[outcomes["attack"].str.contains("/")]
    table = chosen.set_index("image").rename(columns={"attack": "by"}).sort_index()
    for name in ("prediction", "confidence"):
        table[f"natural_{name}"] = natural[name].reindex(table.index)
    # A search for the nearest adversarial image may end outside the ball, so a correct image may come with a wrong prediction.
    beyond = table["correct"].astype(bool) & (table["prediction"] != table["label"])
    table["prediction"], table["confidence"] = table["prediction"].mask(beyond, table["label"]), table["confidence"].mask(beyond)
    # The row of a cascade repeats that of a part, so its iterations are the sum over all parts.
    spent = parts.groupby([parts["attack"].str.split("/").str[0], "image"])["iterations"].sum()
    of_parts = spent.reindex(pd.MultiIndex.from_arrays([table["by"], table.index])).to_numpy()
    table["iterations"] = np.where(np.isnan(of_parts), table["iterations"], of_parts).astype(int)
    right = natural["correct"].reindex(table.index).astype(bool)
    table["outcome"] = np.where(~right, WRONG, np.where(table["correct"], WITHSTANDS, BROKEN))
    fallen = tops[~tops["correct"].astype(bool)].groupby("image").size().reindex(table.index, fill_value=0)
    table["only"] = (table["outcome"] == BROKEN) & (fallen == 1)
    return table[["label", "natural_prediction", "natural_confidence", *DETAIL, "confidence", "by", "outcome", "only"]]


def _worst(tops: pd.DataFrame) -> pd.DataFrame:
    """Return one row per image: the row of the attack that is worst for the image.

    This is the row with the smallest margin among the attacks under which the image is misclassified. If there is no such attack,
    it is the row with the smallest margin of all. Images that some attack has not covered are left out.

    Args:
        tops: rows of `RunLog.outcomes` for whole attacks, without the rows for parts of suites.
    """
    attacks = tops["attack"].nunique()
    covered = tops[tops.groupby("image")["attack"].transform("size") == attacks]
    return covered.sort_values(["correct", "margin"], kind="stable").drop_duplicates("image")


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracies of one class.

    Attributes:
        label: index of the class.
        natural: accuracy without an attack.
        worst: accuracy in the worst case, for which an image counts as correct only if it withstands every attack. Images that
            some attack has not covered are left out. None if no image of this class is left.
    """

    label: int
    natural: Measurement
    worst: Measurement | None


def by_class(outcomes: pd.DataFrame) -> list[ClassAccuracy]:
    """Return the natural and the worst-case accuracy of each class, with intervals."""
    natural = outcomes[outcomes["attack"] == NATURAL]
    tops = outcomes[~outcomes["attack"].str.contains("/")]
    by_image = tops["correct"].astype("int8").groupby(tops["image"])
    standing = by_image.min()[by_image.size() == tops["attack"].nunique()]
    covered = pd.DataFrame({"correct": standing, "label": natural.set_index("image")["label"].reindex(standing.index)})
    worst = {int(label): _measured(members["correct"]) for label, members in covered.groupby("label")}
    return [ClassAccuracy(int(label), _measured(members["correct"]), worst.get(int(label)))
            for label, members in natural.groupby("label")]


def _measured(correct: pd.Series) -> Measurement:
    right, images = int(correct.sum()), len(correct)
    return Measurement(right / images, *wilson(right, images), right, images)


def confusion(outcomes: pd.DataFrame, attack: str = WORST) -> npt.NDArray[np.int64]:
    """Return the confusion matrix [label, prediction] under an attack, in numbers of images.

    Args:
        outcomes: outcomes with predictions, from `RunLog.outcomes`.
        attack: name of an attack, "worst-case", or "natural" for the matrix without an attack.
    """
    table = outcomes[outcomes["attack"] == NATURAL] if attack == NATURAL else of_attack(outcomes, attack)
    classes = int(max(outcomes["label"].max(), outcomes["prediction"].max())) + 1
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (table["label"].to_numpy(int), table["prediction"].to_numpy(int)), 1)
    return matrix


def falls(outcomes: pd.DataFrame) -> list[tuple[frozenset[str], int]]:
    """Group the images by the set of attacks that break them.

    Images are counted only if they are classified correctly without an attack and every attack has covered them.

    Returns:
        Pairs (names of the attacks, number of images that exactly these attacks break), largest number first. The empty set
        stands for the images that withstand all attacks.
    """
    attacks = attacks_of(outcomes)
    wide = outcomes.pivot_table(index="image", columns="attack", values="correct", aggfunc="first").dropna(subset=attacks)
    wide = wide[wide[NATURAL].astype(bool)]
    fallen = ~wide[attacks].astype(bool)
    counts = fallen.groupby(attacks, sort=False).size().sort_values(ascending=False, kind="stable") if attacks else pd.Series()
    return [(frozenset(name for name, fell in zip(attacks, key if isinstance(key, tuple) else (key,), strict=True) if fell),
             int(number)) for key, number in counts.items()]


def stage_of(outcomes: pd.DataFrame, attack: str, image: int) -> str:
    """Return the name of the attack that made the adversarial image of `image`.

    Usually, this is `attack` itself. If `attack` is a suite (several attacks, such as AutoAttack), it is the first attack of the
    suite that breaks the image. If none breaks the image, it is the last attack of the suite.
    """
    rows = outcomes[outcomes["image"] == image]
    parts = rows[rows["attack"].str.startswith(f"{attack}/")]
    broken = parts.loc[~parts["correct"].astype(bool), "attack"]
    return str(broken.iloc[0] if len(broken) else parts["attack"].iloc[-1] if len(parts) else attack)
