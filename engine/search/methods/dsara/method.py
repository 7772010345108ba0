"""DSARA: Differentiable Search of Accurate and Robust Architectures, arXiv 2212.14049, 2023.

    stage 1:  min over alpha of  L_adv(w', alpha)                                 epochs 0..switch_epoch
    stage 2:  min over alpha of (L_nat(w', alpha), lambda L_adv(w', alpha))       by MGDA, all later epochs

In both stages, w' is one SGD step of L_adv on the weights batch. The search code is not public, and only the two stages are
known. All other parts (search space, attack, optimisers and solver) are taken from ARNAS. Without stage 1 and with the same
lambda, DSARA equals ARNAS. With PGD of k steps, a step has 2 k + 6 forward passes in stage 1 and 2 k + 9 in stage 2 (see
`engine.search.bilevel_method`).
"""

from __future__ import annotations

from functools import partial

import torch

from engine.search.bilevel import Bilevel
from engine.search.methods.dsara.config import DsaraConfig
from engine.search.proposal import ArchitectureGradients
from engine.search.registries import OBJECTIVES, Objective
from engine.search.robust_method import RobustBilevelMethod


class Dsara(RobustBilevelMethod[DsaraConfig]):
    """The search method DSARA, described in the module docstring."""

    cell_kinds = ("robust", "reduce", "accurate")

    def objectives(self) -> tuple[Objective, ...]:
        """Return the objectives of the current stage.

        Stage 1 has only the adversarial loss. Stage 2 has the natural loss, lambda times the adversarial loss, and the objectives
        added in the settings.
        """
        robust = OBJECTIVES[self.config.robust_objective]
        if self.config.stage(self.epoch) == 1:
            return (robust,)
        return OBJECTIVES["natural"], robust.times(self.config.adversarial_lambda), *self.added_objectives()

    @property
    def stage(self) -> str:
        """Description of the current stage, for example "Stage 1 of 2: adversarial loss only, until epoch 20"."""
        switch = self.config.switch_epoch + 1  # readers count epochs from 1
        if self.config.stage(self.epoch) == 1:
            return f"Stage 1 of 2: adversarial loss only, until epoch {switch}"
        losses = "natural, adversarial and added losses" if self.config.added_objectives else "natural and adversarial loss"
        return f"Stage 2 of 2: {losses}, since epoch {switch + 1}"

    def architecture_passes(self) -> int:
        if not self._weighs_first_order():
            return super().architecture_passes()
        return 1 + 2 * sum(objective.passes for objective in self.objectives()) + 2

    def _weighs_first_order(self) -> bool:
        settings = self.config
        return settings.unrolled and settings.solver == "first_order_weights" and settings.stage(self.epoch) == 2

    def _architecture_gradients(self, passes: Bilevel, training: Objective, objectives: tuple[Objective, ...],
                                learning_rate: float) -> ArchitectureGradients:
        """Compute the architecture gradients with the configured solver.

        The solver first_order_weights computes the weights of the losses from the gradients at (w, alpha). It then treats the
        weighted sum of the losses as a single loss in second order, so one finite difference is enough.
        """
        if not self._weighs_first_order():
            return super()._architecture_gradients(passes, training, objectives, learning_rate)
        now, settings = self._state, self.config
        present = passes.side_by_side(*(partial(passes.alpha_gradient, one, now.weights, now.alphas) for one in objectives))
        raw, values = torch.stack([gradient for gradient, _ in present]), tuple(value for _, value in present)
        gradients, gramian, weights = self._weighed(raw, values, objectives)
        unrolled = self._sgd(passes.weight_gradient(training, now.weights, now.alphas)[0], learning_rate)[0]
        ahead = passes.side_by_side(*(partial(passes.both_gradients, one, unrolled, now.alphas) for one in objectives))
        factors = [one.coefficient * weight for one, weight in zip(objectives, weights.to(self.dtype), strict=True)]
        vector, direct = (sum(factor * gradients[i] for factor, gradients in zip(factors, ahead, strict=True)) for i in (0, 1))
        product = passes.mixed_product(training, now.weights, now.alphas, vector, settings.finite_difference)
        return ArchitectureGradients(raw, gradients, gramian, weights, direct - learning_rate * product,
                                     tuple(value for _, _, value in ahead))
