"""Simulated studies with a known truth: probit models of images, search seeds and retrain seeds."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm


@dataclass(frozen=True)
class Truth:
    """A population of studies. All spreads are standard deviations on the probit scale, where a network's own noise has 1.

    Attributes:
        levels: mean of each arm.
        images_spread: difficulty of images, shared by the arms.
        arm_images: difficulty of images for one arm only.
        search, retrain: effects of search seeds and retrain seeds.
        seeds, retrainings, images: sizes of a study.
    """

    levels: tuple[float, ...] = (0.2, 0.0)
    images_spread: float = 1.5
    arm_images: float = 0.3
    search: float = 0.1
    retrain: float = 0.1
    seeds: int = 5
    retrainings: int = 2
    images: int = 300

    def mean(self, arm: int) -> float:
        """Return the accuracy of an arm over all images and seeds."""
        variance = 1 + self.images_spread**2 + self.arm_images**2 + self.search**2 + self.retrain**2
        return float(norm.cdf(self.levels[arm] / sqrt(variance)))

    def study(self, rng: np.random.Generator) -> tuple[list[NDArray[np.bool_]], list[float]]:
        """Return one study.

        Returns:
            outcomes: for every arm, booleans [search seeds, retrain seeds, images].
            accuracies: for every arm, the accuracy over all seeds on the images of this study.
        """
        difficulty = rng.normal(size=self.images) * self.images_spread
        outcomes, accuracies = [], []
        for level in self.levels:
            base = level + difficulty + rng.normal(size=self.images) * self.arm_images
            latent = (base + rng.normal(size=(self.seeds, 1, 1)) * self.search
                      + rng.normal(size=(self.seeds, self.retrainings, 1)) * self.retrain
                      + rng.normal(size=(self.seeds, self.retrainings, self.images)))
            outcomes.append(latent > 0)
            accuracies.append(float(norm.cdf(base / sqrt(1 + self.search**2 + self.retrain**2)).mean()))
        return outcomes, accuracies
