"""FAB, the fast adaptive boundary attack.

Croce and Hein 2020, arXiv 1907.02044. FAB searches for the nearest misclassified image. Its path does not depend on a radius.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.attack.ball import Ball
from engine.attack.declaration import L2, LINF
from engine.attack.walk import State, Walk


class FAB(Walk):
    """Targeted FAB from the natural image (FAB-T of AutoAttack), in L-infinity or L2.

    Each iteration approximates the boundary to the target class by a hyperplane. It projects the point and the natural image onto
    the hyperplane and moves to a mixture of both projections, slightly beyond the hyperplane. A misclassified point is first
    moved back towards the natural image.

    A run takes about `2 * iterations` evaluations of the network. Half of them compute only logits, to see whether a new point is
    misclassified. The other half compute the gradient for the next step.

    Run it in a `Pool` with `nearest=True` to get the nearest misclassified point, which may be outside the ball. Without
    `nearest=True`, only misclassified points in the ball count.

    Differs: a misclassified point after a backward move can count as an adversarial image, too. The published loop visits the
    same points, but does not examine those after a backward move.
    Differs: the gap to the hyperplane is the difference of two logits itself. AutoAttack and torchattacks compute the gap from
    products with all pixels, with larger rounding errors. Derivatives count as zero if they are below 1e-12 times the largest
    derivative. In L2, AutoAttack and torchattacks use the limit 1e-8.
    """

    leaves_ball = True

    def __init__(self, ball: Ball, iterations: int, *, alpha_max: float = 0.1, eta: float = 1.05, beta: float = 0.9) -> None:
        """Prepare the attack. The paper (section 4) and AutoAttack use the default values.

        Args:
            ball: ball with the norm in which the distance is measured.
            iterations: number of steps of a run. AutoAttack takes 100.
            alpha_max: maximum weight of the natural image's projection in the mixture, 0..1.
            eta: ratio of the length of a step to the distance to the hyperplane, at least 1.
            beta: factor by which a backward move multiplies the distance to the natural image, 0..1.
        """
        super().__init__(ball, iterations)
        self.alpha_max, self.eta, self.beta = alpha_max, eta, beta

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        return {"point": x.clone(), "steps": torch.zeros_like(y), "stepped": torch.zeros_like(y, dtype=torch.bool)}

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return the logit of the target class minus the logit of the label, [n]."""
        return (logits.gather(1, state["target"][:, None]) - logits.gather(1, state["y"][:, None])).squeeze(1)

    def needs_gradient(self, state: State) -> bool:
        """Return True if at least half of the images in the batch need the gradient at their current point."""
        return bool(2 * state["stepped"].sum() <= len(state["stepped"]))

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one iteration of every run (attempt on an image), and update `state` in place.

        Return a bool [n], True for runs that have ended.

        A point that is misclassified after a step moves back towards the natural image. All other points take a step or, if
        `gradient` is None, stay where they are.
        """
        over = state["stepped"] & (state["steps"] >= self.iterations)
        back = state["stepped"] & (logits.argmax(1) != state["y"])
        x, point = state["x"], state["point"]
        if loss is None or gradient is None:
            ahead, stepped = point, torch.zeros_like(back)
        else:
            ahead, stepped = self._step(point, x, loss, gradient), ~back
        state["point"] = torch.where(back[:, None, None, None], x + self.beta * (point - x), ahead)
        state["stepped"], state["steps"] = stepped, state["steps"] + stepped
        return over

    def _step(self, point: Tensor, x: Tensor, difference: Tensor, gradient: Tensor) -> Tensor:
        """Return the points after one step (paper, section 3.2).

        Args:
            point: current points [n, C, H, W].
            x: natural images [n, C, H, W].
            difference: logit of the target class minus the logit of the label at the points, [n].
            gradient: gradient of the difference, [n, C, H, W].
        """
        sources, w = torch.stack([point, x]).flatten(2), gradient.flatten(1)
        gap = -difference + torch.stack([torch.zeros_like(difference), (w * (sources[0] - sources[1])).sum(1)])
        moves = to_hyperplane(sources, w, gap, self.ball.norm)
        sizes = torch.linalg.vector_norm(moves, ord=torch.inf if self.ball.norm == LINF else 2, dim=2).clamp(min=1e-8)
        alpha = (sizes[0] / sizes.sum(0)).clamp(max=self.alpha_max)[:, None]
        ends = sources + self.eta * moves
        return ends[0].lerp(ends[1], alpha).clamp(0, 1).view_as(point)


def to_hyperplane(x: Tensor, w: Tensor, gap: Tensor, norm: str) -> Tensor:
    """Return the shortest moves d with <w, d> = gap and x + d in 0..1 (paper, section 3.1, Equation 4).

    If no such move exists, return the move for which <w, d> is as near to `gap` as possible.

    Pixel i moves by min(t s_i, room_i), where room_i is the distance to the bound of the pixel range and s_i is 1 in L-infinity
    and |w_i| in L2. Newton's method finds t from a concave, piecewise linear equation. It starts at t = 0, never exceeds the
    solution, and ends when no further pixel reaches its bound.

    Differs: AutoAttack and torchattacks find the same solution by sorting the pixels by the t at which they reach their bounds.
    On large images, that takes several times longer.

    Args:
        x: points [..., d], pixels in 0..1.
        w: normal vectors of the hyperplanes. Their shape broadcasts against x.
        gap: wanted change of <w, x>, of shape [...].
        norm: norm in which the moves are shortest, `LINF` or `L2`.

    Returns:
        Moves [..., d], zero where w is zero.
    """
    tiny = torch.finfo(x.dtype).tiny
    scale = w.abs().amax(-1, keepdim=True).clamp(min=tiny)
    slope, gap = (w / scale).abs(), gap[..., None] / scale
    slope = slope.masked_fill(slope < 1e-12, 0)
    direction = (w * gap.sign()).sign()
    room = torch.where(direction > 0, 1 - x, x)
    speed = slope if norm == L2 else slope.sign()
    reach, rate = slope * room, slope * speed
    t, free = torch.zeros_like(gap), (speed > 0).expand_as(x)
    while True:
        missing = gap.abs() - reach.masked_fill(free, 0).sum(-1, keepdim=True)
        t = torch.maximum(t, missing / (rate * free).sum(-1, keepdim=True).clamp(min=tiny)).clamp(max=torch.finfo(x.dtype).max)
        moves = t * speed
        still_free = free & (moves < room)
        if torch.equal(still_free, free):
            return torch.minimum(moves, room) * direction
        free = still_free
