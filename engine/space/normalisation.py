"""BatchNorm with running statistics that are packed in a flat vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MOMENTUM = 0.1  # fraction by which an update moves the running statistics, as in nn.BatchNorm2d
EPSILON = 1e-5


@dataclass(frozen=True)
class Normalisation:
    """The statistics that all BatchNorms use and update in one forward pass.

    A pass that normalises with running statistics updates nothing. A pass that normalises with the batch's statistics updates the
    running statistics, if there are any.

    Attributes:
        views: views of the flat vector of running statistics, keyed by "NAME.mean" and "NAME.variance" for the BatchNorm NAME;
            None if the pass has no running statistics.
        running: True to normalise with the running statistics, False to use the batch's.
        parts: slices of the flat vector of running statistics for the stem and for each cell, keyed by the prefix of their names;
            None if the pass has no running statistics.
    """

    views: dict[str, Tensor] | None
    running: bool
    parts: dict[str, Tensor] | None = None

    def statistics(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        """Return the running statistics of one BatchNorm. Both are None if the forward pass has no running statistics.

        Returns:
            mean: running mean, [channels].
            variance: running variance, [channels].
        """
        if self.views is None:
            return None, None
        return self.views[name + ".mean"].view(-1), self.views[name + ".variance"].view(-1)

    def maps(self, x: Tensor, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None = None,
             bias: Tensor | None = None) -> Tensor:
        """Apply BatchNorm to maps [B, C, H, W].

        If the forward pass normalises with the batch's statistics, the running statistics are updated.

        Args:
            x: the maps.
            mean, variance: running statistics [C]; None if the pass has no running statistics.
            weight, bias: scale and shift [C], which must be contiguous; None for 1 and 0.
        """
        if self.running or mean is None or variance is None:
            return F.batch_norm(x, mean, variance, weight, bias, not self.running, MOMENTUM, EPSILON)
        # Autograd saves the tensors that it gets, and an update through any view of the flat vector would invalidate them
        # all. Therefore it gets copies.
        moved = mean.clone(), variance.clone()
        y = F.batch_norm(x, *moved, weight, bias, True, MOMENTUM, EPSILON)
        mean.copy_(moved[0])
        variance.copy_(moved[1])
        return y

    def rows(self, x: Tensor, name: str) -> Tensor:
        """Apply BatchNorm without affine parameters to x [..., L], where each row holds all values of one channel.

        If the forward pass normalises with the batch's statistics, the running statistics called `name` are updated.
        """
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
    """Move running statistics [C] in place towards the mean and the unbiased variance of x [C, L]."""
    centre = x.mean(-1)
    unbiased = (x - centre[:, None]).square_().sum(-1) / (x.shape[-1] - 1)
    mean.lerp_(centre, MOMENTUM)
    variance.lerp_(unbiased, MOMENTUM)
