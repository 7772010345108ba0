"""Depthwise convolution with gradients that are fast to compute on a CPU.

PyTorch's own input gradient is slow for dilated kernels. At stride 1, this module computes the input gradient as a forward
convolution with the kernel rotated by 180 degrees. PyTorch's weight gradient is slow for 5x5 kernels and for dilated kernels.
This module assembles the weight gradient from gradients of undilated kernels with at most 3 columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL_HEIGHT = 8  # pixels; on maps below this height (measured at 4), PyTorch's fast path needs rows padded in advance


def depthwise(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Apply a depthwise convolution with "same" padding.

    Args:
        x: [B, G, H, W].
        weight: one K x K kernel per channel, K odd, in any shape with G * K * K entries whose last dimension is K.
        stride: 1 or 2.
        dilation: 1 or 2.

    Returns:
        [B, G, ceil(H / stride), ceil(W / stride)]. The result can be differentiated twice.
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
    """The autograd function that `depthwise` calls, for a weight of shape [G, 1, K, K].

    Its backward pass uses differentiable operations, so its gradients can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation, ctx.padding = stride, dilation, dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, None, stride, ctx.padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of x and weight, each None if autograd does not need it. Both are differentiable."""
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

    On a CPU, PyTorch's own weight gradient is slow for dilated kernels and for 5x5 kernels. In these cases, the gradient is
    assembled from the gradients of undilated kernels of at most 3 columns.
    """
    kernel = weight.shape[-1]
    if x.device.type == "cpu" and stride == 1 and dilation == 2 and x.shape[2] % 2 == x.shape[3] % 2 == 0:
        # A kernel with dilation 2 connects only pixels of equal row and column parity: four independent, undilated images.
        return _weight_gradient(_by_parity(g), _by_parity(x), weight, 1, 1)
    if x.device.type != "cpu" or dilation != 1 or kernel != 5:
        padding = dilation * (kernel // 2)
        return _plain_gradient(g, x, weight, (padding, padding), stride, dilation, of_weight=True)
    # The gradient of the kernel's columns 0 to 2 needs the image padded on the left, that of columns 2 to 4 on the right.
    rows = 2 if x.shape[2] < SMALL_HEIGHT else 0  # rows of padding that are added here instead of by the convolution
    left, right = (_plain_gradient(g, F.pad(x, (*sides, rows, rows)), weight[..., :3], (2 - rows, 0), stride, 1, of_weight=True)
                   for sides in ((2, 0), (0, 2)))
    return torch.cat([left, right[..., 1:]], dim=-1)


def _plain_gradient(g: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], stride: int, dilation: int, *,
                    of_weight: bool) -> Tensor:
    """Return the gradient of the weight or of x in a depthwise convolution, computed by PyTorch itself.

    Args:
        g: gradient with respect to the result.
        x: input of the convolution, [B, G, H, W].
        weight: [G, 1, K, L]. If `of_weight` is True, only its shape matters.
        padding: (rows, columns) of zeros on each side.
        stride: 1 or 2.
        dilation: 1 or 2.
        of_weight: True for the gradient of the weight, False for the gradient of x.
    """
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        g, x, weight, None, [stride] * 2, list(padding), [dilation] * 2, False, [0, 0], weight.shape[0],
        [not of_weight, of_weight, False])
    return gradients[int(of_weight)]


def _by_parity(x: Tensor) -> Tensor:
    """Split x [B, G, H, W] into four smaller maps per image, giving [4 B, G, H / 2, W / 2].

    Each of the four maps contains either the even or the odd rows, and either the even or the odd columns. The memory format of x
    is kept.
    """
    parts: Tensor = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # [B, G, H / 2, 2, W / 2, 2]
    if _is_channels_last(x):
        return parts.permute(3, 5, 0, 2, 4, 1).flatten(0, 2).permute(0, 3, 1, 2)
    return parts.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
