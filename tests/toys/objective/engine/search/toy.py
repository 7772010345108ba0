"""A toy objective: the natural loss by another name."""

from __future__ import annotations

from engine.config import SearchConfig
from engine.search.objectives import CrossEntropy, FunctionalNetwork, Objective, StepImages


def toy(network: FunctionalNetwork, images: StepImages, config: SearchConfig, coefficient: float) -> Objective:
    """Return the cross-entropy of the natural images of the alphas batch."""
    return CrossEntropy("toy_loss", network, images.x, images.y, coefficient)
