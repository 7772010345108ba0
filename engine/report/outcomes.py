"""What the outcomes per image say about one network: accuracy per class, confusion, and which images fall to which attacks.

The outcomes are those of `RunLog.outcomes`. This module does not import torch.
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
# Columns that outcomes of older runs lack.
DETAIL = ["prediction", "margin", "linf", "l2", "iterations"]


def attacks_of(outcomes: pd.DataFrame) -> list[str]:
    """Return the names of the attacks in order. The parts of cascades are left out."""
    names = outcomes["attack"].drop_duplicates()
    return [name for name in names if name != NATURAL and "/" not in name]


def has_predictions(outcomes: pd.DataFrame) -> bool:
    """Return True if the outcomes record predictions and distances. Those of older runs do not."""
    return set(DETAIL) <= set(outcomes.columns)


def of_attack(outcomes: pd.DataFrame, attack: str) -> pd.DataFrame:
    """Return one row per image that an attack covers, in the order of the images in the dataset.

    Args:
        outcomes: outcomes with predictions.
        attack: name of an attack, or "worst-case" for the attack with the smallest margin on each image.

    Returns:
        A table indexed by image with the columns label, natural_prediction, prediction (the label of an image that counts as
        correct), margin, linf, l2, iterations, by (name of the attack), outcome (`WITHSTANDS`, `BROKEN` or `WRONG`), and only
        (True if the image withstands every other attack).
    """
    tops = outcomes[outcomes["attack"].isin(attacks_of(outcomes))]
    chosen = _worst(tops) if attack == WORST else tops[tops["attack"] == attack]
    natural = outcomes[outcomes["attack"] == NATURAL].set_index("image")
    parts = outcomes[outcomes["attack"].str.contains("/")]
    table = chosen.set_index("image").rename(columns={"attack": "by"}).sort_index()
    table["natural_prediction"] = natural["prediction"].reindex(table.index)
    # A search for the nearest adversarial image may end outside the ball, so a correct image may come with a wrong prediction.
    table["prediction"] = table["prediction"].where(~table["correct"].astype(bool), table["label"])
    # The row of a cascade repeats that of a part, so its iterations are the sum over all parts.
    spent = parts.groupby([parts["attack"].str.split("/").str[0], "image"])["iterations"].sum()
    of_parts = spent.reindex(pd.MultiIndex.from_arrays([table["by"], table.index])).to_numpy()
    table["iterations"] = np.where(np.isnan(of_parts), table["iterations"], of_parts).astype(int)
    right = natural["correct"].reindex(table.index).astype(bool)
    table["outcome"] = np.where(~right, WRONG, np.where(table["correct"], WITHSTANDS, BROKEN))
    fallen = tops[~tops["correct"].astype(bool)].groupby("image").size().reindex(table.index, fill_value=0)
    table["only"] = (table["outcome"] == BROKEN) & (fallen == 1)
    return table[["label", "natural_prediction", "prediction", "margin", "linf", "l2", "iterations", "by", "outcome", "only"]]


def _worst(tops: pd.DataFrame) -> pd.DataFrame:
    """Return for each image that every attack covers the row with the smallest margin, a wrong one before any correct one."""
    attacks = tops["attack"].nunique()
    covered = tops[tops.groupby("image")["attack"].transform("size") == attacks]
    return covered.sort_values(["correct", "margin"], kind="stable").drop_duplicates("image")


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracies of one class.

    Attributes:
        label: number of the class.
        natural: accuracy without an attack.
        worst: accuracy in the worst case, on the images that every attack covers; None if they include none of this class.
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
        outcomes: outcomes with predictions.
        attack: name of an attack, "natural" for none, or "worst-case".
    """
    table = outcomes[outcomes["attack"] == NATURAL] if attack == NATURAL else of_attack(outcomes, attack)
    classes = int(max(outcomes["label"].max(), outcomes["prediction"].max())) + 1
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (table["label"].to_numpy(int), table["prediction"].to_numpy(int)), 1)
    return matrix


def falls(outcomes: pd.DataFrame) -> list[tuple[frozenset[str], int]]:
    """Return how many images fall to exactly which attacks, the most frequent combination first.

    Only images count that every attack covers and that are classified correctly without an attack. The empty combination stands
    for those that withstand all attacks.
    """
    attacks = attacks_of(outcomes)
    wide = outcomes.pivot_table(index="image", columns="attack", values="correct", aggfunc="first").dropna(subset=attacks)
    wide = wide[wide[NATURAL].astype(bool)]
    fallen = ~wide[attacks].astype(bool)
    counts = fallen.groupby(attacks, sort=False).size().sort_values(ascending=False, kind="stable") if attacks else pd.Series()
    return [(frozenset(name for name, fell in zip(attacks, key if isinstance(key, tuple) else (key,), strict=True) if fell),
             int(number)) for key, number in counts.items()]


def stage_of(outcomes: pd.DataFrame, attack: str, image: int) -> str:
    """Return the name of the stage of an attack that made the adversarial image of an image.

    In a cascade, that is the first stage that breaks the image, or the last stage if none does.
    """
    rows = outcomes[outcomes["image"] == image]
    parts = rows[rows["attack"].str.startswith(f"{attack}/")]
    broken = parts.loc[~parts["correct"].astype(bool), "attack"]
    return str(broken.iloc[0] if len(broken) else parts["attack"].iloc[-1] if len(parts) else attack)
