"""The nearest adversarial images of a walk, by the plainest loop: one batch, and nothing leaves it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.attack.ball import distance
from engine.attack.walk import Walk


def nearest(walk: Walk, logits: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, target: int = -1) -> tuple[Tensor, Tensor]:
    """Return the distance [n] of the nearest point that each image's run evaluates and that is misclassified, and the point.

    Without any the distance is infinite. With a target, points must be classified as the target.
    """
    targets = torch.full_like(y, target)
    state = walk.begin(x, y, targets, list(range(len(x)))) | {"x": x, "y": y, "target": targets}
    best, x_adv = torch.full((len(x),), torch.inf), x.clone()
    over = torch.zeros_like(y, dtype=torch.bool)
    for _ in range(walk.iterations):
        point = state["point"].detach().requires_grad_()
        values = logits(point)
        loss = walk.loss(values, state)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        wrong = values.argmax(1) == target if target >= 0 else values.argmax(1) != y
        far = torch.where(wrong & ~over, distance(state["point"], x, walk.ball.norm), torch.inf)
        x_adv = torch.where((far < best)[:, None, None, None], state["point"], x_adv)
        best = torch.minimum(far, best)
        over |= walk.advance(state, values.detach(), loss.detach(), gradient)
        if bool(over.all()):
            break
    assert bool(over.all())
    return best, x_adv
