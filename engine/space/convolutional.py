"""State back ends (see `engine.space.state`) for maps of any size, with PyTorch's convolutions.

`Merged` computes all edges that leave a state (an input or node of a cell) in one call. `ChannelsLast` computes one edge after
another in the channels_last format. `ChannelsLast` is faster on a CPU if the cells have many channels. In all other cases
`Merged` is faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import EDGES, PRIMITIVES
from engine.space.depthwise import depthwise
from engine.space.layout import DILATED, DILATED_KERNELS, SEPARABLE, SEPARABLE_KERNELS, SKIP, StateShape
from engine.space.normalisation import Normalisation


class Merged:
    """A `StateBackend` (implementation of single states of a cell) that computes all m edges from a state together.

    It stores feature maps as [B, C, H, W]. A depthwise convolution runs over m * C channels. The 1x1 convolutions are one
    batched matrix product.
    """

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply a 1x1 convolution with weight [O, I] to x [B, I, H, W]."""
        return F.conv2d(x.contiguous(), weight[:, :, None, None])

    def normalise(self, x: Tensor, normalisation: Normalisation, name: str) -> Tensor:
        """Apply the BatchNorm called `name` to x [B, C, H, W]. It has no affine parameters."""
        return normalisation.maps(x.contiguous(), *normalisation.statistics(name))

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """Compute what a state (an input or a node of a cell) adds to each of m later nodes.

        `StateBackend.state` describes the arguments. The result is [m, B, C, H / stride, W / stride].
        """
        h = h.contiguous()
        prefix, m, c = shape.prefix, len(shape.edges), h.shape[1]
        pools = self.normalise(pooled(h, shape.stride), normalisation, prefix + "pools")
        whole = torch.stack([*pools.chunk(2, dim=1), h] if shape.stride == 1 else pools.chunk(2, dim=1))
        total = (rows[:, :len(whole)] @ whole.flatten(1)).view(m, *whole.shape[1:])
        for name, primitives, part in self._convolutions(h, weights, shape, normalisation):
            # The softmax weights [kinds, m] serve as the last BatchNorm's weight, one entry per channel.
            scale = rows[:, primitives].t().reshape(-1, 1).repeat(1, c).view(-1)
            part = normalisation.maps(part, *normalisation.statistics(prefix + name), scale)
            part = part.view(part.shape[0], -1, m, c, *part.shape[2:])
            total = total + part.sum(1).transpose(0, 1)
        return total

    def _convolutions(self, h: Tensor, weights: Mapping[str, Tensor], shape: StateShape,
                      normalisation: Normalisation) -> list[tuple[str, slice, Tensor]]:
        """Compute the primitives that have trainable weights, on each of the m edges that leave the state h.

        The last BatchNorm of each primitive is not applied.

        Returns:
            One tuple (name, columns, x) for each group of primitives.

            name: name of the BatchNorm that is still to be applied to the group.
            columns: slice of the group's primitives in `PRIMITIVES`.
            x: input [B, kinds * m * C, H, W] of this BatchNorm, for `kinds` primitives on each of m edges.
        """
        prefix, stride, m = shape.prefix, shape.stride, len(shape.edges)
        r = F.relu(h)
        repeated = r.repeat(1, m, 1, 1)
        pointwise = weights[prefix + "pointwise"].split([len(SEPARABLE_KERNELS), len(DILATED_KERNELS)])
        first = torch.cat([depthwise(repeated, weights[f"{prefix}depthwise.{name}"], stride, 1)
                           for name, _ in SEPARABLE_KERNELS], dim=1)
        first = self.normalise(_batched_pointwise(first, pointwise[0]), normalisation, prefix + "first")
        halves = F.relu(first).chunk(len(SEPARABLE_KERNELS), dim=1)
        second = torch.cat([depthwise(half, weights[f"{prefix}second.depthwise.{name}"], 1, 1)
                            for half, (name, _) in zip(halves, SEPARABLE_KERNELS, strict=True)], dim=1)
        dilated = torch.cat([depthwise(repeated, weights[f"{prefix}depthwise.{name}"], stride, 2)
                             for name, _ in DILATED_KERNELS], dim=1)
        groups = [("separable", SEPARABLE, _batched_pointwise(second, weights[prefix + "second.pointwise"])),
                  ("dilated", DILATED, _batched_pointwise(dilated, pointwise[1]))]
        if stride == 2:
            groups.append(("reduce", SKIP, reduced(r, weights[prefix + "reduce"])))
        return groups


