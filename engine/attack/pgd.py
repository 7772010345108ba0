"""Projected gradient descent in the L-infinity ball: the one loop shared by the attacks inside search and training.

Madry et al. 2018, arXiv 1706.06083. It knows no network: the caller brings a function that gives the gradient of the
loss with respect to the images, and so decides what is attacked, in which mode, and where a stop is looked for. The
attacks that measure a finished network are torchattacks' and live beside this file.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pgd(gradient: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, *, epsilon: float, step_size: float, steps: int,
        clip: bool) -> Tensor:
    """Adversarial images. Costs `steps` calls of `gradient`, nothing else; no random numbers are drawn here.

    Args:
        gradient: images [B, C, H, W] -> gradient of the loss (to be increased) with respect to them, same shape. It
            may raise to abandon the attack; nothing needs to be undone then.
        x: natural images [B, C, H, W], pixels in 0..1.
        start: images the attack begins with, taken as they are; same shape.
        epsilon: radius in pixel space, 0..1.
        step_size: length of one step in pixel space, 0..1.
        steps: number of steps; at least one brings every image into the ball.
        clip: keep images in [0, 1] as well. Off, they may leave it by up to epsilon (the published ARNAS search).

    Returns:
        Images [B, C, H, W] within epsilon of x.
    """
    x_adv = start
    for _ in range(steps):
        x_adv = project(x_adv + step_size * gradient(x_adv).sign(), x, epsilon, clip)
    return x_adv


def project(x_adv: Tensor, x: Tensor, epsilon: float, clip: bool = True) -> Tensor:
    """The nearest point to x_adv in the L-infinity ball of radius epsilon around x, and in 0..1 if `clip`."""
    ball = torch.min(torch.max(x_adv, x - epsilon), x + epsilon)
    return ball.clamp(0, 1) if clip else ball
