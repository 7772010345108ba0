"""Gradients, attacks and update steps of a bilevel search, computed on flat vectors.

The gradients are computed as in DARTS (Liu, Simonyan and Yang, arXiv 1806.09055, section 2.3). Weights, alphas, momentum and
gradients are flat vectors. An unrolled step or a finite difference only adds such vectors, so no network is ever copied.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.attack.pgd import pgd, project
from engine.graphs import Function, Graphs
from engine.lanes import Lanes
from engine.search.objectives import FunctionalNetwork
from engine.search.precision import computed_in
from engine.search.registries import Objective, Precision, Value


@dataclass(frozen=True)
class InnerAttack:
    """Settings of a PGD attack on the supernet during a search.

    Attributes:
        epsilon, step_size: L-infinity radius and length of a step, in pixel space (0..1).
        steps: number of steps.
        clip: True to keep pixels in 0..1. If False, they may leave this range by up to epsilon.
        precision: arithmetic of the forward and backward passes: "float32", "tf32" or "bf16" (see `engine.search.precision`).
    """

    epsilon: float
    step_size: float
    steps: int
    clip: bool
    precision: Precision = "float32"


class Bilevel:
    """The forward and backward passes of one search step.

    A backward pass computes only the gradients that are returned. No call waits for the device.

    Attributes:
        passes: number of forward passes made so far.
    """

    def __init__(self, poll: Callable[[], None] = lambda: None, lanes: Lanes | None = None,
                 graphs: Graphs | None = None) -> None:
        """Prepare the passes of one step.

        Args:
            poll: called once for each forward pass, never concurrently. It may raise to abandon the step. An attack that is
                recorded as a CUDA graph calls `poll` for all of its passes before it starts.
            lanes: two threads for `side_by_side`; None to run everything in the calling thread.
            graphs: recorder that turns passes into CUDA graphs; None to run passes eagerly. It cannot be combined with two lanes.
        """
        self._poll, self._lanes, self._graphs = poll, lanes or Lanes(), graphs or Graphs()
        self.passes = 0

    def begin_pass(self) -> None:
        """Call `poll` and count one forward pass.

        Code outside this class calls this before each of its own forward passes.
        """
        with self._lanes.turn():
            self._poll()
            self.passes += 1

    def side_by_side(self, *functions: Callable[[], Any]) -> list[Any]:
        """Run functions that do not depend on each other, and return their results in the order of the functions.

        With two lanes (threads), the functions run at the same time.
        """
        return self._lanes.side_by_side(*functions)

    def one_pass(self, kind: Hashable, function: Function, *inputs: Tensor, passes: int = 1) -> tuple[Tensor, ...]:
        """Run a function through `Graphs.run`, after counting its forward passes.

        Args:
            kind, function, inputs: see `Graphs.run`.
            passes: number of forward passes that the function makes.
        """
        for _ in range(passes):
            self.begin_pass()
        return self._graphs.run(kind, function, *inputs)

    def input_gradient(self, network: FunctionalNetwork, x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor) -> Tensor:
        """Return the gradient [B, C, H, W] of the cross-entropy with respect to the images x. Takes one forward pass."""
        return self.one_pass(("x", network), partial(_input_gradient, network), x, y, weights, alphas)[0]

    def attack(self, settings: InnerAttack, network: FunctionalNetwork, x: Tensor, y: Tensor, noise: Tensor, weights: Tensor,
               alphas: Tensor, announce: Callable[[int], None] = lambda number: None) -> Tensor:
        """Return adversarial images [B, C, H, W], made from x by PGD.

        The attack takes `settings.steps` forward passes. Their backward passes compute only gradients with respect to the
        images.

        Args:
            settings: radius, step size, number of steps, clipping and precision.
            network: attacked network, evaluated at `weights` and `alphas`.
            x: natural images [B, C, H, W].
            y: labels [B].
            noise: random start with the shape of x; it is added to x before the first step.
            weights, alphas: flat weights [n] and flat alphas [k].
            announce: function called before each step with the number of the step, counted from 1.
        """
        numbers = count(1)

        def begin() -> None:
            announce(next(numbers))
            self.begin_pass()

        if self._graphs.record:
            for _ in range(settings.steps):
                begin()
            kind = (settings, network)
            return self._graphs.run(kind, partial(_attack, settings, network, None), x, y, noise, weights, alphas)[0]
        return _attack(settings, network, begin, x, y, noise, weights, alphas)[0]

    def weight_gradient(self, objective: Objective, weights: Tensor, alphas: Tensor) -> tuple[Tensor, Value]:
        """Evaluate the objective once and return its weight gradient and its value.

        Returns:
            gradient: gradient [n] with respect to the weights.
            value: value of the objective.
        """
        (gradient,), value = self._gradients("w", objective, weights, alphas)
        return gradient, value

    def alpha_gradient(self, objective: Objective, weights: Tensor, alphas: Tensor) -> tuple[Tensor, Value]:
        """Evaluate the objective once and return its alpha gradient and its value.

        Returns:
            gradient: gradient [k] with respect to the alphas.
            value: value of the objective.
        """
        (gradient,), value = self._gradients("a", objective, weights, alphas)
        return gradient, value

    def both_gradients(self, objective: Objective, weights: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor, Value]:
        """Evaluate the objective once and return both of its gradients and its value.

        Returns:
            of_weights: gradient [n] with respect to the weights.
            of_alphas: gradient [k] with respect to the alphas.
            value: value of the objective.
        """
        (of_weights, of_alphas), value = self._gradients("wa", objective, weights, alphas)
        return of_weights, of_alphas, value

    def _gradients(self, wanted: str, objective: Objective, weights: Tensor,
                   alphas: Tensor) -> tuple[tuple[Tensor, ...], Value]:
        outputs = self.one_pass((wanted, objective.kind), partial(_gradients, wanted, objective), weights, alphas,
                                *objective.inputs, passes=objective.passes)
        loss, *rest = outputs[len(wanted):]
        return outputs[:len(wanted)], Value(loss, rest[0] if rest else None)

    def mixed_product(self, objective: Objective, weights: Tensor, alphas: Tensor, vector: Tensor, radius: float) -> Tensor:
        """Return the Hessian-vector product [k] (d^2 L / d alpha d w) v, approximated by a central finite difference.

        The objective is evaluated twice, at w + R v and at w - R v with R = radius / |v|. The displacement R v therefore always
        has the length `radius`. The result for v = 0 is 0.

        Args:
            objective: L.
            weights: w [n].
            alphas: alpha [k].
            vector: v [n].
            radius: length of the displacement in weight space; 0.01 in DARTS.
        """
        norm = vector.norm()
        # The lower limit keeps R finite for v = 0. Both passes then give the same gradient.
        scale: Tensor = radius / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        # Compute scale * vector twice, in place, so that only one extra vector is in memory during each pass.
        plus, _ = self.alpha_gradient(objective, (scale * vector).add_(weights), alphas)
        minus, _ = self.alpha_gradient(objective, (scale * vector).neg_().add_(weights), alphas)
        return (plus - minus) / (2 * scale)

    def unrolled_gradient(self, training: Objective, objective: Objective, weights: Tensor, unrolled: Tensor, alphas: Tensor,
                          *, learning_rate: float, radius: float) -> tuple[Tensor, Value]:
        """Return the gradient of objective(w'(alpha), alpha) with respect to alpha, and the objective's value.

        w' is the result of one training step from w. Without momentum and weight decay, w' = w - learning_rate grad_w training(w,
        alpha). The gradient is the sum of two parts:

        - the gradient of the objective at fixed w'
        - the implicit term, -learning_rate times `mixed_product` of the training objective with v = grad_w objective(w', alpha)

        The first part takes `objective.passes` forward passes, and the second takes two.

        Args:
            training: objective that the training step minimises.
            objective: objective that is minimised over alpha. Its coefficient is not applied; the caller can multiply the result
                by it.
            weights: w [n].
            unrolled: w' [n], computed by `sgd` from the training gradient.
            alphas: alpha [k].
            learning_rate: learning rate of the training step.
            radius: see `mixed_product`.

        Returns:
            gradient: [k].
            value: value of the objective at w'.
        """
        of_weights, direct, value = self.both_gradients(objective, unrolled, alphas)
        return direct - learning_rate * self.mixed_product(training, weights, alphas, of_weights, radius), value

    def architecture_gradients(self, training: Objective, objectives: Sequence[Objective], weights: Tensor, alphas: Tensor,
                               unroll: Callable[[Tensor], Tensor] | None, *, learning_rate: float,
                               radius: float) -> tuple[Tensor, tuple[Value, ...]]:
        """Return the gradients of m objectives with respect to the alphas, and the objectives' values.

        The coefficients of the objectives are not applied. First order evaluates each objective once. Second order evaluates
        `training` once, to get the unrolled weights, and then calls `unrolled_gradient` for each objective. An objective of the
        alphas alone takes no forward pass.

        Args:
            training: objective that the unrolled step minimises.
            objectives: objectives that are minimised over alpha.
            weights: current weights [n].
            alphas: current alphas [k].
            unroll: function from the training gradient [n] to the unrolled weights [n]. None selects first order: all gradients
                are taken at the current weights.
            learning_rate, radius: see `unrolled_gradient`.

        Returns:
            gradients: [m, k].
            values: values of the m objectives.
        """
        unrolled = None if unroll is None else unroll(self.weight_gradient(training, weights, alphas)[0])

        def gradient(objective: Objective) -> tuple[Tensor, Value]:
            if unrolled is None or objective.passes == 0:
                return self.alpha_gradient(objective, weights, alphas)
            return self.unrolled_gradient(training, objective, weights, unrolled, alphas, learning_rate=learning_rate,
                                          radius=radius)

        gradients, values = zip(*self.side_by_side(*(partial(gradient, objective) for objective in objectives)))
        return torch.stack(gradients), values


def _attack(settings: InnerAttack, network: FunctionalNetwork, begin: Callable[[], None] | None, x: Tensor, y: Tensor,
            noise: Tensor, weights: Tensor, alphas: Tensor) -> tuple[Tensor]:
    """Return a tuple with the adversarial images of x [B, C, H, W] as its only entry, because `Graphs.run` requires a tuple.

    `begin` is called before each forward pass; None to call nothing. `Bilevel.attack` describes the other arguments.
    """
    with computed_in(settings.precision, network, x.device) as attacked:

        def gradient(images: Tensor) -> Tensor:
            if begin:
                begin()
            return _input_gradient(attacked, images, y, weights, alphas)[0]

        start = project(x + noise, x, settings.epsilon, settings.clip)
        return (pgd(gradient, x, start, epsilon=settings.epsilon, step_size=settings.step_size, steps=settings.steps,
                    clip=settings.clip),)


def _input_gradient(network: FunctionalNetwork, x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor) -> tuple[Tensor]:
    x = x.detach().requires_grad_(True)
    loss = F.cross_entropy(network.logits(x, weights.detach(), alphas.detach()), y)
    return (torch.autograd.grad(loss, x)[0],)


def _gradients(wanted: str, objective: Objective, weights: Tensor, alphas: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Evaluate an objective and return (requested gradients..., loss, accuracy).

    The accuracy is left out if the objective measures none.

    Args:
        wanted: "w" for the weight gradient, "a" for the alpha gradient, "wa" for both in this order.
        objective: objective to evaluate.
        weights, alphas: flat weights [n] and flat alphas [k] at which the objective is evaluated.
        inputs: further tensors that the objective's function takes (see `Objective.inputs`).
    """
    weights, alphas = weights.detach().requires_grad_("w" in wanted), alphas.detach().requires_grad_("a" in wanted)
    value = objective.function(*objective.constants, weights, alphas, *inputs)
    gradients = torch.autograd.grad(value.loss, [{"w": weights, "a": alphas}[name] for name in wanted])
    return (*gradients, value.loss.detach(), *(() if value.accuracy is None else (value.accuracy,)))


def sgd(weights: Tensor, velocity: Tensor, gradient: Tensor, *, learning_rate: float, momentum: float,
        weight_decay: float) -> tuple[Tensor, Tensor]:
    """Take one step of SGD with momentum and coupled weight decay, as torch.optim.SGD does.

    The arguments are not changed in place.

    Args:
        weights, velocity, gradient: [n]; velocity is zero before the first step.
        learning_rate, momentum, weight_decay: settings of the step, as in torch.optim.SGD.

    Returns:
        weights: the new weights [n].
        velocity: the new velocity [n].
    """
    # Reuse temporary vectors in place: each further one would raise the peak memory of a search.
    velocity = (momentum * velocity).add_((weight_decay * weights).add_(gradient))
    return (learning_rate * velocity).neg_().add_(weights), velocity


def clipped(gradient: Tensor, largest_norm: float) -> Tensor:
    """Return the gradient, scaled down if its norm exceeds `largest_norm`.

    This is the formula of torch.nn.utils.clip_grad_norm_.
    """
    scale: Tensor = largest_norm / (gradient.norm() + 1e-6)
    return gradient * scale.clamp(max=1.0)


def adam(alphas: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, *, step: int, learning_rate: float,
         weight_decay: float, betas: tuple[float, float] = (0.5, 0.999)) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of Adam with coupled weight decay, as torch.optim.Adam does.

    The arguments are not changed in place.

    Args:
        alphas, mean, square, gradient: [k]; mean and square are the running moments, zero before the first step.
        step: number of this step, counted from 1.
        learning_rate, weight_decay: settings of the step, as in torch.optim.Adam.
        betas: decay rates of the moments; the default is from DARTS, section 3.1.

    Returns:
        alphas: the new alphas [k].
        mean: the new running mean of the gradient [k].
        square: the new running mean of the squared gradient [k].
    """
    gradient = gradient + weight_decay * alphas
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient * gradient
    denominator = square.sqrt() / (1 - betas[1] ** step) ** 0.5 + 1e-8
    return alphas - learning_rate / (1 - betas[0] ** step) * mean / denominator, mean, square
