"""Mixed precision: a network's forward pass in bfloat16 where that is safe, everything else in float32.

PyTorch's autocast chooses the operations: convolutions and matrix products round their factors to 7 bits; weights, their
gradients, BatchNorm's statistics, losses and the optimiser stay float32. The backward pass follows the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bf16"]


def computed_in(precision: Precision, function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """The function of images that `function` is, in a precision.

    Args:
        precision: float32: as it is. bf16: under autocast.
        function: x -> logits, or a tuple of logits and None.

    Returns:
        The same, its results in float32.
    """
    if precision == "float32":
        return function

    def computed(x: Tensor) -> Any:
        with torch.autocast(x.device.type, torch.bfloat16):
            found = function(x)
        return tuple(map(_full, found)) if isinstance(found, tuple) else _full(found)

    return computed


def _full(logits: Tensor | None) -> Tensor | None:
    return None if logits is None else logits.float()
