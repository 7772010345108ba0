"""The compiled back end, and a supernet cell as one differentiable operation, computed by the kernels (kernels/cell.c).

A supernet whose cells are all compiled is computed as a whole instead (`whole.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.space.compiled.build import unavailable
from engine.space.compiled.calls import cell_backward, cell_forward
from engine.space.compiled.memory import DTYPES, check_alike
from engine.space.compiled.once import PLAIN, refuse_second_derivative
from engine.space.compiled.stem import Stem
from engine.space.layout import CellShape, Layout
from engine.space.normalisation import Normalisation


class Compiled:
    """A back end (implementation of the supernet's stem and cells) that computes each of them in one call of the kernels.

    It stores feature maps as [C, H, W, B]. See `engine.space.state.Backend` for its methods.
    """

    twice = False
    rectifies = True

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Return True if the kernels support this cell with tensors like x and this normalisation.

        They need tensors of float32 or float64 on a CPU, normalisation with the batch's statistics, and operations that act on
        all channels.
        """
        return (cell.partial == 1 and x.device.type == "cpu" and x.dtype in DTYPES and not normalisation.running
                and unavailable(DTYPES[x.dtype]) is None)

    def stem(self, layout: Layout, x: Tensor, weights: Tensor, normalisation: Normalisation) -> Tensor:
        """Compute the stem. The output can be differentiated only once. `Backend.stem` describes the arguments.

        Raises:
            ConfigError: tensors have different dtypes or devices, or BatchNorm's running statistics are not contiguous.
        """
        buffers = normalisation.parts["stem."] if normalisation.parts else None
        check_alike(x, weights=weights, buffers=buffers)
        channels = layout.entries[0].shape[0]
        out: Tensor = Stem.apply(x.permute(1, 2, 3, 0).contiguous(), weights.contiguous(), channels, buffers)  # type: ignore[no-untyped-call]
        return out.permute(3, 0, 1, 2)

    def cell(self, cell: CellShape, layout: Layout, before_last: Tensor, last: Tensor, weights: Tensor, rows: Tensor,
             normalisation: Normalisation) -> Tensor:
        """Compute the output of a cell. The output can be differentiated only once. `Backend.cell` describes the arguments.

        Raises:
            ConfigError: tensors have different dtypes or devices, or BatchNorm's running statistics are not contiguous.
        """
        x0, x1 = (x.permute(1, 2, 3, 0).contiguous() for x in (before_last, last))
        buffers = normalisation.parts[cell.prefix] if normalisation.parts else None
        check_alike(last, weights=weights, alphas=rows, buffers=buffers)
        out: Tensor = _CellFunction.apply(cell, x0, x1, weights.contiguous(), rows.contiguous(), buffers)  # type: ignore[no-untyped-call]
        return out.permute(3, 0, 1, 2)


class _CellFunction(torch.autograd.Function):
    """The autograd function of a cell. `calls.cell_forward` describes its arguments and result."""

    @staticmethod
    def forward(ctx: Any, cell: CellShape, x0: Tensor, x1: Tensor, weights: Tensor, rows: Tensor,
                buffers: Tensor | None) -> Tensor:
        """Return the output of the cell."""
        out, kept = cell_forward(cell, x0, x1, weights, rows, buffers)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x0, x1, weights, rows, out)
            ctx.kept, ctx.cell = kept, cell
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return one gradient per argument of `forward`, or None if a gradient is not needed. g is the output's gradient."""
        return None, *_CellGradients.apply(g, *ctx.saved_tensors, ctx), None  # type: ignore[no-untyped-call]


class _CellGradients(torch.autograd.Function):
    """The backward pass of a cell: a function of the output's gradient g and the cell's arguments.

    It is an autograd function so that a second derivative raises an error.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x0: Tensor, x1: Tensor, weights: Tensor, rows: Tensor, out: Tensor,
                forward: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients of x0, x1, weights and rows, each None if autograd does not need it.

        `g` is the gradient of the output `out`, and `forward` is the autograd context of the cell's `_CellFunction`.
        """
        inputs = (x0, x1, weights, rows)
        gradients = tuple(torch.empty_like(each) if wanted else None
                          for each, wanted in zip(inputs, forward.needs_input_grad[1:], strict=False))
        cell_backward(forward.cell, g.clone(memory_format=torch.contiguous_format), inputs, out, forward.kept, gradients)
        return gradients

    backward = staticmethod(refuse_second_derivative("cell", PLAIN))
