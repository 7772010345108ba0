"""Gradients of bilevel search over flat vectors: which pass computes which gradient, and the unrolled step.

Liu, Simonyan and Yang, DARTS, arXiv 1806.09055, section 2.3. Weights, alphas, momentum and gradients are flat vectors, so
the unrolled network and the two networks of a finite difference are sums of vectors; no network is ever copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.search.lanes import Lanes
from engine.search.objectives import FunctionalNetwork, Objective, Value


class Bilevel:
    """The passes of one step. Each method says how many it makes; a backward pass computes only what is returned.

    Attributes:
        passes: forward passes made so far.
    """

    def __init__(self, poll: Callable[[], None] = lambda: None, lanes: Lanes | None = None) -> None:
        """
        Args:
            poll: called before each forward pass, never twice at a time; raises to abandon the step.
            lanes: what `side_by_side` runs on; None: in order in the calling thread.
        """
        self._poll, self._lanes = poll, lanes or Lanes()
        self.passes = 0

    def begin_pass(self) -> None:
        """To be called before a forward pass that is made elsewhere; the methods below do it themselves."""
        with self._lanes.turn():
            self._poll()
            self.passes += 1

    def side_by_side(self, *functions: Callable[[], Any]) -> list[Any]:
        """What functions return that make passes independent of each other; see `Lanes.side_by_side`."""
        return self._lanes.side_by_side(*functions)

    def input_gradient(self, network: FunctionalNetwork, x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor) -> Tensor:
        """Gradient [B, C, H, W] of the cross-entropy with respect to images x. One pass."""
        self.begin_pass()
        x = x.detach().requires_grad_(True)
        loss = F.cross_entropy(network.logits(x, weights.detach(), alphas.detach()), y)
        return torch.autograd.grad(loss, x)[0]

    def weight_gradient(self, objective: Objective, weights: Tensor, alphas: Tensor) -> tuple[Tensor, Value]:
        """Gradient [n] with respect to the weights. One pass."""
        self.begin_pass()
        weights = weights.detach().requires_grad_(True)
        value = objective(weights, alphas.detach())
        return torch.autograd.grad(value.loss, weights)[0], _detached(value)

    def alpha_gradient(self, objective: Objective, weights: Tensor, alphas: Tensor) -> tuple[Tensor, Value]:
        """Gradient [k] with respect to the alphas. One pass."""
        self.begin_pass()
        alphas = alphas.detach().requires_grad_(True)
        value = objective(weights.detach(), alphas)
        return torch.autograd.grad(value.loss, alphas)[0], _detached(value)

    def both_gradients(self, objective: Objective, weights: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor, Value]:
        """Gradients with respect to weights [n] and alphas [k]. One pass."""
        self.begin_pass()
        weights, alphas = weights.detach().requires_grad_(True), alphas.detach().requires_grad_(True)
        value = objective(weights, alphas)
        of_weights, of_alphas = torch.autograd.grad(value.loss, (weights, alphas))
        return of_weights, of_alphas, _detached(value)

    def mixed_product(self, objective: Objective, weights: Tensor, alphas: Tensor, vector: Tensor, radius: float) -> Tensor:
        """Hessian-vector product [k]: (d^2 L / d alpha d w) v by a central finite difference. Two passes.

        The difference is taken at w +- R v with R = radius / |v|, so it is homogeneous in v: a coefficient on v factors
        out. v = 0 gives 0.

        Args:
            vector: v [n].
            radius: length of the displacement in weight space; 0.01 in DARTS.
        """
        norm = vector.norm()
        # The floor keeps R finite for v = 0, where both passes then agree.
        scale = radius / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        displacement = scale * vector
        ahead, _ = self.alpha_gradient(objective, weights + displacement, alphas)
        behind, _ = self.alpha_gradient(objective, weights - displacement, alphas)
        return (ahead - behind) / (2 * scale)

    def unrolled_gradient(self, training: Objective, objective: Objective, weights: Tensor, unrolled: Tensor, alphas: Tensor,
                          *, learning_rate: float, radius: float) -> tuple[Tensor, Value]:
        """Gradient [k] of objective(w'(alpha), alpha), w' one training step ahead of w. Three passes.

        The direct part minus learning_rate times the mixed product with the gradient at w': of w' = w - learning_rate
        (... + grad_w training(w, alpha)) only that last term depends on alpha.

        Args:
            training: the objective of the unrolled step.
            objective: what is minimised over alpha. Its coefficient is not applied here (see `mixed_product`).
            weights: w.
            unrolled: w', from `sgd` on the training gradient.
            learning_rate: of the unrolled step.
            radius: see `mixed_product`.
        """
        of_weights, direct, value = self.both_gradients(objective, unrolled, alphas)
        return direct - learning_rate * self.mixed_product(training, weights, alphas, of_weights, radius), value


def _detached(value: Value) -> Value:
    return Value(value.loss.detach(), value.accuracy)


def sgd(weights: Tensor, velocity: Tensor, gradient: Tensor, *, learning_rate: float, momentum: float,
        weight_decay: float) -> tuple[Tensor, Tensor]:
    """One step of SGD with momentum and coupled weight decay, as torch.optim.SGD; nothing is changed in place.

    Args:
        weights, velocity, gradient: [n]; velocity is zero before the first step.

    Returns:
        New weights and velocity. The weights alone are the unrolled step of DARTS.
    """
    velocity = momentum * velocity + (gradient + weight_decay * weights)
    return weights - learning_rate * velocity, velocity


def clipped(gradient: Tensor, largest_norm: float) -> Tensor:
    """The gradient, shortened to `largest_norm` if it is longer, as torch.nn.utils.clip_grad_norm_."""
    return gradient * (largest_norm / (gradient.norm() + 1e-6)).clamp(max=1.0)


def adam(alphas: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, *, step: int, learning_rate: float,
         weight_decay: float, betas: tuple[float, float] = (0.5, 0.999)) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam with coupled weight decay, as torch.optim.Adam; nothing is changed in place.

    Args:
        alphas, mean, square, gradient: [k]; mean and square are the running moments, zero before the first step.
        step: number of this step, from 1.
        betas: decay of the moments; the default is DARTS's, section 3.1.

    Returns:
        New alphas, mean and square.
    """
    gradient = gradient + weight_decay * alphas
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient * gradient
    denominator = square.sqrt() / (1 - betas[1] ** step) ** 0.5 + 1e-8
    return alphas - learning_rate / (1 - betas[0] ** step) * mean / denominator, mean, square
