"""Reusable memory for the compiled kernels, and the addresses of tensors that are passed to them.

Reuse saves time, because getting fresh memory from the system takes as long as computing the feature maps in it.
"""

from __future__ import annotations

import ctypes
import threading

import torch
from torch import Tensor

from engine.errors import ConfigError

DTYPES = {torch.float32: "float32", torch.float64: "float64"}  # of the kernels
SCRATCH: list[Tensor] = []  # free blocks for what a call needs only until it returns


class Memory:
    """A block of memory. When it is no longer used, it goes back to a list of free blocks.

    Keep a reference to the `Memory` while the kernels use its address. Without one, another call may take the block.

    Attributes:
        tensor: the block, a tensor of at least the requested size.
    """

    _lock = threading.Lock()

    def __init__(self, free: list[Tensor], size: int, dtype: torch.dtype) -> None:
        """Take the smallest block in the list `free` that has at least `size` numbers, or allocate a new block."""
        self._free = free
        with self._lock:  # other threads may append blocks meanwhile, but not take any
            sizes = [block.numel() for block in free]
            fitting = [number for number, length in enumerate(sizes) if length >= size]
            if fitting:
                self.tensor = free.pop(min(fitting, key=sizes.__getitem__))
                return
            if sizes:
                del free[sizes.index(max(sizes))]  # it has become too small
        self.tensor = torch.empty(size, dtype=dtype)

    def __del__(self) -> None:
        if hasattr(self, "tensor"):  # the allocation succeeded
            self._free.append(self.tensor)  # atomic; a lock could be held by the code that this call interrupts


def address(tensor: Tensor | None) -> ctypes.c_void_p | None:
    """Return the address of a tensor's first number for a call of the kernels; None for None."""
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def check_alike(x: Tensor, **others: Tensor | None) -> None:
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