class ChannelsLast:
    """A `StateBackend` (implementation of single states of a cell) that makes one call per edge and primitive.

    It stores feature maps as [B, H, W, C].
    """

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply a 1x1 convolution with weight [O, I] to x [B, I, H, W]."""
        # This is a matrix product, because a convolution's backward pass would first fill its result with zeros.
        return F.linear(x.permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)

    def normalise(self, x: Tensor, normalisation: Normalisation, name: str) -> Tensor:
        """Apply the BatchNorm called `name` to x [B, C, H, W]. It has no affine parameters."""
        return normalisation.maps(_channels_last(x), *normalisation.statistics(name))

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """Compute what a state (an input or a node of a cell) adds to each of m later nodes.

        `StateBackend.state` describes the arguments. The result is [m, B, C, H / stride, W / stride].
        """
        h = _channels_last(h)
        prefix, m, c = shape.prefix, len(shape.edges), h.shape[1]
        whole = [*self.normalise(pooled(h, shape.stride), normalisation, prefix + "pools").chunk(2, dim=1)]
        if shape.stride == 1:
            whole.append(h)
        batch, _, height, width = whole[0].shape
        total = rows[:, :len(whole)] @ torch.stack([part.permute(0, 2, 3, 1) for part in whole]).view(len(whole), -1)
        groups = self._convolutions(F.relu(h), weights, shape, normalisation)
        # The softmax weights serve as the last BatchNorm's weight. They are repeated because an expanded tensor (stride 0) breaks
        # batch_norm's backward on CPUs, and unbound because unbind's backward is one stack, while that of indexing would fill a
        # zeroed tensor of full size each time.
        scales = rows.t().reshape(-1, 1).repeat(1, c).unbind()
        weighted = []
        for name, primitives, parts in groups:
            statistics = _statistics(normalisation, prefix + name, c)
            first = m * range(len(PRIMITIVES))[primitives][0]
            weighted += [normalisation.maps(_channels_last(part), *statistics[i], scales[first + i])
                         for i, part in enumerate(parts)]
        weighted_sum: Tensor = _Accumulated.apply(total, *weighted)  # type: ignore[no-untyped-call]
        return weighted_sum.view(m, batch, height, width, c).permute(0, 1, 4, 2, 3)

    def _convolutions(self, r: Tensor, weights: Mapping[str, Tensor], shape: StateShape,
                      normalisation: Normalisation) -> list[tuple[str, slice, list[Tensor]]]:
        """Compute the primitives that have trainable weights, on each of the m edges that leave a state.

        The last BatchNorm of each primitive is not applied.

        Args:
            r: the state after a ReLU, [B, C, H, W].
            weights: views of the flat weight vector, keyed by name.
            shape: the state's names, edges and stride.
            normalisation: the statistics to use and to update.

        Returns:
            One tuple (name, columns, parts) for each group of primitives.

            name: name of the BatchNorm that is still to be applied to the group.
            columns: slice of the group's primitives in `PRIMITIVES`.
            parts: inputs [B, C, H / stride, W / stride] of this BatchNorm, ordered by primitive and then by edge.
        """
        prefix, m, c = shape.prefix, len(shape.edges), r.shape[1]
        pointwise = weights[prefix + "pointwise"].flatten(0, 1).unbind()
        again = weights[prefix + "second.pointwise"].flatten(0, 1).unbind()
        statistics = _statistics(normalisation, prefix + "first", c)
        separable = []
        for k, (name, _) in enumerate(SEPARABLE_KERNELS):
            kernels = weights[f"{prefix}depthwise.{name}"].unbind()
            second = weights[f"{prefix}second.depthwise.{name}"].unbind()
            for e in range(m):
                y = self.project(depthwise(r, kernels[e], shape.stride, 1), pointwise[k * m + e])
                y = F.relu(normalisation.maps(y, *statistics[k * m + e]))
                separable.append(self.project(depthwise(y, second[e], 1, 1), again[k * m + e]))
        offset = len(SEPARABLE_KERNELS) * m
        dilated = [self.project(depthwise(r, kernel, shape.stride, 2), pointwise[offset + k * m + e])
                   for k, (name, _) in enumerate(DILATED_KERNELS)
                   for e, kernel in enumerate(weights[f"{prefix}depthwise.{name}"].unbind())]
        groups = [("separable", SEPARABLE, separable), ("dilated", DILATED, dilated)]
        if shape.stride == 2:
            groups.append(("reduce", SKIP, self._reduced(r, weights[prefix + "reduce"])))
        return groups

    def _reduced(self, r: Tensor, weight: Tensor) -> list[Tensor]:
        """Return the result of `reduced` as a list with one tensor [B, O, H / 2, W / 2] per edge."""
        m = weight.shape[1]
        halves = [self.project(_channels_last(r[:, :, shift::2, shift::2]), part.flatten(0, 1)).chunk(m, dim=1)
                  for shift, part in enumerate(weight.unbind())]
        return [torch.cat(pair, dim=1) for pair in zip(*halves, strict=True)]


class _Accumulated(torch.autograd.Function):
    """The autograd function of an in-place addition: maps [B, C, H, W] are added to a total [m, B * H * W * C].

    Row j of the total belongs to edge j of m edges. Map i is added to row i mod m. The operation can be differentiated twice. In
    the backward pass, all maps of an edge receive views of one gradient instead of copies.
    """

    @staticmethod
    def forward(ctx: Any, total: Tensor, *maps: Tensor) -> Tensor:
        ctx.shape = maps[0].permute(0, 2, 3, 1).shape
        ctx.mark_dirty(total)
        for i, part in enumerate(maps):
            total[i % len(total)].view(ctx.shape).add_(part.permute(0, 2, 3, 1))
        ctx.count = len(maps)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of `total` and of all maps.

        The gradient of a map is a view of one row of the gradient of `total`.
        """
        g, = gradients
        edges = [row.view(ctx.shape).permute(0, 3, 1, 2) for row in g.contiguous().unbind()]
        return g, *(edges[i % len(edges)] for i in range(ctx.count))


