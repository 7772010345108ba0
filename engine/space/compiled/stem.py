"""The stem of a supernet as one differentiable operation, computed by the compiled kernels (kernels/stem.c)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.space.compiled.calls import StemKept, stem_backward, stem_forward
from engine.space.compiled.once import PLAIN, refuse_second_derivative


class Stem(torch.autograd.Function):
    """The autograd function of the stem. `calls.stem_forward` describes its arguments. It can be differentiated only once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, channels: int, buffers: Tensor | None) -> Tensor:
        """Return the maps [C, H, W, B]."""
        out, kept = stem_forward(x, weights, channels, buffers)
        ctx.save_for_backward(x, weights, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return one gradient per argument of `forward`, or None if a gradient is not needed. g is the result's gradient."""
        return *_StemGradients.apply(g, *ctx.saved_tensors, ctx), None, None  # type: ignore[no-untyped-call]


class _StemGradients(torch.autograd.Function):
    """The backward pass of the stem. It is an autograd function so that a second derivative raises an error."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weights: Tensor, y: Tensor, mean: Tensor, inverse: Tensor,
                forward: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weights, each None if autograd does not need it.

        `g` is the gradient of the result, and `forward` is the autograd context of `Stem`.
        """
        gradients = tuple(torch.empty_like(each) if wanted else None
                          for each, wanted in zip((x, weights), forward.needs_input_grad, strict=False))
        stem_backward(g.contiguous(), x, weights, StemKept(y, mean, inverse), *gradients)
        return gradients

    backward = staticmethod(refuse_second_derivative("stem", PLAIN))
