"""The compiled back end, and a supernet cell as one differentiable operation, computed by the kernels (kernels/cell.c)."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from functools import cache
from typing import Any

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.space.compiled.build import library, unavailable
from engine.space.compiled.memory import DTYPES, SCRATCH, Memory, address
from engine.space.compiled.once import PLAIN, refuse_second_derivative
from engine.space.compiled.stem import Stem
from engine.space.layout import CellShape, Layout
from engine.space.normalisation import Normalisation


class _Cell(ctypes.Structure):
    """The struct `Cell` of kernels/cell.c."""

    _fields_ = [(name, ctypes.c_long) for name in ("channels", "batch", "height", "width", "reduction", "halved")]
    _fields_ += [("inputs", ctypes.c_long * 2)]


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
        _check_alike(x, weights=weights, buffers=buffers)
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
        _check_alike(last, weights=weights, alphas=rows, buffers=buffers)
        out: Tensor = _CellFunction.apply(x0, x1, weights.contiguous(), rows.contiguous(), cell, buffers)  # type: ignore[no-untyped-call]
        return out.permute(3, 0, 1, 2)


class _CellFunction(torch.autograd.Function):
    """The autograd function of a cell.

    Arguments of `forward`:
        x0: the cell's first input [I0, H', W', B], before its ReLU. H' and W' are 2 H and 2 W if the previous cell is a
            reduction, and H and W otherwise.
        x1: the cell's second input [I1, H, W, B], before its ReLU.
        weights: the cell's slice [n] of the flat weight vector.
        rows: [14, 7], weights of the operations.
        cell: shape of the cell.
        buffers: the cell's slice of the flat vector of BatchNorm's running statistics; None if the pass has none.

    The result is [4 C, H / s, W / s, B], where C is the number of channels per node. The stride s is 2 for a reduction and 1 for
    other cells.
    """

    @staticmethod
    def forward(ctx: Any, x0: Tensor, x1: Tensor, weights: Tensor, rows: Tensor, cell: CellShape,
                buffers: Tensor | None) -> Tensor:
        """Return the output of the cell. The class docstring describes the arguments."""
        kernels, batch = library(DTYPES[x1.dtype]), x1.shape[-1]
        shape = _struct(cell, batch)
        size = 2 if cell.reduction else 1
        out = x1.new_empty(4 * cell.channels, cell.map_size[0] // size, cell.map_size[1] // size, batch)
        saved = _Block(_bytes("saved", x1.dtype, cell, batch))
        scratch = Memory(SCRATCH, _bytes("forward", x1.dtype, cell, batch), torch.uint8)
        kernels.cell_forward(ctypes.byref(shape),
                             *map(address, (x0, x1, weights, rows, buffers, out, saved.tensor, scratch.tensor)))
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x0, x1, weights, rows, out)
            ctx.saved, ctx.cell = saved, cell
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return one gradient per argument of `forward`, or None if a gradient is not needed. g is the output's gradient."""
        return *_CellGradients.apply(g, *ctx.saved_tensors, ctx), None, None  # type: ignore[no-untyped-call]


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
        tensors, g = (x0, x1, weights, rows), g.contiguous()  # keeps g alive: the kernels get only its address
        wanted = forward.needs_input_grad[:len(tensors)]
        gradients = tuple(torch.empty_like(tensor) if each else None for tensor, each in zip(tensors, wanted, strict=True))
        kernels, batch = library(DTYPES[x1.dtype]), x1.shape[-1]
        scratch = Memory(SCRATCH, _bytes("backward", x1.dtype, forward.cell, batch, *map(int, wanted)), torch.uint8)
        kernels.cell_backward(ctypes.byref(_struct(forward.cell, batch)),
                              *map(address, (g, *tensors, out, forward.saved.tensor, *gradients, scratch.tensor)))
        return gradients

    backward = staticmethod(refuse_second_derivative("cell", PLAIN))


class _Block:
    """A block of memory for the values that a cell saves for its backward pass.

    Later passes reuse released blocks, because getting fresh memory from the system takes as long as computing the values.
    """

    free: defaultdict[int, list[Tensor]] = defaultdict(list)

    def __init__(self, size: int) -> None:
        """Take a released block of memory of `size` bytes, or allocate a new one."""
        try:
            self.tensor = self.free[size].pop()
        except IndexError:
            # Passes of other sizes may never come again, so their blocks go back to the system.
            self.free.clear()
            self.tensor = torch.empty(size, dtype=torch.uint8, device="cpu")

    def __del__(self) -> None:
        if hasattr(self, "tensor"):  # the allocation succeeded
            self.free[self.tensor.numel()].append(self.tensor)


@cache
def _struct(cell: CellShape, batch: int) -> _Cell:
    return _Cell(cell.channels, batch, *cell.map_size, int(cell.reduction), int(cell.after_reduction),
                 (ctypes.c_long * 2)(*cell.inputs))


@cache
def _bytes(what: str, dtype: torch.dtype, cell: CellShape, batch: int, *wanted: int) -> int:
    """Return the number of bytes of memory that the kernels need.

    Args:
        what: "saved" for the values that a forward pass keeps; "forward" or "backward" for the scratch memory of a pass.
        dtype, cell, batch: dtype of the maps, shape of the cell, number of images.
        wanted: for a backward pass, 1 or 0 for each gradient.
    """
    function = library(DTYPES[dtype])[f"cell_{what}_bytes"]
    function.restype = ctypes.c_size_t
    return int(function(ctypes.byref(_struct(cell, batch)), *wanted))


def _check_alike(x: Tensor, **others: Tensor | None) -> None:
    """Check that the tensors have x's dtype and device, and that the tensor named "buffers" is contiguous.

    The kernels cannot check this, because they get only memory addresses.
    """
    for name, tensor in others.items():
        if tensor is not None and (tensor.dtype, tensor.device) != (x.dtype, x.device):
            raise ConfigError(f"The {name} must be {x.dtype} on the CPU, like the images, got {tensor.dtype} on "
                              f"{tensor.device}; convert them.")
        if name == "buffers" and tensor is not None and not tensor.is_contiguous():
            raise ConfigError("The flat buffer vector must be contiguous, because it is updated in place, got a strided view; "
                              "pass buffers.contiguous().")
