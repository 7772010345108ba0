"""DARTS: Liu, Simonyan and Yang, Differentiable Architecture Search, ICLR 2019, arXiv 1806.09055.

    min over alpha of L(w', alpha) on the alphas batch,    w' one SGD step of L on the weights batch (first order: w' = w)

with natural images throughout and the paper's eight primitives, "none" among them, which no derived cell keeps. A step has
6 forward passes, in first order 3 (see `engine.search.bilevel_method`); the published one has one less, since there the
weight step's own pass moves BatchNorm's running statistics, by the same amounts.
"""

from __future__ import annotations

from engine.genotype import NONE, PRIMITIVES
from engine.search.bilevel_method import WeighedBilevelMethod
from engine.search.methods.darts.config import DartsConfig
from engine.search.registries import OBJECTIVES, Objective


class Darts(WeighedBilevelMethod[DartsConfig]):
    """See the module for the mathematics, `engine.search.method.SearchMethod` for the contract."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)

    def objectives(self) -> tuple[Objective, ...]:
        """Return the natural loss and the added objectives."""
        return OBJECTIVES["natural"], *self.added_objectives()
