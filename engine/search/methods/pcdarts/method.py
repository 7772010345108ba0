"""PC-DARTS: Xu et al., Partial Channel Connections for Memory-Efficient Architecture Search, ICLR 2020, arXiv 1907.05737.

    min over (alpha, beta) of L(w, alpha, beta) on the alphas batch,    w trained with SGD on the weights batches

on a supernet of partial channels with edge weights (`engine.space.partial`), natural images throughout, DARTS's eight
primitives. Betas lie at the end of the flat alphas and share their Adam. In the warm-up alphas and betas rest, and so do
Adam's moments and its count of steps. A step has 3 forward passes, one of the warm-up 2; unrolled it is 6.
"""

from __future__ import annotations

from engine.genotype import NONE, PRIMITIVES
from engine.search.bilevel_method import WeighedBilevelMethod
from engine.search.methods.pcdarts.config import PcDartsConfig
from engine.search.registries import OBJECTIVES, Objective


class PcDarts(WeighedBilevelMethod[PcDartsConfig]):
    """See the module for the mathematics, `engine.search.method.SearchMethod` for the contract."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)

    def objectives(self) -> tuple[Objective, ...]:
        """Return the natural loss and the added objectives; nothing in the warm-up."""
        return () if self.epoch < self.config.warmup_epochs else (OBJECTIVES["natural"], *self.added_objectives())

    @property
    def stage(self) -> str:
        """See `SearchMethod.stage`."""
        last = self.config.warmup_epochs  # epochs are counted from 1 wherever they are read
        if not last:
            return ""
        if self.epoch < last:
            return f"Warm-up: weights only, until epoch {last}"
        return f"Search: weights and architecture, since epoch {last + 1}"
