"""E2RNAS as first published: arXiv 2011.09820, 2020, with the mathematics of the search code released in November 2020.

    min over alpha of (L(w', alpha), max(1, L_min - N(alpha))),    w' one SGD step of the natural loss L on the weights batch

The search space comes from DARTS. N is the number of parameters, and L_min its lower limit. The weight step minimises the loss of
adversarial images x_adv = x + clip(u + 1.25 epsilon sign(grad_x L(x)), +-epsilon), clipped to 0..1. Here, u is uniform in
[-epsilon, epsilon], and the gradient is taken at the natural x and the new alphas. One step:

| what                                                                       | passes | backward computes            |
|----------------------------------------------------------------------------|--------|------------------------------|
| natural training gradient at (w, alpha), for w'                            | 1      | weight gradient              |
| L on the alphas batch at (w', alpha)                                       | 1      | weight and alpha gradients   |
| N(alpha), computed from one table, see `engine.search.size`                | 0      |                              |
| finite difference of the implicit term, one for the weighted sum           | 2      | alpha gradients              |
| natural weights batch: attack direction, BatchNorm buffers, train accuracy | 1      | image gradient               |
| weight step: SGD on L(x_adv) at (w, new alpha)                             | 1      | weight gradient              |

A step has 6 forward passes, or 3 in first order. The implicit term of a gradient is the part that goes through w'. The solver
sees the gradients at w' without implicit terms. Only L depends on w', so one finite difference gives the implicit term of the
weighted sum.

The released code has a mistake that this module can reproduce. Let g1 and g2 be the gradients of L and of the size objective, and
c1 and c2 their weights. The code never clears the unrolled network's gradients. The solver therefore sees g1 and g1 + g2 instead
of g1 and g2, and the alphas descend (1 + c1) g1 + (1 + c2) g2. Without MGDA (`weighting` sum), c1 = c2 = 1, so they descend 2 (g1
+ g2).
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NONE, PRIMITIVES
from engine.attack.pgd import project
from engine.search.bilevel import Bilevel, InnerAttack, adam, clipped
from engine.search.bilevel_method import ArchitectureGradients, Batch, BilevelMethod, Proposal, State
from engine.search.method import StepReport
from engine.search.methods.e2rnas.config import E2rnasConfig
from engine.search.minimum_norm import MARGIN, of_two
from engine.search.objectives import accuracy, cross_entropy_of
from engine.search.registries import OBJECTIVES, WEIGHTINGS, Objective
from engine.search.size import inert_notice, module_parameters, published_parameters, same_quantile, size_objective
from engine.search.weighting import gramian_of, normalised

STEP_IN_RADII = 1.25  # released code, after Wong, Rice and Kolter 2020 (arXiv 2001.03994)


class E2rnas(BilevelMethod[E2rnasConfig]):
    """The 2020 version of E2RNAS, described in the module docstring."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)
    trains_on_adversarial = True
    _inert_at_start = False

    def objectives(self) -> tuple[Objective, ...]:
        """Return the natural loss and the size objective."""
        return OBJECTIVES["natural"], self.size

    def inner_attack(self) -> InnerAttack:
        """Return the settings of the one-step attack on the weights batch."""
        epsilon = self.config.training_epsilon
        return InnerAttack(epsilon, STEP_IN_RADII * epsilon, 1, True)

    def architecture_passes(self) -> int:
        return 4 if self.config.unrolled else 1

    @property
    def passes_per_step(self) -> int:
        """Number of forward passes in one step."""
        return self.architecture_passes() + 2

    @property
    def notices(self) -> list[str]:
        """Messages for the user.

        If the size objective had no effect in the first step (its gradient was zero), the first message says so. The messages of
        `BilevelMethod.notices` follow.
        """
        inert = [f"{inert_notice('parameters')} At its default bound the released code does the same."] * self._inert_at_start
        return [*inert, *super().notices]

    def take(self, proposal: Proposal) -> StepReport:
        report = super().take(proposal)
        if self.steps == 1:
            self._inert_at_start = report.raw_norms[1] == 0
        return report

    def _attacked(self) -> tuple[bool, bool]:
        return True, False

    @cached_property
    def size(self) -> Objective:
        """The size objective, with its table of parameter counts and the configured limits filled in."""
        anatomy, settings = (self.supernet.cells, self.supernet.kinds, self.supernet.primitives), self.config
        table, bounds = published_parameters(*anatomy), (settings.size_lower, settings.size_upper)
        if settings.parameter_count == "modules":
            published, table = table, module_parameters(*anatomy)
            bounds = same_quantile(bounds[0], published, table), same_quantile(bounds[1], published, table)
        return size_objective("parameters", table.to(self.device, self.dtype), settings.size_bound, *bounds)

    def _propose(self, passes: Bilevel, train_batch: Batch, alpha_batch: Batch, starts: tuple[Tensor | None, ...],
                 learning_rate: float, out_of_distribution: Tensor | None) -> Proposal:
        """Compute a step in the order of the released code.

        The new alphas come first, then the attack at these alphas, then the weight step.
        """
        assert starts[0] is not None
        now, attack, (x, y) = self._state, self.inner_attack(), train_batch
        self.activity = "architecture gradients"
        gradients = self._architecture_gradients(passes, self.training_objective(x, y),
                                                 (cross_entropy_of(self.supernet, *alpha_batch), self.size), learning_rate)
        alphas, mean, square = adam(
            now.alphas, now.mean, now.square, gradients.combined, step=now.steps + 1,
            learning_rate=self.config.alpha_learning_rate, weight_decay=self.config.alpha_weight_decay)
        direction, natural_accuracy, buffers = self._natural_pass(passes, x, y, alphas)
        x_adv = project(x + starts[0] + attack.step_size * direction.sign(), x, attack.epsilon, attack.clip)
        gradient, value = self._weight_step_gradient(passes, self.training_objective(x_adv, y), alphas)
        weights, velocity = self._sgd(clipped(gradient, self.config.gradient_clip), learning_rate)
        state = State(weights, velocity, alphas, mean, square, buffers, now.steps + 1)
        return Proposal(state, x_adv, None, self.objectives(), gradients, value, natural_accuracy, passes.passes)

    def _architecture_gradients(self, passes: Bilevel, training: Objective, objectives: tuple[Objective, ...],
                                learning_rate: float) -> ArchitectureGradients:
        """Compute the gradients of loss and size, their weights, and the gradient that the alphas descend.

        In second order, the gradient that the alphas descend includes the implicit term (the part that goes through the unrolled
        weights). The gradients of loss and size do not.
        """
        now, settings, (natural, size) = self._state, self.config, objectives
        if settings.unrolled:
            unrolled = self._sgd(passes.weight_gradient(training, now.weights, now.alphas)[0], learning_rate)[0]
            vector, of_loss, value = passes.both_gradients(natural, unrolled, now.alphas)
        else:
            of_loss, value = passes.alpha_gradient(natural, now.weights, now.alphas)
        of_size, size_value = passes.alpha_gradient(size, now.weights, now.alphas)
        raw = torch.stack([of_loss, of_size])
        added = settings.weighting == "sum" or settings.weighting == "mgda" and settings.gradient_sum == "added"
        seen = raw.cumsum(dim=0) if added else raw
        gramian, weights = self._weighed_by_solver(raw, seen, torch.stack([value.loss, size_value.loss]))
        factors = weights.to(self.dtype) + (1.0 if added else 0.0)
        combined = (factors[:, None] * raw).sum(dim=0)
        if settings.unrolled:
            combined = combined - learning_rate * passes.mixed_product(training, now.weights, now.alphas, factors[0] * vector,
                                                                       settings.finite_difference)
        return ArchitectureGradients(raw, seen, gramian, weights, combined, (value, size_value))

    def _weighed_by_solver(self, raw: Tensor, seen: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the weights of the two objectives.

        Args:
            raw: [2, k] gradients of loss and size.
            seen: [2, k] gradients that the solver sees, before normalisation: the rows of `raw` or their cumulative sums.
            losses: [2] values of loss and size.

        Returns:
            gramian: [2, 2] Gramian of the normalised gradients.
            weights: [2] weights of the objectives.
        """
        gramian = normalised(gramian_of(seen), losses, self.config.gradient_normalisation)
        if self.config.weighting == "mgda":
            weights = of_two(gramian, MARGIN if self.config.solver == "published" else 0.0)
        else:
            weights = WEIGHTINGS[self.config.weighting].function(gramian, ("natural", "parameters"), 0.5)
        if self.config.without_inert:
            moving = (raw != 0).any(dim=1).to(weights)
            weights = torch.where(moving.sum() == 1, moving, weights)
        return gramian, weights

    def _natural_pass(self, passes: Bilevel, x: Tensor, y: Tensor, alphas: Tensor) -> tuple[Tensor, ...]:
        """Run one pass on the natural images of the weights batch.

        Returns:
            of_images: gradient of the loss with respect to the images.
            accuracy: accuracy on the images.
            buffers: running statistics of BatchNorm after the pass.
        """
        self.activity = "natural weights batch"

        def forward(x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor, buffers: Tensor) -> tuple[Tensor, ...]:
            x, moved = x.detach().requires_grad_(True), buffers.clone()
            logits = self.supernet.logits(x, weights, alphas, buffers=moved, update_buffers=True)
            (direction,) = torch.autograd.grad(F.cross_entropy(logits, y), x)
            return direction, accuracy(logits, y), moved

        return passes.one_pass("natural", forward, x, y, self.weights, alphas, self.buffers)
