"""AdvRush: Mok, Na, Choe and Yoon, Searching for Adversarially Robust Neural Architectures, ICCV 2021, arXiv 2108.01289.

The mathematics follows the released search code:

    stage 1:  min over alpha of  L(w, alpha)                                warm-up epochs: DARTS in first order
    stage 2:  min over alpha of  L(w, alpha) + gamma Lambda(w, alpha)       all later epochs

All images are natural, and the search space is DARTS's. Lambda is the curvature of `engine.search.curvature`. In stage 2,
Lambda and the weight step use BatchNorm's running statistics instead of batch statistics. For the weight step, this is a mistake
of the released code. `AdvRushConfig` has one setting for Lambda and one for the weight step.

A step takes 3 forward passes in stage 1 (see `engine.search.bilevel_method`) and 5 in stage 2. The two additional passes compute
the input gradients that Lambda compares. A step of stage 2 takes 2.3 times as long as one of stage 1 with the same kernels. On a
CPU it takes 8 times as long, because the compiled kernels support neither Lambda nor running statistics. (Measured on digits with
the preset `quick` and one thread.)
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from engine.architecture.genotype import NONE, PRIMITIVES
from engine.search.evaluation_mode import in_evaluation_mode
from engine.search.methods.advrush.config import AdvRushConfig
from engine.search.objectives import StepImages
from engine.search.registries import OBJECTIVES, Objective
from engine.search.robust_method import WeighedBilevelMethod


class AdvRush(WeighedBilevelMethod[AdvRushConfig]):
    """The search method AdvRush, described in the module docstring."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)

    def objectives(self) -> tuple[Objective, ...]:
        """Return the objectives of the current stage.

        Stage 1 has only the natural loss. Stage 2 also has gamma times the curvature, and the objectives added in the settings.
        """
        natural = OBJECTIVES["natural"]
        if not self.config.has_curvature(self.epoch):
            return (natural,)
        return natural, OBJECTIVES["curvature"].times(self.config.curvature_factor), *self.added_objectives()

    @property
    def stage(self) -> str:
        """Description of the current stage, for example "Stage 1 of 2: natural loss only, until epoch 50"."""
        warmup = self.config.warmup_epochs  # readers count epochs from 1
        if not self.config.has_curvature(self.epoch):
            return f"Stage 1 of 2: natural loss only, until epoch {warmup}"
        losses = "natural loss, curvature and added losses" if self.config.added_objectives else "natural loss and curvature"
        return f"Stage 2 of 2: {losses}, since epoch {warmup + 1}"

    def bound(self, objective: Objective, images: StepImages) -> Objective:
        """Return a copy of `objective` in which the supernet and the images of a step are filled in.

        If the objective is "curvature", the copy also has the displacement length h of the current epoch, and it uses the
        configured kind of BatchNorm statistics.
        """
        made = super().bound(objective, images)
        if objective.name != "curvature":
            return made
        x, y, radius = made.inputs
        made = replace(made, inputs=(x, y, radius.new_full((), self.config.radius(self.epoch))))
        return in_evaluation_mode(made, self.buffers) if self.config.curvature_statistics == "running" else made

    def training_objective(self, x: Tensor, y: Tensor) -> Objective:
        """Return the natural loss of a batch. In stage 2, a setting chooses between BatchNorm's batch and running statistics."""
        made = super().training_objective(x, y)
        in_evaluation = self.config.has_curvature(self.epoch) and self.config.weights_statistics == "running"
        return in_evaluation_mode(made, self.buffers) if in_evaluation else made
