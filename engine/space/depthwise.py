"""Depthwise convolution whose gradients are built from operations that PyTorch computes fast on a CPU.

The input gradient at stride 1 is a forward convolution with the kernel rotated by 180 degrees: PyTorch's own is many times
slower for dilated kernels, and attacks compute only input gradients. The weight gradients of 5x5 and of dilated kernels are
assembled from those of undilated kernels with at most 3 columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL_HEIGHT = 8  # pixels; below this, PyTorch's fast path needs the rows padded in advance (measured at 4)


def depthwise(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Apply a depthwise convolution with "same" padding.

    Args:
        x: [B, G, H, W].
        weight: one K x K kernel per channel, K odd: any shape with G * K * K entries whose last dimension is K.
        stride: 1 or 2.
        dilation: 1 or 2.

    Returns:
        [B, G, ceil(H / stride), ceil(W / stride)]; differentiable twice.
    """
    kernel = weight.shape[-1]
    device = x.device.type
    # Autocast does not apply inside a custom autograd function.
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
    if stride == dilation == 2:  # reads only every second pixel in each direction
        memory = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
        x, stride, dilation = x[:, :, ::2, ::2].contiguous(memory_format=memory), 1, 1
    y: Tensor = _Depthwise.apply(x, weight.reshape(-1, 1, kernel, kernel), stride, dilation)  # type: ignore[no-untyped-call]
    return y


class _Depthwise(torch.autograd.Function):
    """`depthwise` with weight [G, 1, K, K]; its backward uses differentiable operations, so it can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation, ctx.padding = stride, dilation, dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, None, stride, ctx.padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of x and weight, each only if needed; differentiable."""
        x, weight = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        g = gradients[0]
        if _is_channels_last(x):
            g = g.contiguous(memory_format=torch.channels_last)
        gx = gweight = None
        if wants_x and ctx.stride == 1:
            gx = _Depthwise.apply(g, weight.flip(2, 3), 1, ctx.dilation)  # type: ignore[no-untyped-call]
        elif wants_x:
            gx = _plain_gradient(g, x, weight, (ctx.padding, ctx.padding), ctx.stride, ctx.dilation, of_weight=False)
        if wants_weight:
            gweight = _weight_gradient(g, x, weight, ctx.stride, ctx.dilation)
        return gx, gweight, None, None


def _weight_gradient(g: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Return the gradient [G, 1, K, K] of the weight.

    PyTorch's own is fast on a CPU only for undilated kernels of at most 3 columns on maps that are not small; otherwise it is up
    to ten times slower. Larger and dilated kernels are therefore reduced to that case: each entry of the gradient is an
    independent sum, so a kernel can be split into smaller ones.
    """
    kernel = weight.shape[-1]
    if x.device.type == "cpu" and stride == 1 and dilation == 2 and x.shape[2] % 2 == x.shape[3] % 2 == 0:
        # Pixels meet only pixels of the same row and column parity: four independent undilated images.
        return _weight_gradient(_by_parity(g), _by_parity(x), weight, 1, 1)
    if x.device.type != "cpu" or dilation != 1 or kernel != 5:
        padding = dilation * (kernel // 2)
        return _plain_gradient(g, x, weight, (padding, padding), stride, dilation, of_weight=True)
    # Columns 0 to 2 and 2 to 4 of the kernel, each with the image padded on its own side.
    rows = 2 if x.shape[2] < SMALL_HEIGHT else 0  # rows of padding added in advance instead of by the convolution
    left, right = (_plain_gradient(g, F.pad(x, (*sides, rows, rows)), weight[..., :3], (2 - rows, 0), stride, 1, of_weight=True)
                   for sides in ((2, 0), (0, 2)))
    return torch.cat([left, right[..., 1:]], dim=-1)


def _plain_gradient(g: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], stride: int, dilation: int, *,
                    of_weight: bool) -> Tensor:
    """Return PyTorch's gradient of x or of weight [G, 1, K, L]; the latter does not depend on the weight's values."""
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        g, x, weight, None, [stride] * 2, list(padding), [dilation] * 2, False, [0, 0], weight.shape[0],
        [not of_weight, of_weight, False])
    return gradients[int(of_weight)]


def _by_parity(x: Tensor) -> Tensor:
    """Split x [B, G, H, W] by row and column parity into [4 B, G, H / 2, W / 2], keeping its memory format."""
    parts: Tensor = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # [B, G, H / 2, 2, W / 2, 2]
    if _is_channels_last(x):
        return parts.permute(3, 5, 0, 2, 4, 1).flatten(0, 2).permute(0, 3, 1, 2)
    return parts.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
