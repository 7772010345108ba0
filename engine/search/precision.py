"""Optional arithmetic with fewer bits than float32, which is faster on a GPU but changes the results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.search.objectives import FunctionalNetwork
from engine.search.registries import Precision


@contextmanager
def computed_in(precision: Precision, network: FunctionalNetwork, device: torch.device) -> Iterator[FunctionalNetwork]:
    """Yield a network whose forward and backward passes inside the `with` block use the given precision.

    Args:
        precision: arithmetic of the passes. "float32" changes nothing. "tf32" makes matrix products and convolutions on a CUDA
            device round their factors to 10 bits of mantissa, and has no effect on other devices. "bf16" rounds everything to 7
            bits of mantissa and returns logits in the dtype of x.
        network: network to evaluate.
        device: device of the passes.
    """
    if precision == "bf16":
        yield _InBfloat16(network)
    elif precision == "tf32" and device.type == "cuda":
        switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
        before = [switch.allow_tf32 for switch in switches]
        try:
            for switch in switches:
                switch.allow_tf32 = True
            yield network
        finally:
            for switch, value in zip(switches, before, strict=True):
                switch.allow_tf32 = value
    else:
        yield network


@dataclass(frozen=True)
class _InBfloat16:
    network: FunctionalNetwork

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
        return self.network.logits(x.bfloat16(), weights.bfloat16(), alphas.bfloat16(), twice=twice).to(x.dtype)

    def image_unit(self, x: Tensor) -> Tensor:
        return self.network.image_unit(x)
