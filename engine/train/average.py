"""Exponential moving average of a network's weights, kept as a second network that is evaluated instead of the trained one.

After every step: average <- d average + (1 - d) weights, with d = min(decay, (1 + n) / (10 + n)) after n updates. The small d of
early updates makes the average forget the random initial weights quickly, as in Gowal et al. 2020 (arXiv 2010.03593).

BatchNorm's running means and variances are averaged like weights, and its batch counters are copied. Some published code copies
the running means and variances too, but averaged ones fit the averaged weights better.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """The averaged copy of a network.

    Attributes:
        network: the copy, in evaluation mode and without gradients.
        updates: number of updates so far.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Copy a network as the first value of the average.

        Args:
            network: the network to copy.
            decay: fraction of the average that an update keeps, 0 <= decay < 1. Early updates keep less.
        """
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average after a training step. `network` must be the network that was copied by `__init__`."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = [(mine, theirs.detach()) for mine, theirs in zip(_tensors(self.network), _tensors(network), strict=True)]
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in averaged], [theirs for _, theirs in averaged], 1 - kept)
        copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        copy_all([mine for mine, _ in copied], [theirs for _, theirs in copied])
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the averaged network's state dict and of the number of updates."""
        return {"network": {name: value.clone() for name, value in self.network.state_dict().items()}, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.updates = int(state["updates"])


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy many tensors with few kernels. Each source has the shape, dtype and device of its target."""
    for dtype in {target.dtype for target in targets}:  # tensors of several dtypes would be copied one by one
        pairs = [pair for pair in zip(targets, sources, strict=True) if pair[0].dtype == dtype]
        torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
