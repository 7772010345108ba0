"""Projected gradient descent (PGD) in the L-infinity ball, for the attacks inside search and training.

PGD is described by Madry et al. 2018, arXiv 1706.06083. The caller provides a function that returns the gradient of the loss with
respect to the images. Retrained networks are evaluated with other implementations of PGD (see `builders.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pgd(gradient: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, *, epsilon: float, step_size: float, steps: int,
        clip: bool) -> Tensor:
    """Take `steps` steps of PGD, and return the adversarial images. Each step calls `gradient` once.

    The function draws no random numbers.

    Args:
        gradient: function that takes images [B, C, H, W] and returns the gradient of the loss to increase, in the same shape. It
            may raise an exception to abandon the attack.
        x: original images [B, C, H, W], pixels in 0..1.
        start: images [B, C, H, W] from which the attack starts. They may be outside the ball, because every step ends with a
            projection into it.
        epsilon: radius of the ball around each image, for pixels in 0..1.
        step_size: length of one step, for pixels in 0..1.
        steps: number of steps.
        clip: True to keep pixels in 0..1. If False, pixels may leave this range by up to epsilon, as in the published ARNAS
            search.

    Returns:
        Images [B, C, H, W] within epsilon of x.
    """
    x_adv = start
    for _ in range(steps):
        x_adv = project(x_adv + step_size * gradient(x_adv).sign(), x, epsilon, clip)
    return x_adv


def project(x_adv: Tensor, x: Tensor, epsilon: float, clip: bool = True) -> Tensor:
    """Return the point nearest to x_adv in the L-infinity ball of radius epsilon around x.

    Args:
        x_adv: images to project, [B, C, H, W].
        x: original images, the centres of the balls, [B, C, H, W].
        epsilon: radius of the ball, for pixels in 0..1.
        clip: True to restrict the pixels to 0..1, too.
    """
    ball = torch.min(torch.max(x_adv, x - epsilon), x + epsilon)
    return ball.clamp(0, 1) if clip else ball
