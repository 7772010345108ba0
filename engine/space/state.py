"""The supernet's unit of work, one state of a cell and all edges that leave it, and the back ends that compute it.

ReLU, both pools and their BatchNorm are computed once per state; the convolutions of all its edges are merged. All back
ends compute the same function of the same packed tensors, up to rounding; `choose` picks the one that measured fastest for
each cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.architecture.genotype import NODES
from engine.registry import Registry
from engine.space.compiled.build import unavailable
from engine.space.compiled.cell import Compiled
from engine.space.convolutional import ChannelsLast, Merged
from engine.space.dense import LARGEST_MAP, Dense
from engine.space.layout import CellShape, Layout, StateShape, edges_from
from engine.space.normalisation import Normalisation
from engine.space.partial import bypassed, shuffled

# With at least this many channels, per-edge channels_last convolutions beat merged ones on a CPU (measured: merged wins at
# 8 channels, channels_last at 24).
CHANNELS_LAST_FROM = 16
# Building the matrices costs as much for 8 images as for 64. Above DENSE_CHANNELS, dense wins on a CPU only for maps of at most
# TINY_MAP pixels (measured: at 8x8, a tie at 16 channels and channels_last twice as fast at 48; at 4x4, dense up to 48).
DENSE_CHANNELS, TINY_MAP = 16, 16


class Backend(Protocol):
    """An implementation of a cell. Maps have the shape [B, C, H, W]; each back end chooses their memory layout.

    Attributes:
        twice: True if gradients can be differentiated again.
    """

    twice: bool

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Return True if the back end supports the cell with x's device and dtype and this kind of statistics."""

    def cell(self, cell: CellShape, layout: Layout, before_last: Tensor, last: Tensor, weights: Tensor, rows: Tensor,
             normalisation: Normalisation) -> Tensor:
        """Compute a cell; its backward pass computes only the gradients that are needed.

        Args:
            cell, layout: shape of the cell and layout of its weights.
            before_last, last: outputs [B, I, H, W] of the two cells before it, after a ReLU.
            weights: the cell's slice [n] of the flat vector.
            rows: [14, 7] weights of the operations, edges ordered by the state they leave, columns in the order of `PRIMITIVES`;
                for a partial cell [14, 8], the last column weighting the channels that bypass the operations.
            normalisation: statistics to use and to update.

        Returns:
            [B, 4 C, H', W'].
        """


class StateBackend(Protocol):
    """A PyTorch implementation of states. Maps have the shape [B, C, H, W]; each back end chooses their memory layout."""

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply a 1x1 convolution with weight [O, I] to x [B, I, H, W]."""

    def normalise(self, x: Tensor, normalisation: Normalisation, name: str) -> Tensor:
        """Apply BatchNorm without affine parameters to x [B, C, H, W]; `name` identifies its buffers."""

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """Compute the state's contribution to each later node.

        Args:
            h: the state, [B, C, H, W].
            weights: views of the flat weight vector, by name.
            rows: [m, 7] weights of the operations on the m edges leaving the state, columns in the order of `PRIMITIVES`.
            shape: the state's names, edges and stride.
            normalisation: statistics to use and to update.

        Returns:
            [m, B, C, H / stride, W / stride], one per edge in the order of their target nodes. Twice differentiable in h,
            weights and rows; only the gradients that are needed are computed.
        """


class StateByState:
    """A cell as a sum over its states, each computed by a `StateBackend`."""

    def __init__(self, states: StateBackend, twice: bool = True) -> None:
        """Wrap a state back end; `twice` says that its results can be differentiated twice."""
        self.states, self.twice = states, twice

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Return True: every cell, device, dtype and kind of statistics is supported."""
        return True

    def cell(self, cell: CellShape, layout: Layout, before_last: Tensor, last: Tensor, weights: Tensor, rows: Tensor,
             normalisation: Normalisation) -> Tensor:
        """Compute the states in order, adding each one's contributions to the later nodes."""
        views, backend = layout.views(weights), self.states
        by_state = rows.split([len(edges_from(state)) for state in range(1 + NODES)])
        states = [backend.normalise(self._preprocess(x, views[cell.prefix + name]), normalisation, cell.prefix + name)
                  for x, name in ((before_last, "preprocess0"), (last, "preprocess1"))]
        # Partial sums of the unfinished nodes, [nodes left, B, C, H', W']; in a partial cell, one for each group of channels.
        pending: Sequence[Tensor] = ()
        for i, shape in enumerate(cell.states):
            contributions = self._contributions(cell, states[i], views, by_state[i], shape, normalisation)
            pending = [one + more for one, more in zip(pending, contributions, strict=True)] if pending else contributions
            if i >= 1:  # node i - 1 has received all its inputs
                node, pending = [part[0] for part in pending], [part[1:] for part in pending]
                states.append(node[0] if cell.partial == 1 else shuffled(*node))
        return torch.cat(states[2:], dim=1)

    def _contributions(self, cell: CellShape, h: Tensor, views: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
                       normalisation: Normalisation) -> Sequence[Tensor]:
        """Return the state's contributions to each later node: [all channels], or in a partial cell [selected, others]."""
        if cell.partial == 1:
            return [self.states.state(h, views, rows, shape, normalisation)]
        selected, others = h.split([cell.selected, cell.channels - cell.selected], dim=1)
        operations, bypass = rows.split([rows.shape[1] - 1, 1], dim=1)
        return [self.states.state(selected, views, operations, shape, normalisation),
                bypassed(others, bypass.flatten(), shape.stride)]

    def _preprocess(self, x: Tensor, weight: Tensor) -> Tensor:
        """Project a cell's input to the cell's width, without BatchNorm; weight [2, C / 2, I] also halves the maps."""
        if weight.dim() == 2:
            return self.states.project(x, weight)
        halves = [self.states.project(x[:, :, shift::2, shift::2], part) for shift, part in enumerate(weight)]
        return torch.cat(halves, dim=1)


BACKENDS: Registry[Backend] = Registry("back end")
BACKENDS.add("dense", StateByState(Dense()))
BACKENDS.add("merged", StateByState(Merged()))
BACKENDS.add("channels_last", StateByState(ChannelsLast()))
BACKENDS.add("compiled", Compiled())


def choose(cell: CellShape, device_type: str, compiled: bool = True) -> str:
    """Return the name of the fastest back end for a cell.

    Args:
        cell: its shape.
        device_type: "cpu", "cuda", ...
        compiled: allow the compiled back end, which does not support partial cells.
    """
    if compiled and device_type == "cpu" and cell.partial == 1 and unavailable() is None:
        return "compiled"
    on_cpu = device_type == "cpu"
    largest = TINY_MAP if on_cpu and cell.selected > DENSE_CHANNELS else LARGEST_MAP
    if math.prod(cell.map_size) <= largest:
        return "dense"
    return "channels_last" if on_cpu and cell.selected >= CHANNELS_LAST_FROM else "merged"
