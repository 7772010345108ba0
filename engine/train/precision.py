"""Mixed precision: the forward pass in bfloat16 where autocast considers it safe, everything else in float32.

Convolutions and matrix products round their factors to 7 bits of mantissa. Weights, their gradients, BatchNorm's statistics,
losses and the optimiser stay float32. Each operation's backward pass uses the precision of its forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bf16"]


def under_autocast(precision: Precision, function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Return `function` computed in a precision.

    Args:
        precision: float32: `function` itself; bf16: under autocast.
        function: x -> logits, or a tuple of logits and None.

    Returns:
        A function with the same results, in float32.
    """
    if precision == "float32":
        return function

    def computed(x: Tensor) -> Any:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = function(x)
        return tuple(map(_full, logits)) if isinstance(logits, tuple) else _full(logits)

    return computed


def _full(logits: Tensor | None) -> Tensor | None:
    return None if logits is None else logits.float()
