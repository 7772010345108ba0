"""The part of a batch that one of several processes computes, and BatchNorm over the parts of all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """The part of a batch that one process computes.

    Attributes:
        images: number of images in the whole batch.
        rows: the images of this part, as positions in the whole batch.
        share: weight of this part. A mean over the whole batch is the sum, over all processes, of the share times the mean over
            the part.
        process: number of the process, from 0.
        processes: number of processes.
    """

    images: int
    rows: slice
    share: float = 1.0
    process: int = 0
    processes: int = 1

    @property
    def own(self) -> int:
        """Number of images in this part."""
        return int(self.rows.stop - self.rows.start)

    @property
    def weight(self) -> float:
        """Factor for sums. The sum over the whole batch is that of this factor times the sum over the part, in all processes."""
        return self.share * self.images / self.own

    def draw(self, draw: Callable[[tuple[int, ...]], Tensor], shape: Sequence[int] = ()) -> Tensor:
        """Draw random numbers [images, *shape] for the whole batch, and return those of this part.

        Every process draws the numbers of all images, so that an image gets the same numbers as with one process.
        """
        return draw((self.images, *shape))[self.rows]


def whole(images: int) -> Part:
    """Return the only part of a batch that one process computes alone."""
    return Part(images, slice(0, images))


def part_of(images: int, process: int, processes: int) -> Part:
    """Return the part of a batch that one process computes.

    The images are divided evenly, up to one image. A batch with fewer than two images for each process is not divided: every
    process computes all of it, because BatchNorm cannot train on a single image.
    """
    if images < 2 * processes:
        return Part(images, slice(0, images), 1 / processes, process, processes)
    first, last = (images * number // processes for number in (process, process + 1))
    return Part(images, slice(first, last), (last - first) / images, process, processes)


def tell_part(modules: Sequence[nn.Module], part: Part) -> None:
    """Set the attribute `part` of all modules that have one, before a pass on images of this part."""
    for module in modules:
        module.part = part  # type: ignore[assignment]


class SynchronisedNorm(nn.BatchNorm2d):
    """BatchNorm that, in training mode, normalises by the statistics of the whole batch instead of those of one part.

    Forward and backward pass make one all-reduce each. In evaluation mode it is BatchNorm, without communication.

    Attributes:
        part: the part of the batch in the next pass in training mode.
    """

    part: Part

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the base class's name)
        if not self.training:
            return super().forward(input)
        y = self.standardised(input.float() if input.dtype == torch.bfloat16 else input, (0, 2, 3))
        return (y * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    def standardised(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Normalise x by the whole batch's mean and variance of each channel, and update the running statistics.

        Args:
            x: maps of this part in any layout.
            dims: all dimensions of x except the channels.
        """
        y, mean, variance = _Standardised.apply(x, dims, self.part, self.eps)  # type: ignore[no-untyped-call]
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        values = y.numel() // len(mean) * self.part.images // self.part.own
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (values / max(values - 1, 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        standardised: Tensor = y
        return standardised


class _Standardised(torch.autograd.Function):
    """(x - mean) / sqrt(variance + epsilon), with mean and variance [C] over the parts of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], part: Part, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(x, dims, correction=0)
        channels = len(mean)
        # One row for each process. A sum with zeros is exact, so that every process has the same numbers.
        rows = mean.new_zeros(part.processes, 2 * channels + 1)
        rows[part.process] = torch.cat([mean, variance, mean.new_full((1,), part.share)])
        torch.distributed.all_reduce(rows)
        means, variances, shares = rows.split([channels, channels, 1], 1)
        mean = (shares * means).sum(0)
        # A sum of squares would lose digits (Chan, Golub and LeVeque 1983).
        variance = (shares * (variances + (means - mean).square())).sum(0)
        shape = tuple(1 if dim in dims else channels for dim in range(x.dim()))
        scale = (variance + epsilon).rsqrt().view(shape)
        y = (x - mean.view(shape)) * scale
        ctx.save_for_backward(y, scale)
        ctx.dims, ctx.share = dims, part.share
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor, None, None, None]:
        y, scale = ctx.saved_tensors
        sums = torch.stack([gradient.sum(ctx.dims), (gradient * y).sum(ctx.dims)])
        torch.distributed.all_reduce(sums)
        values = y.numel() / sums.shape[1] / ctx.share  # over all processes
        mean, product = (sums / values).view(2, *scale.shape)
        return (gradient - mean - y * product) * scale, None, None, None


def with_synchronised_norms(network: nn.Module) -> nn.Module:
    """Switch all BatchNorms of a network to `SynchronisedNorm` in place, and return it.

    Parameters, buffers and their names stay the same.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedNorm
            module.part = whole(0)  # type: ignore[assignment]
    return network
