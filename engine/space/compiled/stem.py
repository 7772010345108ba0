"""The stem of a supernet as one differentiable operation, computed by the compiled kernels (kernels/stem.c)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from engine.space.compiled.build import library
from engine.space.compiled.memory import DTYPES, SCRATCH, Memory, address
from engine.space.compiled.once import PLAIN, refuse_second_derivative


class _Stem(ctypes.Structure):
    """The struct `Stem` of kernels/stem.c."""

    _fields_ = [(name, ctypes.c_long) for name in ("channels", "inputs", "height", "width", "batch")]


class Stem(torch.autograd.Function):
    """The autograd function of the stem: a 3x3 convolution and BatchNorm with affine parameters.

    Arguments of `forward`:
        x: normalised images [I, H, W, B].
        weights: the stem's slice [n] of the flat weight vector.
        channels: number of channels C of the result.
        buffers: the stem's slice of the flat vector of BatchNorm's running statistics; None if the pass has none.

    The result is [C, H, W, B]. It can be differentiated only once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, channels: int, buffers: Tensor | None) -> Tensor:
        """Return the maps. The class docstring describes the arguments."""
        ctx.stem, kernels = _Stem(channels, *x.shape), library(DTYPES[x.dtype])
        out, y = (x.new_empty(channels, *x.shape[1:]) for _ in range(2))
        mean, inverse = (x.new_empty(channels) for _ in range(2))
        scratch = _scratch(ctx.stem, x.dtype)
        kernels.stem_forward(ctypes.byref(ctx.stem),
                             *map(address, (x, weights, buffers, out, y, mean, inverse, scratch.tensor)))
        ctx.save_for_backward(x, weights, y, mean, inverse)
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
        g = g.contiguous()  # keeps g alive: the kernels get only its address
        gradients = tuple(torch.empty_like(each) if wanted else None
                          for each, wanted in zip((x, weights), forward.needs_input_grad, strict=False))
        scratch = _scratch(forward.stem, x.dtype)
        library(DTYPES[x.dtype]).stem_backward(
            ctypes.byref(forward.stem), *map(address, (g, x, weights, y, mean, inverse, *gradients, scratch.tensor)))
        return gradients

    backward = staticmethod(refuse_second_derivative("stem", PLAIN))


def _scratch(stem: _Stem, dtype: torch.dtype) -> Memory:
    """Return scratch memory for a pass of the stem, forward or backward. Keep it until the call of the kernels has returned."""
    function = library(DTYPES[dtype]).stem_scratch_bytes
    function.restype = ctypes.c_size_t
    return Memory(SCRATCH, int(function(ctypes.byref(stem))), torch.uint8)
