"""FAB, the fast adaptive boundary attack, as a walk, and its projections onto a hyperplane within the pixel range.

Croce and Hein 2020, arXiv 1907.02044. FAB searches for the nearest misclassified image and knows no radius.
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

    Each iteration takes the boundary to the target class as linear, projects both the point and the natural image onto it, and
    steps to a mixture of the two projections, a little too far. From a misclassified point it first goes back towards the
    natural image.

    A point after a step must be judged, which needs logits alone; the start, a point after a backward move and a point judged
    correct need the gradient for the next step. `needs_gradient` asks for the kind of evaluation that most of the batch needs.
    With it, a run takes `2 * iterations` evaluations, half of them forward passes only; images that entered the batch between
    may wait for one more. If every evaluation comes with a gradient, a step follows a correct judgement at once, and a run takes
    `iterations + 1` evaluations and one more for each misclassified point after a step but the last.

    The ball decides which points the pool counts. With `nearest`, the pool returns the nearest misclassified point of all.

    Differs: the pool also judges the points after a backward move, which the published loop does not, so that an image may fall
    to a nearer point. The path is the same.
    Differs: the distance to the hyperplane is the difference of logits itself; AutoAttack and torchattacks obtain it from
    products with all pixels, which rounds more. Derivatives below 1e-12 of the largest count as zero; there, in L2, it is
    those below 1e-8.
    """

    leaves_ball = True

    def __init__(self, ball: Ball, iterations: int, *, alpha_max: float = 0.1, eta: float = 1.05, beta: float = 0.9) -> None:
        """Prepare the walk; the defaults are those of the paper (section 4) and of AutoAttack.

        Args:
            ball: its norm is the one that is made small.
            iterations: number of steps of a run; AutoAttack takes 100.
            alpha_max: largest weight of the projection of the natural image, 0..1.
            eta: factor of the step onto the hyperplane, at least 1; above 1 it steps over.
            beta: what is left of the distance to the natural image after a backward move, 0..1.
        """
        super().__init__(ball, iterations)
        self.alpha_max, self.eta, self.beta = alpha_max, eta, beta

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        return {"point": x.clone(), "steps": torch.zeros_like(y), "stepped": torch.zeros_like(y, dtype=torch.bool)}

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return the logit of the target minus that of the label, [n]."""
        return (logits.gather(1, state["target"][:, None]) - logits.gather(1, state["y"][:, None])).squeeze(1)

    def needs_gradient(self, state: State) -> bool:
        """Return True if at least half of the images need the gradient at their point; the others take it or wait."""
        return bool(2 * state["stepped"].sum() <= len(state["stepped"]))

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one iteration in place; without a gradient, judge only the points after a step."""
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
        """Return the point after one step (paper, section 3.2), from the difference of logits [n] and its gradient."""
        sources, w = torch.stack([point, x]).flatten(2), gradient.flatten(1)
        gap = -difference + torch.stack([torch.zeros_like(difference), (w * (sources[0] - sources[1])).sum(1)])
        moves = to_hyperplane(sources, w, gap, self.ball.norm)
        sizes = torch.linalg.vector_norm(moves, ord=torch.inf if self.ball.norm == LINF else 2, dim=2).clamp(min=1e-8)
        alpha = (sizes[0] / sizes.sum(0)).clamp(max=self.alpha_max)[:, None]
        ends = sources + self.eta * moves
        return ends[0].lerp(ends[1], alpha).clamp(0, 1).view_as(point)


def to_hyperplane(x: Tensor, w: Tensor, gap: Tensor, norm: str) -> Tensor:
    """Return the shortest moves d with <w, d> = gap and x + d in 0..1 (paper, section 3.1, Equation 4).

    Where no such move exists, the result goes to the corner of the pixel range where <w, x + d> is nearest to what is asked.

    Pixel i moves by min(t s_i, room_i), where s_i is 1 in L-infinity and |w_i| in L2, and t solves a concave, piecewise linear
    equation. Newton's method from t = 0 never oversteps the solution; it ends when no further pixel reaches its bound, after a
    few rounds, each of which fixes at least one pixel.

    Differs: AutoAttack and torchattacks sort the pixels by the t at which they reach their bounds, for the same solution; on
    large images that takes several times longer.

    Args:
        x: points [..., d], pixels in 0..1.
        w: normals; broadcasts against x.
        gap: wanted change of <w, x>, shaped [...].
        norm: `LINF` or `L2`, what is shortest.

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
