"""A state back end for small maps, in which every depthwise convolution is a product with a [pixels out, pixels in] matrix.

On maps of at most 8x8 pixels, the product is faster than the convolution although it needs a few times more multiplications,
because large matrix products run at the machine's full speed. The same holds for the gradients and for dilated convolutions.

Maps are stored as [C, H, W, B]. In this layout, the depthwise convolutions of all edges that leave a state (an input or node of a
cell) are one product per channel. 1x1 convolutions are plain matrix products, and BatchNorm normalises contiguous rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.space.layout import DILATED, DILATED_KERNELS, SEPARABLE, SEPARABLE_KERNELS, SKIP, StateShape
from engine.space.normalisation import Normalisation

LARGEST_MAP = 64  # pixels; on larger maps, the extra multiplications of the matrices cost more than they save


class Dense:
    """A `StateBackend` (implementation of single states of a cell) that computes depthwise convolutions as dense matrix products.

    It stores feature maps as [C, H, W, B].
    """

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply a 1x1 convolution with weight [O, I] to x [B, I, H, W]."""
        chwb = _chwb(x)
        return (weight @ chwb.view(chwb.shape[0], -1)).view(-1, *chwb.shape[1:]).permute(3, 0, 1, 2)

    def normalise(self, x: Tensor, normalisation: Normalisation, name: str) -> Tensor:
        """Apply the BatchNorm called `name` to x [B, C, H, W]. It has no affine parameters."""
        chwb = _chwb(x)
        return normalisation.rows(chwb.view(chwb.shape[0], -1), name).view(chwb.shape).permute(3, 0, 1, 2)

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """Compute what a state (an input or a node of a cell) adds to each of m later nodes.

        `StateBackend.state` describes the arguments. The result is [m, B, C, H / stride, W / stride].
        """
        h = _chwb(h)
        c, height, width, batch = h.shape
        m, stride, prefix = len(shape.edges), shape.stride, shape.prefix
        out = (c, height // stride, width // stride, batch)
        r = F.relu(h)
        whole = normalisation.rows(_pools(h, stride), prefix + "pools").view(2, -1)
        if stride == 1:
            whole = torch.cat([whole, h.view(1, -1)])
        total = rows[:, :len(whole)] @ whole  # [m, C H W B]
        for name, primitives, part in _convolutions(r, weights, shape, normalisation):
            part = normalisation.rows(part, prefix + name)  # [kinds, m, C, H W B]
            scale = rows[:, primitives].t()[..., None, None]  # [kinds, m, 1, 1]
            total = total + (scale * part).sum(0).view(m, -1)
        return total.view(m, *out).permute(0, 4, 1, 2, 3)


def _convolutions(r: Tensor, weights: Mapping[str, Tensor], shape: StateShape,
                  normalisation: Normalisation) -> list[tuple[str, slice, Tensor]]:
    """Compute the primitives that have trainable weights, on each of the m edges that leave a state.

    The last BatchNorm of each primitive is not applied.

    Args:
        r: the state (an input or a node of a cell) after a ReLU, [C, H, W, B].
        weights: views of the flat weight vector, keyed by name.
        shape: the state's names, edges and stride.
        normalisation: the statistics to use and to update.

    Returns:
        One tuple (name, columns, x) for each group of primitives.

        name: name of the BatchNorm that is still to be applied to the group.
        columns: slice of the group's primitives in `PRIMITIVES`.
        x: input [kinds, m, C, L] of this BatchNorm, for `kinds` primitives on each of m edges. L counts the output's pixels in
            all images.
    """
    prefix, stride, m = shape.prefix, shape.stride, len(shape.edges)
    c, height, width, batch = r.shape
    size = (height, width)
    pointwise = weights[prefix + "pointwise"].split([len(SEPARABLE_KERNELS), len(DILATED_KERNELS)])

    def kernels(where: str, group: Sequence[tuple[str, int]]) -> list[Tensor]:
        return [weights[f"{prefix}{where}depthwise.{name}"] for name, _ in group]

    first = _depthwise_of_one(r.view(c, -1, batch), kernels("", SEPARABLE_KERNELS), size, stride, 1)
    first = (pointwise[0].flatten(0, 1) @ first).view(len(SEPARABLE_KERNELS), m, c, -1)
    second = F.relu(normalisation.rows(first, prefix + "first")).view(-1, height * width // stride**2, batch)
    second = _depthwise_of_each(second, kernels("second.", SEPARABLE_KERNELS), (height // stride, width // stride))
    second = weights[prefix + "second.pointwise"].flatten(0, 1) @ second.view(-1, c, second.shape[1] * batch)
    dilated = _depthwise_of_one(r.view(c, -1, batch), kernels("", DILATED_KERNELS), size, stride, 2)
    dilated = pointwise[1].flatten(0, 1) @ dilated
    parts = [("separable", SEPARABLE, second.view(len(SEPARABLE_KERNELS), m, c, -1)),
             ("dilated", DILATED, dilated.view(len(DILATED_KERNELS), m, c, -1))]
    if stride == 2:
        halves = [(weight.flatten(0, 1) @ r[:, shift::2, shift::2].reshape(c, -1)).view(m, c // 2, -1)
                  for shift, weight in enumerate(weights[prefix + "reduce"])]
        parts.append(("reduce", SKIP, torch.cat(halves, dim=1).unsqueeze(0)))
    return parts


def _chwb(x: Tensor) -> Tensor:
    """Return feature maps [B, C, H, W] as contiguous [C, H, W, B], without a copy if they are already stored that way."""
    return x.permute(1, 2, 3, 0).contiguous()


def _pools(h: Tensor, stride: int) -> Tensor:
    """Return the 3x3 max pool and the 3x3 average pool of h [C, H, W, B] as [2, C, L], where L counts pixels in all images."""
    # The pools see C images with B channels in channels_last format. They need no copy and take their fast path.
    maximum = F.max_pool2d(h.permute(0, 3, 1, 2), 3, stride, 1).permute(0, 2, 3, 1)
    average = F.avg_pool2d(h.permute(0, 3, 1, 2), 3, stride, 1, count_include_pad=False).permute(0, 2, 3, 1)
    return torch.stack([maximum, average]).view(2, h.shape[0], -1)


def _depthwise_of_one(r: Tensor, kernels: Sequence[Tensor], size: tuple[int, int], stride: int, dilation: int) -> Tensor:
    """Apply the depthwise kernels of m edges to the same maps.

    Args:
        r: the maps, [C, pixels, B].
        kernels: one tensor [m, C, K, K] per kind of primitive.
        size: (height, width) of the maps.
        stride: 1 or 2.
        dilation: 1 or 2.

    Returns:
        A strided view [kinds * m, C, L], where L counts the output's pixels in all images.
    """
    c, pixels, batch = r.shape
    matrices = [kernel.transpose(0, 1).reshape(c, -1, kernel.shape[-1] ** 2)
                @ taps(kernel.shape[-1], size, stride, dilation, r.dtype, r.device) for kernel in kernels]
    matrix = torch.cat(matrices, dim=1)  # [C, kinds * m, pixels out * pixels in]
    return (matrix.view(c, -1, pixels) @ r).view(c, matrix.shape[1], -1).transpose(0, 1)


def _depthwise_of_each(x: Tensor, kernels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Convolve each channel with its own kernel, at stride 1.

    Args:
        x: the maps, [kinds * m * C, pixels, B], for `kinds` primitives on each of m edges.
        kernels: one tensor [m, C, K, K] per kind of primitive.
        size: (height, width) of the maps.
    """
    matrices = [kernel.flatten(2).flatten(0, 1) @ taps(kernel.shape[-1], size, 1, 1, x.dtype, x.device) for kernel in kernels]
    return torch.cat(matrices).view(x.shape[0], x.shape[1], x.shape[1]) @ x


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # autograd rejects a matrix cached in inference mode
def taps(kernel: int, size: tuple[int, int], stride: int, dilation: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a matrix of zeros and ones that shows which pixels each entry of a depthwise kernel connects.

    The product `kernels [.., K * K] @ taps` turns each kernel into a flattened matrix [pixels out, pixels in]. Multiplying by
    this matrix computes the convolution with that kernel, with "same" padding.

    Args:
        kernel: K, odd.
        size: (height, width) of the input; multiples of the stride.
        stride: 1 or 2.
        dilation: 1 or 2.
        dtype, device: dtype and device of the result.

    Returns:
        [K * K, pixels out * pixels in].
    """
    height, width = size
    outputs = (height // stride) * (width // stride)
    joins = torch.zeros(kernel * kernel, outputs, height * width, dtype=dtype)
    reach = kernel // 2
    for tap in range(kernel * kernel):
        down, right = dilation * (tap // kernel - reach), dilation * (tap % kernel - reach)
        for pixel in range(outputs):
            y = stride * (pixel // (width // stride)) + down
            x = stride * (pixel % (width // stride)) + right
            if 0 <= y < height and 0 <= x < width:
                joins[tap, pixel, y * width + x] = 1
    return joins.view(kernel * kernel, -1).to(device)
