"""PC-DARTS: Xu et al., Partial Channel Connections for Memory-Efficient Architecture Search, ICLR 2020, arXiv 1907.05737.

    min over (alpha, beta) of L(w, alpha, beta) on the alphas batch,    w trained with SGD on the weights batches

The supernet has partial channels and edge weights (`engine.space.partial`). All images are natural, and the operations are
DARTS's eight primitives. The betas (edge weights before the softmax) follow the alphas in one flat vector, and one Adam updates
both. The warm-up leaves alphas, betas and Adam's state unchanged. A step has 2 forward passes in the warm-up, then 3, or 6 in
second order.
"""

from __future__ import annotations

from engine.architecture.genotype import NONE, PRIMITIVES
from engine.search.methods.pcdarts.config import PcDartsConfig
from engine.search.registries import OBJECTIVES, Objective
from engine.search.robust_method import WeighedBilevelMethod


class PcDarts(WeighedBilevelMethod[PcDartsConfig]):
    """The search method PC-DARTS, described in the module docstring."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)

    def objectives(self) -> tuple[Objective, ...]:
        """Return the natural loss and the objectives added in the settings. In the warm-up, return no objectives."""
        return () if self.epoch < self.config.warmup_epochs else (OBJECTIVES["natural"], *self.added_objectives())

    @property
    def stage(self) -> str:
        """Description of the current stage, for example "Warm-up: weights only, until epoch 15"; empty if there is no warm-up."""
        last = self.config.warmup_epochs  # readers count epochs from 1
        if not last:
            return ""
        if self.epoch < last:
            return f"Warm-up: weights only, until epoch {last}"
        return f"Search: weights and architecture, since epoch {last + 1}"
