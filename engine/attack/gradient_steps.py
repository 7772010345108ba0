"""FGSM, PGD and MI-FGSM, in L-infinity and L2. These attacks take a fixed number of gradient steps in a ball.

* FGSM (Goodfellow et al. 2015, arXiv 1412.6572) is one step of length epsilon from the natural image. In L2, the step follows the
  normalised gradient (FGM).
* PGD (Madry et al. 2018, arXiv 1706.06083) starts at a random point.
* MI-FGSM (Dong et al. 2018, arXiv 1710.06081) starts at the natural image and accumulates gradients.

The result is the point after the last step, as in the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.attack.ball import Ball, lengths, normal, uniform
from engine.attack.declaration import L2, LINF
from engine.attack.walk import margins

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy [B] of logits [B, classes] with labels y [B]."""
    return F.cross_entropy(logits, y, reduction="none")


def margin_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return the largest other logit minus the logit of the label, [B]. The gradient does not vanish on confident networks."""
    return -margins(logits, y)


@dataclass(frozen=True)
class GradientSteps:
    """An attack that increases a loss by gradient steps. After each step, the point is projected into the ball.

    A call costs `steps` forward and `steps` backward passes.

    Attributes:
        logits: function that takes images [B, C, H, W] and returns logits [B, classes].
        ball: ball that contains the adversarial images.
        steps: number of steps.
        step_size: length of a step in the norm of the ball.
        loss: function that takes logits and labels and returns the loss [B] to increase.
        decay: decay factor of the momentum (Dong et al. 2018, equation 6); 0 for plain gradients.
        random_start: True to start at a random point of the ball, drawn from torch's global generator on the CPU.
    """

    logits: Callable[[Tensor], Tensor]
    ball: Ball
    steps: int
    step_size: float
    loss: Loss = cross_entropy
    decay: float = 0.0
    random_start: bool = False

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images.

        Args:
            x: natural images [B, C, H, W], pixels in 0..1.
            y: labels, int64 [B].

        Returns:
            Images [B, C, H, W] in the ball and in 0..1, detached from the graph.
        """
        seeds = torch.randint(2**63 - 1, (len(x),)).tolist() if self.random_start else []
        x_adv = random_point(self.ball, x, seeds) if self.random_start else x.clone()
        momentum = torch.zeros_like(x)
        for _ in range(self.steps):
            gradient = self._gradient(x_adv, y)
            momentum = self.decay * momentum + gradient / _positive(gradient.abs().sum((1, 2, 3), keepdim=True))
            x_adv = self.ball.project(x_adv + self.step_size * steepest(momentum, self.ball.norm), x)
        return x_adv

    def _gradient(self, x_adv: Tensor, y: Tensor) -> Tensor:
        point = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.loss(self.logits(point), y).sum(), point)
        return gradient


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """Return the direction of steepest ascent for each image, with length 1 in `norm`. It is 0 where the gradient is 0.

    Args:
        gradient: [B, C, H, W], of any scale.
        norm: `LINF` gives the sign of the gradient, `L2` the normalised gradient.
    """
    if norm == LINF:
        return gradient.sign()
    scaled = gradient / _positive(lengths(gradient, LINF))
    return scaled / _positive(lengths(scaled, L2))


def random_point(ball: Ball, x: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return one point per image, drawn uniformly from the ball around the image and then clipped to 0..1.

    Args:
        ball: the ball.
        x: images [B, C, H, W].
        seeds: one seed per image.
    """
    if ball.norm == LINF:
        return (x + ball.epsilon * (2 * uniform(seeds, x) - 1)).clamp(0, 1)
    # In d dimensions the share of a ball within radius r of its centre is r^d.
    radius = uniform(seeds, x[:, :1, :1, :1], purpose=1) ** (1 / x[0].numel()) if len(x) else 0
    return (x + ball.epsilon * radius * steepest(normal(seeds, x), L2)).clamp(0, 1)


def _positive(scale: Tensor) -> Tensor:
    """Replace zeros by the smallest positive normal number, so that the result can be a divisor."""
    return scale.clamp(min=torch.finfo(scale.dtype).tiny)
