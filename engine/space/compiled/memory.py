"""Memory that passes of the compiled kernels hand on to later passes.

Reuse saves time, because getting fresh memory from the system takes as long as computing the feature maps in it.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor


class Memory:
    """A block of memory. When it is no longer used, it goes back to a list of free blocks.

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
