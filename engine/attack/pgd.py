"""Projected gradient descent in the L-infinity ball: the one loop shared by the attacks inside search and training.

Madry et al. 2018, arXiv 1706.06083. It knows no network: the caller provides the gradient of the loss with respect to the
images, and so decides which network is attacked, in which mode, and where a stop request is noticed. The attacks that measure
a finished network are those of torchattacks (`builders.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pgd(gradient: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, *, epsilon: float, step_size: float, steps: int,
        clip: bool) -> Tensor:
    """Return adversarial images after `steps` calls of `gradient`, the whole cost. Draws no random numbers.

    Args:
        gradient: images [B, C, H, W] -> gradient of the loss (which the attack increases) with respect to them, same shape. It
            may raise to abandon the attack, which leaves nothing to undo.
        x: natural images [B, C, H, W], pixels in 0..1.
        start: images [B, C, H, W] that the attack begins with; it does not project them before the first step.
        epsilon: radius of the ball in pixel space, 0..1.
        step_size: length of one step in pixel space, 0..1.
        steps: number of steps; one is enough to bring every image into the ball.
        clip: True to keep pixels in 0..1 as well; else they may leave it by up to epsilon (as in the published ARNAS search).

    Returns:
        Images [B, C, H, W] within epsilon of x.
    """
    x_adv = start
    for _ in range(steps):
        x_adv = project(x_adv + step_size * gradient(x_adv).sign(), x, epsilon, clip)
    return x_adv


def project(x_adv: Tensor, x: Tensor, epsilon: float, clip: bool = True) -> Tensor:
    """Return the point nearest to x_adv in the L-infinity ball of radius epsilon around x, and in 0..1 if `clip`.

    Args:
        x_adv, x: images [B, C, H, W].
        epsilon: radius of the ball in pixel space, 0..1.
        clip: True to keep pixels in 0..1 as well.
    """
    ball = torch.min(torch.max(x_adv, x - epsilon), x + epsilon)
    return ball.clamp(0, 1) if clip else ball
