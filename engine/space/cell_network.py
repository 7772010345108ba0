"""The attributes that fast forward passes read from a derived network and from its cells, as types.

The modules of the fast forward passes use these types instead of importing `engine.space.network`.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class NetworkCell(Protocol):
    """The attributes of an `engine.space.network.Cell` that fast forward passes read."""

    preprocess0: nn.Module
    preprocess1: nn.Module
    _ops: nn.ModuleList
    inputs: tuple[int, ...]
    concat: tuple[int, ...]


class CellNetwork(Protocol):
    """The attributes of an `engine.space.network.Network` that fast forward passes read."""

    mean: Tensor
    std: Tensor
    channels: int
    channels_last: bool
    stem: nn.Sequential
    cells: nn.ModuleList
    classifier: nn.Linear
