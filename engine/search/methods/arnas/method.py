"""ARNAS: Ou, Feng and Sun, Towards Accurate and Robust Architectures via Neural Architecture Search (CVPR 2024).

The paper is arXiv 2405.05502. The mathematics follows the released search code:

    min over alpha of (L_nat(w', alpha), lambda L_adv(w', alpha)),    w' one SGD step of L_adv on the weights batch

In each step, PGD with k steps makes adversarial images of both batches, at the current (w, alpha):

| what                                                                     | passes | backward computes        |
|--------------------------------------------------------------------------|--------|--------------------------|
| PGD on the weights batch and on the alphas batch                         | 2 k    | input gradients          |
| training gradient at (w, alpha), which gives the w' of both objectives   | 1      | weight gradient          |
| natural and adversarial loss at (w', alpha)                              | 2      | weight and alpha grads   |
| finite differences of the two implicit terms                             | 4      | alpha gradients          |
| MGDA on the two architecture gradients, Adam on alpha                    | 0      |                          |
| natural weights batch: BatchNorm buffers and training accuracy           | 1      | nothing                  |
| weight step: SGD on L_adv at (w, new alpha)                              | 1      | weight gradient          |

A step has 2 k + 9 forward passes (23 for PGD-7) and 2 k + 8 backward passes. First order leaves out the training gradient and the
finite differences, so it has five fewer of each. On a CPU with at least two threads, all passes except the training gradient run
in pairs, side by side. On a GPU, an attack is one CUDA graph, and all remaining passes share four graphs.

Differs: only the pass on natural images updates BatchNorm's running statistics. In the released code, every pass updates them,
attacks included, but nothing reads them. The weights and alphas are therefore the same.
"""

from __future__ import annotations

from engine.search.methods.arnas.config import ArnasConfig
from engine.search.proposal import Proposal
from engine.search.registries import OBJECTIVES, Objective
from engine.search.robust_method import RobustBilevelMethod

__all__ = ["Arnas", "Proposal"]


class Arnas(RobustBilevelMethod[ArnasConfig]):
    """The search method ARNAS, described in the module docstring."""

    cell_kinds = ("robust", "reduce", "accurate")

    def objectives(self) -> tuple[Objective, ...]:
        """Return the natural loss, lambda times the adversarial loss, and the objectives added in the settings."""
        robust = OBJECTIVES[self.config.robust_objective].times(self.config.adversarial_lambda)
        return OBJECTIVES["natural"], robust, *self.added_objectives()