def pooled(h: Tensor, stride: int) -> Tensor:
    """Return the 3x3 max pool and the 3x3 average pool of h [B, C, H, W], concatenated to [B, 2 C, H / stride, W / stride]."""
    return torch.cat([F.max_pool2d(h, 3, stride, 1), F.avg_pool2d(h, 3, stride, 1, count_include_pad=False)], dim=1)


def reduced(r: Tensor, weight: Tensor) -> Tensor:
    """Compute the factorized reductions of m edges, without BatchNorm.

    Args:
        r: [B, C, H, W], after the ReLU.
        weight: [2, m, O / 2, C], where O is the number of output channels. weight[0] computes the first half of the output
            channels. weight[1] computes the second half, from maps shifted by one pixel.

    Returns:
        [B, m * O, H / 2, W / 2].
    """
    m = weight.shape[1]
    halves = [F.conv2d(r[:, :, shift:, shift:], part.flatten(0, 1)[:, :, None, None], stride=2)
              for shift, part in enumerate(weight)]
    return torch.cat([half.unflatten(1, (m, -1)) for half in halves], dim=2).flatten(1, 2)


def _batched_pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Apply each 1x1 convolution in weight [kinds, m, C, C] to its own block of C channels in x.

    Args:
        x: [B, kinds * m * C, H, W], for `kinds` primitives on each of m edges.
        weight: one matrix [C, C] per primitive and edge.
    """
    blocks = weight.flatten(0, 1)
    batch, _, height, width = x.shape
    return (blocks @ x.view(batch, blocks.shape[0], blocks.shape[2], height * width)).view(batch, -1, height, width)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _statistics(normalisation: Normalisation, name: str, c: int) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return one pair of running statistics for each block of c channels of the BatchNorm `name`.

    Returns:
        A list of pairs (mean, variance), [c] each. Without running statistics, every pair is (None, None), and the list may be
        longer than necessary.
    """
    mean, variance = normalisation.statistics(name)
    if mean is None or variance is None:
        return [(None, None)] * (len(PRIMITIVES) * len(EDGES))
    return list(zip(mean.split(c), variance.split(c), strict=True))
