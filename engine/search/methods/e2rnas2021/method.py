"""The 2021 version of E2RNAS (IJCNN 2022), with the mathematics of the search code released in March 2021.

    min over alpha of (L, L_adv, |P0 - P(alpha)| / 1e5, f KL / K, |M0 - M(alpha)| / 1e8),    w' one SGD step of L

The search space comes from DARTS. The symbols are:

- L is the natural loss.
- L_adv is the loss of x + clip(u + 1.25 epsilon sign(grad_x L(x)), +-epsilon), kept in 0..1, with u uniform in
  [-epsilon, epsilon].
- P is the expected number of parameters, with the target P0. M is the expected number of multiply-adds, with the target M0.
- KL is KL(uniform distribution || prediction) on out-of-distribution images. f is its coefficient, and K the number of classes.

The attack and all losses that depend on weights use w'. The implicit term of a gradient is the part that goes through w'. The
solver gets the gradients without implicit terms, each divided by its own norm. It returns one weight for each loss, to which 1e-7
is added. The alphas descend the sum of the original losses with these weights, including the implicit term.

In epoch e of E, the network's weights are trained on L + (e / E) KL / K. One step:

| what                                                                       | passes | backward computes               |
|----------------------------------------------------------------------------|--------|---------------------------------|
| natural training gradient at (w, alpha), for w'                            | 1      | weight gradient                 |
| L on the alphas batch at (w', alpha): also the attack's direction          | 1      | weight, alpha, image gradients  |
| L_adv and KL at (w', alpha)                                                | 2      | weight and alpha gradients      |
| P(alpha) and M(alpha): two tables, see `engine.search.size`                | 0      |                                 |
| finite difference of the implicit term, one for the weighted sum           | 2      | alpha gradients                 |
| natural weights batch: BatchNorm buffers and training accuracy             | 1      | nothing                         |
| weight step: L, and from the second epoch on KL                            | 1 or 2 | weight gradient                 |

A step has 9 forward passes, or 8 in the first epoch. First order takes 3 fewer. Training on the adversarial loss takes 2 more.
The solver runs on the CPU, so a step on a GPU waits for the device twice: before the solver and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NONE, PRIMITIVES
from engine.attack.pgd import project
from engine.data.transfer import to_device
from engine.search.bilevel import Bilevel, InnerAttack, adam, clipped
from engine.search.bilevel_method import ArchitectureGradients, Batch, BilevelMethod, Proposal, State
from engine.search.method import StepReport
from engine.search.methods.e2rnas2021.config import E2rnas2021Config
from engine.search.minimum_norm import Solution, frank_wolfe, projected_gradient
from engine.search.objectives import FunctionalNetwork, StepImages, accuracy, cross_entropy_of
from engine.search.registries import OBJECTIVES, WEIGHTINGS, Objective, Value
from engine.search.size import (
    expected,
    inert_notice,
    module_macs,
    module_parameters,
    published_macs,
    same_quantile,
    size_objective,
)
from engine.search.weighting import gramian_of, mgda, normalised

STEP_IN_RADII = 1.25  # released code, after Wong, Rice and Kolter 2020 (arXiv 2001.03994)
PARAMETERS_IN, MACS_IN = 1e5, 1e8  # units of the published size losses
FLOOR = 1e-7  # constant of the released code, added to the divisors of the gradients and to the solver's weights
Gradients = tuple[Tensor, Tensor, Value]  # gradients with respect to weights [n] and alphas [k], and the loss
# The released loop runs until its weights stop changing, which took up to 1,100 rounds in a search on digits. The weights of
# Frank-Wolfe may never stop changing, so it ends after the intended number of rounds.
ITERATIVE: dict[str, Callable[[np.ndarray], Solution]] = {
    "projected_gradient": partial(projected_gradient, rounds=10_000), "frank_wolfe": frank_wolfe}


class E2rnas2021(BilevelMethod[E2rnas2021Config]):
    """The 2021 version of E2RNAS, described in the module docstring."""

    cell_kinds = ("normal", "reduce")
    primitives = (NONE, *PRIMITIVES)
    _told: tuple[str, ...] = ()

    def objectives(self) -> tuple[Objective, ...]:
        """Return the five losses in the order of the released code.

        The order matters, because the solver starts from the best pair of losses and takes the first of equally good pairs.
        """
        parameters, macs = self.sizes
        uniform = OBJECTIVES["out_of_distribution"].times(self.config.out_of_distribution_factor / self.supernet.classes)
        return OBJECTIVES["natural"], OBJECTIVES["adversarial"], parameters, uniform, macs

    def inner_attack(self) -> InnerAttack:
        """Return the settings of the one-step attack that makes the images of the adversarial loss."""
        epsilon = self.config.attack_epsilon
        return InnerAttack(epsilon, STEP_IN_RADII * epsilon, 1, True)

    def architecture_passes(self) -> int:
        return 6 if self.config.unrolled else 3

    @property
    def passes_per_step(self) -> int:
        """Number of forward passes in one step of the current epoch."""
        training = 1 + bool(self.config.training_share(self.epoch)) + 2 * bool(self.config.training_adversarial_weight)
        return self.architecture_passes() + 1 + training

    @property
    def notices(self) -> list[str]:
        """Messages for the user: first about the size objectives, then the messages of `BilevelMethod.notices`.

        There are messages about the size objectives only after the first step.
        """
        return [*self._told, *super().notices]

    def take(self, proposal: Proposal) -> StepReport:
        alphas = self._state.alphas
        report = super().take(proposal)
        if self.steps == 1:
            norms = dict(zip(report.names, report.raw_norms, strict=True))
            self._told = tuple(told for size in self.sizes if (told := self._about(size, alphas, norms[size.name])))
        return report

    def _about(self, size: Objective, alphas: Tensor, norm: float) -> str:
        """Return a message about a size objective (on parameters or MACs), or "" if there is nothing to say.

        If the gradient of the objective has the norm 0, the message says that the objective has no effect. Otherwise, if the
        setting `size_bound` is "abs", the message gives the number of parameters or MACs at the first step and the target number.
        """
        name, unit = {"parameters": ("parameters", PARAMETERS_IN), "macs": ("MACs", MACS_IN)}[size.name]
        if norm == 0:
            return inert_notice(name)
        if self.config.size_bound != "abs":
            return ""
        (table,), (_, target, _) = size.inputs, size.constants
        begin = expected(table, alphas).item()
        return (f"By the method's own count the search begins with {begin * unit:,.0f} {name} and has the target "
                f"{target * unit:,.0f}: this loss asks for a {'larger' if begin < target else 'smaller'} network.")

    def _attacked(self) -> tuple[bool, bool]:
        return self.config.training_adversarial_weight > 0, True

    @cached_property
    def sizes(self) -> tuple[Objective, Objective]:
        """The two size objectives, on parameters and on MACs.

        As published, parameters are counted in units of 1e5 and MACs in units of 1e8.
        """
        anatomy, settings = (self.supernet.cells, self.supernet.kinds, self.supernet.primitives), self.config
        of_parameters = (settings.parameters_lower, settings.parameters_upper)
        table, bounds = published_macs(*anatomy), (settings.macs_lower, settings.macs_upper)
        if settings.mac_count == "modules":
            published, table = table, module_macs(*anatomy)
            bounds = same_quantile(bounds[0], published, table), same_quantile(bounds[1], published, table)

        def size(name: str, table: Tensor, bounds: tuple[float, float], unit: float, of: str) -> Objective:
            lower, upper = bounds
            return size_objective(name, (table / unit).to(self.device, self.dtype), settings.size_bound,
                                  lower / unit, upper / unit, f"{unit:.0e} {of}")

        return (size("parameters", module_parameters(*anatomy), of_parameters, PARAMETERS_IN, "parameters"),
                size("macs", table, bounds, MACS_IN, "MACs"))

    def weigh(self, gradients: Tensor, losses: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Compute the weights of the objectives from the normalised gradients, with the configured weighting.

        As in the released code, 1e-7 is added to each weight that comes from an iterative MGDA solver.

        Returns:
            gramian: [m, m] Gramian of the normalised gradients.
            weights: [m] weights of the objectives.
        """
        gramian = normalised(gramian_of(gradients), losses, self.config.gradient_normalisation, FLOOR)
        if self.config.weighting != "mgda":
            return gramian, WEIGHTINGS[self.config.weighting].function(gramian, names, 0.5)
        if self.config.solver == "exact":
            return gramian, mgda(gramian)
        weights = ITERATIVE[self.config.solver](gramian.cpu().numpy()).weights + FLOOR
        return gramian, to_device(torch.from_numpy(weights).to(gramian.dtype), gramian.device)

    def _propose(self, passes: Bilevel, train_batch: Batch, alpha_batch: Batch, starts: tuple[Tensor | None, ...],
                 learning_rate: float, out_of_distribution: Tensor | None) -> Proposal:
        """Compute a step in the order of the released code: first the alphas, then the weights at the new alphas."""
        assert out_of_distribution is not None and starts[1] is not None
        now, (x, y), start = self._state, train_batch, starts[1]
        training = self.training_objective(x, y)
        uniform = self.bound(OBJECTIVES["out_of_distribution"], StepImages(x, y, out_of_distribution=out_of_distribution))
        self.activity = "architecture gradients"
        unrolled = now.weights
        if self.config.unrolled:
            unrolled = self._sgd(passes.weight_gradient(training, now.weights, now.alphas)[0], learning_rate)[0]
        (natural, (adversarial, xs_adv)), of_uniform = passes.side_by_side(
            lambda: self._natural_and_adversarial(passes, alpha_batch, start, unrolled),
            lambda: passes.both_gradients(uniform, unrolled, now.alphas))
        sizes = [passes.alpha_gradient(size, now.weights, now.alphas) for size in self.sizes]
        gradients = self._weighted(passes, training, (natural, adversarial, sizes[0], of_uniform, sizes[1]), learning_rate)
        alphas, mean, square = adam(
            now.alphas, now.mean, now.square, gradients.combined, step=now.steps + 1,
            learning_rate=self.config.alpha_learning_rate, weight_decay=self.config.alpha_weight_decay)
        (natural_accuracy, buffers), (gradient, value, x_adv) = passes.side_by_side(
            lambda: self._natural_pass(passes, x, y, alphas),
            lambda: self._training_gradient(passes, training, uniform, starts[0], alphas))
        weights, velocity = self._sgd(clipped(gradient, self.config.gradient_clip), learning_rate)
        state = State(weights, velocity, alphas, mean, square, buffers, now.steps + 1)
        return Proposal(state, x_adv, xs_adv, self.objectives(), gradients, value, natural_accuracy, passes.passes)

    def _natural_and_adversarial(self, passes: Bilevel, batch: Batch, start: Tensor,
                                 weights: Tensor) -> tuple[Gradients, tuple[Gradients, Tensor]]:
        """Compute the gradients of L and L_adv at the given weights, and the adversarial images of L_adv.

        The attack needs no pass of its own, because the pass of L also gives the gradient with respect to the images.

        Returns:
            natural: gradients and value of L.
            adversarial: (gradients and value of L_adv, adversarial images).
        """
        (x, y), attack, alphas = batch, self.inner_attack(), self._state.alphas
        of_weights, of_alphas, direction, loss, correct = passes.one_pass(
            ("wax", self.supernet), partial(_all_gradients, self.supernet), x, y, weights, alphas)
        x_adv = project(x + start.to(x) + attack.step_size * direction.sign(), x, attack.epsilon, attack.clip)
        adversarial = passes.both_gradients(cross_entropy_of(self.supernet, x_adv, y, "adversarial"), weights, alphas)
        return (of_weights, of_alphas, Value(loss, correct)), (adversarial, x_adv)

    def _weighted(self, passes: Bilevel, training: Objective, parts: Sequence[Gradients | tuple[Tensor, Value]],
                  learning_rate: float) -> ArchitectureGradients:
        """Weigh the five losses and compute the gradient that the alphas descend.

        Args:
            passes: forward and backward passes of this step.
            training: natural loss of the weights batch, which the unrolled step minimises.
            parts: one tuple per loss: (gradient with respect to the weights, gradient with respect to the alphas, value). The two
                size losses do not depend on the weights, so their tuples lack the first element.
            learning_rate: learning rate of the unrolled step.
        """
        now, settings, objectives = self._state, self.config, self.objectives()
        raw, values = torch.stack([part[-2] for part in parts]), tuple(part[-1] for part in parts)
        gradients, gramian, weights = self._weighed(raw, values, objectives)
        shares = weights.to(self.dtype)
        combined = (shares[:, None] * gradients).sum(dim=0)
        if settings.unrolled:
            vector = sum(share * objective.coefficient * part[0]
                         for share, objective, part in zip(shares, objectives, parts, strict=True) if len(part) == 3)
            combined = combined - learning_rate * passes.mixed_product(training, now.weights, now.alphas, vector,
                                                                       settings.finite_difference)
        return ArchitectureGradients(raw, gradients, gramian, weights, combined, values)

    def _training_gradient(self, passes: Bilevel, training: Objective, uniform: Objective, start: Tensor | None,
                           alphas: Tensor) -> tuple[Tensor, Value, Tensor | None]:
        """Compute the loss that the weight step descends, and its gradient with respect to the weights.

        The loss is the natural loss (one pass), plus weighted losses on out-of-distribution images (one pass) and on adversarial
        images (two passes) if such images are used.

        Args:
            passes: forward and backward passes of this step.
            training: natural loss of the weights batch.
            uniform: loss on the out-of-distribution images.
            start: random start of the attack on the weights batch; None trains without adversarial images.
            alphas: flat alphas [k] at which the losses are computed.

        Returns:
            gradient: [n], with respect to the weights.
            value: the loss, and the accuracy on the natural images.
            x_adv: the adversarial images; None if there are none.
        """
        gradient, (loss, correct) = self._weight_step_gradient(passes, training, alphas)
        if share := self.config.training_share(self.epoch) / self.supernet.classes:
            of_uniform, value = self._weight_step_gradient(passes, uniform, alphas)
            gradient, loss = gradient + share * of_uniform, loss + share * value.loss
        x_adv = None
        if start is not None:
            x_adv = self._fast_attack(passes, training, start, alphas)
            of_adversarial, value = self._weight_step_gradient(passes, self.training_objective(x_adv, training.inputs[1]), alphas)
            weight = self.config.training_adversarial_weight
            gradient, loss = gradient + weight * of_adversarial, loss + weight * value.loss
        return gradient, Value(loss, correct), x_adv

    def _fast_attack(self, passes: Bilevel, training: Objective, start: Tensor, alphas: Tensor) -> Tensor:
        """Make adversarial images as Fast-AT does: one step from a random start, in one forward pass.

        Both the random start and the result are clipped to 0..1.
        """
        attack, (x, y) = self.inner_attack(), training.inputs
        self.activity = "attack on the weights batch"
        begin = project(x + start.to(x), x, attack.epsilon, attack.clip)
        direction = passes.input_gradient(self.supernet, begin, y, self.weights, alphas).sign()
        return project(begin + attack.step_size * direction, x, attack.epsilon, attack.clip)


def _all_gradients(network: FunctionalNetwork, x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor) -> tuple[Tensor, ...]:
    """Evaluate the natural loss once, with all of its gradients.

    Returns:
        of_weights: gradient [n] with respect to the weights.
        of_alphas: gradient [k] with respect to the alphas.
        of_images: gradient [B, C, H, W] with respect to the images.
        loss: the natural loss.
        accuracy: accuracy on the images.
    """
    x, weights, alphas = (tensor.detach().requires_grad_(True) for tensor in (x, weights, alphas))
    logits = network.logits(x, weights, alphas)
    loss = F.cross_entropy(logits, y)
    return (*torch.autograd.grad(loss, (weights, alphas, x)), loss.detach(), accuracy(logits, y))
