"""Outcomes per image as results/outcomes.parquet records them. This module does not import torch."""

from __future__ import annotations

import pandas as pd

from engine.attack.catalogue import WORST


def correct_images(outcomes: pd.DataFrame, column: str = WORST) -> dict[int, bool]:
    """Return {image: True if it was classified correctly} for natural images, for one attack, or for the worst case.

    Args:
        outcomes: recorded outcomes, with the columns image, attack and correct.
        column: "natural", the name of an attack, or "worst-case". In the worst case, an image counts as correct if no attack
            succeeds on it. Images without an outcome for every attack are left out.
    """
    if column == WORST:
        outcomes = outcomes[~outcomes["attack"].str.contains("/")]  # without the parts of cascades
        by_image = outcomes.groupby("image")["correct"]
        covered = by_image.size() == outcomes["attack"].nunique()
        return {int(image): bool(correct) for image, correct in by_image.all()[covered].items()}
    chosen = outcomes[outcomes["attack"] == column]
    return dict(zip(chosen["image"].astype(int), chosen["correct"].astype(bool), strict=True))
