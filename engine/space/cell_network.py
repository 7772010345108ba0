"""The attributes of derived networks that fast forward passes read, as types. Those passes do not import the network itself."""

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
