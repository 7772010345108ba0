"""Settings of the curvature objective (`engine.search.curvature`). Imports no torch."""

from __future__ import annotations

from engine.config import SearchConfig, setting


class CurvatureConfig(SearchConfig):
    """A search that may descend the curvature of the loss in the space of images."""

    curvature_factor: float = setting(
        0.01, "gamma, the coefficient of the objective curvature: 4 times the norm of the difference of the input gradients at "
        "x + z and x, mean over the batch.", group="Curvature", source="AdvRush code", gt=0, le=1e6)
    curvature_radius: float = setting(
        1.5, "h, the Euclidean length of z over all pixels of an image as the network sees it: in standard deviations where "
        "images are normalised, as published; else in pixels 0..1, where the same number reaches about four times as far.",
        group="Curvature", source="AdvRush code", gt=0, le=1000)
