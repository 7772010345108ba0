"""Fast Minimum-Norm attack (FMN): Pintor et al. 2021, arXiv 2102.12827, in L-infinity and L2.

FMN looks for the nearest adversarial image. While it takes steps, it adapts the radius of a ball around the natural image: the
radius shrinks while the current point is adversarial, and grows otherwise. The result is the distance of the nearest adversarial
image (the critical epsilon). The distances of all images give the whole curve of accuracy against epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from engine.attack.ball import distance, lengths
from engine.attack.declaration import L2, LINF
from engine.attack.gradient_steps import steepest
from engine.attack.walk import State, Walk, margins

# First and last value of gamma, the relative change of the radius, and of alpha, the length of a step: section 3.1 of the paper.
GAMMA = (0.05, 0.001)
ALPHA = (1.0, 0.01)


class FMN(Walk):
    """FMN, Algorithm 1 of the paper, starting at the natural image. It takes one network evaluation per iteration.

    Only the norm of `ball` is used, not the radius. Run it in an `engine.attack.walk.Pool` with `nearest=True`.

    Differs: until an adversarial point is reached, the radius grows by at least the factor 1 + gamma per iteration. With the
    published rule alone, points may come closer and closer to the decision boundary without crossing it. This happens if the
    network is linear around the image, or if pixels reach 0 or 1.
    """

    leaves_ball = True

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        """Return the initial state. The point is the natural image and the radius is 0. No random numbers are drawn."""
        zeros = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        return {"point": x.clone(), "iteration": torch.zeros_like(y), "radius": zeros,
                "nearest_distance": torch.full_like(zeros, torch.inf)}

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return the loss [n] that the attack decreases. It is negative if the attack has succeeded; see `logit_difference`."""
        return logit_difference(logits, state["y"], state["target"])

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Adapt the radius, take a step down the gradient, and project the point onto 0..1 and the ball of the new radius.

        Return a bool [n], True for runs (attempts on an image) that have ended.
        """
        assert loss is not None and gradient is not None
        gamma, alpha = (self._annealed(ends, state["iteration"]) for ends in (GAMMA, ALPHA))
        state["radius"] = self._radius(state, loss, gradient, gamma)
        moved = state["point"] - alpha[:, None, None, None] * steepest(gradient, L2)
        state["point"] = self._project(moved, state["x"], state["radius"][:, None, None, None])
        state["iteration"] = state["iteration"] + 1
        return state["iteration"] >= self.iterations

    def _radius(self, state: State, loss: Tensor, gradient: Tensor, gamma: Tensor) -> Tensor:
        """Return the next radius of each run, [n] (lines 5 to 12 of Algorithm 1).

        The radius shrinks or grows by the fraction `gamma` [n]. The function also updates `state["nearest_distance"]`, the
        distance of the nearest adversarial point so far.
        """
        far, radius, adversarial = distance(state["point"], state["x"], self.ball.norm), state["radius"], loss < 0
        nearest = torch.where(adversarial, torch.minimum(far, state["nearest_distance"]), state["nearest_distance"])
        state["nearest_distance"] = nearest
        # The distance to the boundary of the linearised network: Hoelder's inequality with the dual norm.
        dual = torch.linalg.vector_norm(gradient.flatten(1), ord=1 if self.ball.norm == LINF else 2, dim=1)
        to_boundary = loss / dual.clamp(min=torch.finfo(dual.dtype).tiny)
        outwards = torch.where(nearest.isinf(), torch.maximum(far + to_boundary, radius), radius) * (1 + gamma)
        return torch.where(adversarial, torch.minimum(radius * (1 - gamma), nearest), outwards)

    def _annealed(self, ends: tuple[float, float], iteration: Tensor) -> Tensor:
        """Return a value [n] that falls from ends[0] to ends[1] over all iterations, along half a cosine (paper, equation 4)."""
        first, last = ends
        return last + (first - last) * (1 + torch.cos(math.pi * iteration / self.iterations)) / 2

    def _project(self, point: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        difference = point - x
        if self.ball.norm == LINF:
            difference = torch.minimum(torch.maximum(difference, -radius), radius)
        else:
            difference = difference * (radius / lengths(difference, L2).clamp(min=1e-12)).clamp(max=1)
        return (x + difference).clamp(0, 1)


def logit_difference(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the loss [n] that minimum-norm attacks decrease. It is negative if the attack has succeeded.

    Args:
        logits: [n, classes].
        y: labels, int64 [n].
        target: classes to attack towards, int64 [n]; -1 in an untargeted attack.

    Returns:
        In an untargeted attack, the logit of the label minus the largest logit of the other classes. In a targeted attack, the
        largest logit of all classes except the target, minus the logit of the target.
    """
    return torch.where(target < 0, margins(logits, y), -margins(logits, target.clamp(min=0)))
