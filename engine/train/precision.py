"""Mixed precision: the forward pass in bfloat16 where autocast considers it safe, and everything else in float32.

Convolutions and matrix products round their factors to 7 bits of mantissa. Weights, their gradients, BatchNorm's statistics,
losses and the optimiser stay in float32. The backward pass of each operation has the precision of its forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bf16"]


def under_autocast(precision: Precision, function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Return a version of `function` that computes in the given precision.

    Args:
        precision: "float32" to return `function` itself, "bf16" to run it under autocast.
        function: function from images x to logits, or to a pair whose entries are logits or None.

    Returns:
        A function with the same arguments, whose logits are float32.
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
