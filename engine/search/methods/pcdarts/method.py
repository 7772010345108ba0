"""PC-DARTS: Xu et al., Partial Channel Connections for Memory-Efficient Architecture Search, ICLR 2020, arXiv 1907.05737.

    min over (alpha, beta) of L(w, alpha, beta) on the alphas batch,    w trained with SGD on the weights batches

on a supernet of partial channels with edge weights (`engine.space.partial`), with natural images throughout and DARTS's eight
primitives. Betas follow the alphas in one flat vector and share its Adam. In the warm-up, alphas, betas, Adam's moments and its
count of steps rest. A step has 3 forward passes, 2 in the warm-up and 6 if unrolled.
"""

from __future__ import annotations

from engine.architecture.genotype import NONE, PRIMITIVES
from engine.search.bilevel_method import WeighedBilevelMethod
from engine.search.methods.pcdarts.config import PcDartsConfig
from engine.search.registries import OBJECTIVES, Objective


class PcDarts(WeighedBilevelMethod[PcDartsConfig]):
    """PC-DARTS, with the mathematics that the module describes."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)

    def objectives(self) -> tuple[Objective, ...]:
        """Return the natural loss and the added objectives; nothing in the warm-up."""
        return () if self.epoch < self.config.warmup_epochs else (OBJECTIVES["natural"], *self.added_objectives())

    @property
    def stage(self) -> str:
        """Warm-up or search, with the epoch at which they change; empty without a warm-up."""
        last = self.config.warmup_epochs  # readers count epochs from 1
        if not last:
            return ""
        if self.epoch < last:
            return f"Warm-up: weights only, until epoch {last}"
        return f"Search: weights and architecture, since epoch {last + 1}"
