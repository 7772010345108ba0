"""Depthwise convolution whose input gradient at stride 1 is a forward convolution with the kernel turned by 180 degrees.

PyTorch's own input gradient of a dilated depthwise convolution is many times slower than a forward pass on a CPU, and an
attack computes nothing but input gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Depthwise convolution with "same" padding.

    Args:
        x: [B, G, H, W].
        weight: any shape with G * K * K entries whose last is K, odd: one K x K kernel per channel, in order.
        stride: 1 or 2.
        dilation: 1 or 2.

    Returns:
        [B, G, ceil(H / stride), ceil(W / stride)]; differentiable twice.
    """
    kernel = weight.shape[-1]
    if stride == dilation == 2:  # reads every second pixel in either direction and nothing else
        memory = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
        x, stride, dilation = x[:, :, ::2, ::2].contiguous(memory_format=memory), 1, 1
    return _Depthwise.apply(x, weight.reshape(-1, 1, kernel, kernel), stride, dilation)


class _Depthwise(torch.autograd.Function):
    """`depthwise` with weight [G, 1, K, K]. Its backward is made of differentiable operations, hence no once_differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation, ctx.padding = stride, dilation, dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, None, stride, ctx.padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of x and weight, each only where it is asked for; itself differentiable."""
        x, weight = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        g = gradients[0]
        if _is_channels_last(x):
            g = g.contiguous(memory_format=torch.channels_last)
        gx = gweight = None
        if ctx.stride == 1 and wants_x:
            gx = _Depthwise.apply(g, weight.flip(2, 3), 1, ctx.dilation)
        if wants_weight or (wants_x and gx is None):
            found = torch.ops.aten.convolution_backward(
                g, x, weight, None, [ctx.stride] * 2, [ctx.padding] * 2, [ctx.dilation] * 2, False, [0, 0], weight.shape[0],
                [wants_x and gx is None, wants_weight, False])
            gx, gweight = found[0] if gx is None else gx, found[1]
        return gx, gweight, None, None


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
