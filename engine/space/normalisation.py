"""BatchNorm on a flat vector of running statistics: batch or running statistics, updated or not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MOMENTUM = 0.1  # of the running statistics, as in nn.BatchNorm2d
EPSILON = 1e-5


@dataclass(frozen=True)
class Normalisation:
    """The behaviour of all BatchNorms in one pass.

    Attributes:
        views: "<name>.mean" and "<name>.variance" -> view of the flat buffer vector; None if the pass uses no buffers.
        running: normalise with the running statistics instead of the batch's.
        cells: prefix of a cell -> its slice of the flat buffer vector; None if the pass uses no buffers.
    """

    views: dict[str, Tensor] | None
    running: bool
    cells: dict[str, Tensor] | None = None

    def statistics(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        """Return a BatchNorm's running mean and variance, one entry per channel, or (None, None) without buffers."""
        if self.views is None:
            return None, None
        return self.views[name + ".mean"].view(-1), self.views[name + ".variance"].view(-1)

    def maps(self, x: Tensor, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None = None,
             bias: Tensor | None = None) -> Tensor:
        """Apply BatchNorm to maps [B, C, H, W]; `weight` and `bias` [C] must be contiguous."""
        if self.running or mean is None or variance is None:
            return F.batch_norm(x, mean, variance, weight, bias, not self.running, MOMENTUM, EPSILON)
        # Copies: autograd saves its arguments, and an update through any view of the flat vector would invalidate them all.
        moved = mean.clone(), variance.clone()
        y = F.batch_norm(x, *moved, weight, bias, True, MOMENTUM, EPSILON)
        mean.copy_(moved[0])
        variance.copy_(moved[1])
        return y

    def rows(self, x: Tensor, name: str) -> Tensor:
        """Apply BatchNorm to x [..., L], where each row holds all values of one channel."""
        mean, variance = self.statistics(name)
        shape = (*x.shape[:-1], 1)
        if self.running:
            assert mean is not None and variance is not None
            return (x - mean.view(shape)) * (variance.view(shape) + EPSILON).rsqrt()
        if mean is not None and variance is not None:
            _update(mean, variance, x.detach().reshape(-1, x.shape[-1]))
        # With channels as rows, BatchNorm without affine parameters is LayerNorm of each row: the same formula and epsilon,
        # several times faster on a CPU.
        return F.layer_norm(x, x.shape[-1:], None, None, EPSILON)


@torch.no_grad()
def _update(mean: Tensor, variance: Tensor, x: Tensor) -> None:
    """Move running statistics [C] towards those of x [C, L] in place, with the unbiased variance."""
    centre = x.mean(-1)
    unbiased = (x - centre[:, None]).square_().sum(-1) / (x.shape[-1] - 1)
    mean.lerp_(centre, MOMENTUM)
    variance.lerp_(unbiased, MOMENTUM)
