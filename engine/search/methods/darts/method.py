"""DARTS: Liu, Simonyan and Yang, Differentiable Architecture Search, ICLR 2019, arXiv 1806.09055.

    min over alpha of L(w', alpha) on the alphas batch,    w' one SGD step of L on the weights batch (first order: w' = w)

All images are natural. The operations are the paper's eight primitives, including "none", which no derived cell keeps. A step has
6 forward passes, or 3 in first order (see `engine.search.bilevel_method`). The published step has one pass fewer, because its
weight step also updates BatchNorm's running statistics. Here, a separate pass makes the same update.
"""

from __future__ import annotations

from engine.architecture.genotype import NONE, PRIMITIVES
from engine.search.methods.darts.config import DartsConfig
from engine.search.registries import OBJECTIVES, Objective
from engine.search.robust_method import WeighedBilevelMethod


class Darts(WeighedBilevelMethod[DartsConfig]):
    """The search method DARTS, described in the module docstring."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)

    def objectives(self) -> tuple[Objective, ...]:
        """Return the natural loss and the objectives added in the settings."""
        return OBJECTIVES["natural"], *self.added_objectives()
