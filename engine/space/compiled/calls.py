"""Calls of the kernels that compute the stem and the cells of a supernet (kernels/stem.c, kernels/cell.c), without autograd.

Feature maps are [C, H, W, B]. All tensors must be contiguous, on the CPU, and of the same dtype, which must be a key of `DTYPES`.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from engine.space.compiled.build import library
from engine.space.compiled.memory import DTYPES, SCRATCH, Memory, address
from engine.space.layout import CellShape


class _Stem(ctypes.Structure):
    """The struct `Stem` of kernels/stem.c."""

    _fields_ = [(name, ctypes.c_long) for name in ("channels", "inputs", "height", "width", "batch")]


class _Cell(ctypes.Structure):
    """The struct `Cell` of kernels/cell.c."""

    _fields_ = [(name, ctypes.c_long) for name in ("channels", "batch", "height", "width", "reduction", "halved")]
    _fields_ += [("inputs", ctypes.c_long * 2)]


class Block:
    """A block of memory for the values that a cell keeps for its backward pass.

    Later passes reuse released blocks, because getting fresh memory from the system takes as long as computing the values.

    Attributes:
        free: {size in bytes: the released blocks of this size}.
        tensor: the block, [size] in bytes.
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


class StemKept(NamedTuple):
    """What the stem keeps for its backward pass: its maps before BatchNorm, their means and 1 / standard deviations."""

    y: Tensor
    mean: Tensor
    inverse: Tensor


def stem_forward(x: Tensor, weights: Tensor, channels: int, buffers: Tensor | None) -> tuple[Tensor, StemKept]:
    """Compute the stem, a 3x3 convolution and BatchNorm with affine parameters.

    Args:
        x: normalised images [I, H, W, B].
        weights: the stem's slice [n] of the flat weight vector.
        channels: number of channels C of the result.
        buffers: the stem's slice of the flat vector of BatchNorm's running statistics; None if the pass has none.

    Returns:
        out: [C, H, W, B].
        kept: what the backward pass needs.
    """
    out, y = (x.new_empty(channels, *x.shape[1:]) for _ in range(2))
    kept = StemKept(y, *(x.new_empty(channels) for _ in range(2)))
    stem, scratch = _stem_memory(x, channels)
    library(DTYPES[x.dtype]).stem_forward(ctypes.byref(stem),
                                          *map(address, (x, weights, buffers, out, *kept, scratch.tensor)))
    return out, kept


def stem_backward(g: Tensor, x: Tensor, weights: Tensor, kept: StemKept, g_x: Tensor | None, g_weights: Tensor | None) -> None:
    """Compute gradients of the stem.

    Args:
        g: gradient of the output, [C, H, W, B].
        x, weights, kept: arguments and result of `stem_forward`.
        g_x, g_weights: where to write the gradients of x and of the weights; None for a gradient that is not needed.
    """
    stem, scratch = _stem_memory(x, len(kept.mean))
    library(DTYPES[x.dtype]).stem_backward(ctypes.byref(stem),
                                           *map(address, (g, x, weights, *kept, g_x, g_weights, scratch.tensor)))


def cell_forward(cell: CellShape, x0: Tensor, x1: Tensor, weights: Tensor, rows: Tensor,
                 buffers: Tensor | None) -> tuple[Tensor, Block]:
    """Compute the output of a cell.

    Args:
        cell: shape of the cell.
        x0: the cell's first input [I0, H', W', B], before its ReLU. H' and W' are 2 H and 2 W if the previous cell is a
            reduction, and H and W otherwise.
        x1: the cell's second input [I1, H, W, B], before its ReLU.
        weights: the cell's slice [n] of the flat weight vector.
        rows: [14, 7], weights of the operations.
        buffers: the cell's slice of the flat vector of BatchNorm's running statistics; None if the pass has none.

    Returns:
        out: [4 C, H / s, W / s, B], where C is the number of channels per node. The stride s is 2 for a reduction and 1 for other
            cells.
        kept: what the backward pass needs.
    """
    batch, size = x1.shape[-1], 2 if cell.reduction else 1
    out = x1.new_empty(4 * cell.channels, cell.map_size[0] // size, cell.map_size[1] // size, batch)
    kept = Block(_cell_bytes("saved", x1.dtype, cell, batch))
    scratch = Memory(SCRATCH, _cell_bytes("forward", x1.dtype, cell, batch), torch.uint8)
    library(DTYPES[x1.dtype]).cell_forward(ctypes.byref(_cell(cell, batch)),
                                           *map(address, (x0, x1, weights, rows, buffers, out, kept.tensor, scratch.tensor)))
    return out, kept


def cell_backward(cell: CellShape, g: Tensor, inputs: Sequence[Tensor], out: Tensor, kept: Block,
                  gradients: Sequence[Tensor | None], adds: tuple[bool, bool] = (False, False)) -> None:
    """Compute gradients of a cell.

    Args:
        cell: shape of the cell.
        g: gradient of the output, like `out`. It is destroyed.
        inputs: x0, x1, weights and rows, as in `cell_forward`.
        out, kept: results of `cell_forward`.
        gradients: where to write the gradient of each input; None for a gradient that is not needed.
        adds: for x0 and x1, True to add the gradient to what is there. Both may then be the same tensor.
    """
    batch, wanted = inputs[1].shape[-1], [int(gradient is not None) for gradient in gradients]
    scratch = Memory(SCRATCH, _cell_bytes("backward", g.dtype, cell, batch, *wanted), torch.uint8)
    library(DTYPES[g.dtype]).cell_backward(ctypes.byref(_cell(cell, batch)),
                                           *map(address, (g, *inputs, out, kept.tensor, *gradients)), *map(int, adds),
                                           address(scratch.tensor))


def _stem_memory(x: Tensor, channels: int) -> tuple[_Stem, Memory]:
    """Return the stem's struct and scratch memory for a pass. Keep the memory until the call of the kernels has returned."""
    stem, function = _Stem(channels, *x.shape), library(DTYPES[x.dtype]).stem_scratch_bytes
    function.restype = ctypes.c_size_t
    return stem, Memory(SCRATCH, int(function(ctypes.byref(stem))), torch.uint8)


@cache
def _cell(cell: CellShape, batch: int) -> _Cell:
    return _Cell(cell.channels, batch, *cell.map_size, int(cell.reduction), int(cell.after_reduction),
                 (ctypes.c_long * 2)(*cell.inputs))


@cache
def _cell_bytes(what: str, dtype: torch.dtype, cell: CellShape, batch: int, *wanted: int) -> int:
    """Return the number of bytes of memory that the kernels need for a cell.

    Args:
        what: "saved" for the values that a forward pass keeps; "forward" or "backward" for the scratch memory of a pass.
        dtype, cell, batch: dtype of the maps, shape of the cell, number of images.
        wanted: for a backward pass, 1 or 0 for each gradient.
    """
    function = library(DTYPES[dtype])[f"cell_{what}_bytes"]
    function.restype = ctypes.c_size_t
    return int(function(ctypes.byref(_cell(cell, batch)), *wanted))
