"""Copies of tensors from host memory to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on a device. The host does not wait for a GPU, because the copy is made from pinned memory.

    PyTorch reuses pinned memory only after the copy has ended. A tensor that is on the device already is returned unchanged.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
