"""ARNAS: Ou, Feng and Sun, Towards Accurate and Robust Architectures via Neural Architecture Search, CVPR 2024,
arXiv 2405.05502, with the mathematics of the released search code.

    min over alpha of (L_nat(w', alpha), lambda L_adv(w', alpha)),    w' one SGD step of L_adv on the weights batch

One step, with PGD of k steps and for each of the two batches x_adv made on the current (w, alpha):

| what                                                                     | passes | backward computes        |
|--------------------------------------------------------------------------|--------|--------------------------|
| PGD on the weights batch and on the alphas batch                         | 2 k    | input gradients          |
| training gradient at (w, alpha), shared by both objectives' unrolled w'  | 1      | weight gradient          |
| natural and adversarial loss at (w', alpha)                              | 2      | weight and alpha grads   |
| finite differences of the two implicit terms                             | 4      | alpha gradients          |
| MGDA on the two architecture gradients, Adam on alpha                    | 0      |                          |
| natural weights batch: BatchNorm buffers and training accuracy           | 1      | nothing                  |
| weight step: SGD on L_adv at (w, new alpha)                              | 1      | weight gradient          |

2 k + 9 forward passes (23 for PGD-7) and 2 k + 8 backward passes. First order drops the training gradient and the four
finite differences: 2 k + 4 and 2 k + 3. On a CPU with at least two threads the two attacks run side by side, then the two
unrolled gradients, then the last two passes; only the training gradient runs alone. On a GPU an attack is one CUDA graph and
every other pass one of four.

Differs: only the pass on natural images updates BatchNorm's running statistics. The released code lets every pass,
attacks included, update them but never reads them, so weights and alphas are unaffected.
"""

from __future__ import annotations

from engine.search.bilevel_method import Proposal, RobustBilevelMethod
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.registries import OBJECTIVES, Objective

__all__ = ["Arnas", "Proposal"]


class Arnas(RobustBilevelMethod[ArnasConfig]):
    """ARNAS, with the mathematics and the cost that the module describes."""

    cell_kinds = ("robust", "reduce", "accurate")

    def objectives(self) -> tuple[Objective, ...]:
        """Return L_nat, lambda L_adv and the added objectives."""
        robust = OBJECTIVES[self.config.robust_objective].times(self.config.adversarial_lambda)
        return OBJECTIVES["natural"], robust, *self.added_objectives()
