"""The supernet's unit of work: one state of a cell and all edges that leave it. Back ends compute it differently.

ReLU, both pools and their BatchNorm are computed once per state; the convolutions of all its edges are merged. Every back
end computes the same function of the same packed tensors, so that they differ by rounding only; `choose` picks one per
cell from what was measured.
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

# From here on per-edge convolutions in channels_last beat merged ones on a CPU (measured: 8 merged, 24 channels_last).
CHANNELS_LAST_FROM = 16
# Making the matrices costs as much for 8 images as for 64. With more channels than these, dense wins on a CPU on maps of at
# most TINY_MAP pixels only (measured: 8x8 even at 16 channels, channels_last twice as fast at 48; 4x4 dense up to 48).
DENSE_CHANNELS, TINY_MAP = 16, 16


class Backend(Protocol):
    """What a cell is computed with. Maps are [B, C, H, W] in shape; how they lie in memory is the back end's own affair.

    Attributes:
        twice: whether a gradient can be differentiated again.
    """

    twice: bool

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Whether it can compute such a pass of the cell here: device and dtype of x, kind of statistics."""

    def cell(self, cell: CellShape, layout: Layout, before_last: Tensor, last: Tensor, weights: Tensor, rows: Tensor,
             normalisation: Normalisation) -> Tensor:
        """Output of a cell; only gradients that are asked for are computed.

        Args:
            cell, layout: its shape and the layout of its weights.
            before_last, last: outputs of the two cells before it [B, I, H, W], both behind a ReLU.
            weights: the cell's slice [n] of the flat vector.
            rows: [14, 7] weights of the operations by the state the edge leaves, columns in the order of `PRIMITIVES`; of a
                partial cell [14, 8], the last that of the channels which bypass them.
            normalisation: which statistics to use, and whether to update them.

        Returns:
            [B, 4 C, H', W'].
        """


class StateBackend(Protocol):
    """How the states of a cell are computed in PyTorch. Maps are [B, C, H, W]; how they lie in memory is its own affair."""

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """1x1 convolution of x [B, I, H, W] with weight [O, I]."""

    def normalise(self, x: Tensor, normalisation: Normalisation, name: str) -> Tensor:
        """BatchNorm without affine of x [B, C, H, W]; `name` is that of its buffers."""

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """What a state contributes to each later node.

        Args:
            h: the state, [B, C, H, W].
            weights: views of the flat weight vector, by name.
            rows: [m, 7] weights of the operations on the m edges leaving the state, columns in the order of `PRIMITIVES`.
            shape: the state's names, edges and stride.
            normalisation: which statistics to use, and whether to update them.

        Returns:
            [m, B, C, H / stride, W / stride], one per edge by rising node. Differentiable, also twice, in h, weights and
            rows; only gradients that are asked for are computed.
        """


class StateByState:
    """A cell as a sum over its states, each computed by a `StateBackend`."""

    def __init__(self, states: StateBackend, twice: bool = True) -> None:
        """twice: whether what the states compute can be differentiated twice."""
        self.states, self.twice = states, twice

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Everything."""
        return True

    def cell(self, cell: CellShape, layout: Layout, before_last: Tensor, last: Tensor, weights: Tensor, rows: Tensor,
             normalisation: Normalisation) -> Tensor:
        """See `Backend.cell`."""
        views, backend = layout.views(weights), self.states
        by_state = rows.split([len(edges_from(state)) for state in range(1 + NODES)])
        states = [backend.normalise(self._preprocess(x, views[cell.prefix + name]), normalisation, cell.prefix + name)
                  for x, name in ((before_last, "preprocess0"), (last, "preprocess1"))]
        # What each node that is not finished has received, [nodes left, B, C, H', W']; selected channels and others apart.
        pending: Sequence[Tensor] = ()
        for i, shape in enumerate(cell.states):
            contributions = self._contributions(cell, states[i], views, by_state[i], shape, normalisation)
            pending = [one + more for one, more in zip(pending, contributions, strict=True)] if pending else contributions
            if i >= 1:  # node i - 1 has heard from all its inputs
                node, pending = [part[0] for part in pending], [part[1:] for part in pending]
                states.append(node[0] if cell.partial == 1 else shuffled(*node))
        return torch.cat(states[2:], dim=1)

    def _contributions(self, cell: CellShape, h: Tensor, views: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
                       normalisation: Normalisation) -> Sequence[Tensor]:
        """What a state h contributes to each later node: all channels, or of a partial cell (selected ones, the others)."""
        if cell.partial == 1:
            return [self.states.state(h, views, rows, shape, normalisation)]
        selected, others = h.split([cell.selected, cell.channels - cell.selected], dim=1)
        operations, bypass = rows.split([rows.shape[1] - 1, 1], dim=1)
        return [self.states.state(selected, views, operations, shape, normalisation),
                bypassed(others, bypass.flatten(), shape.stride)]

    def _preprocess(self, x: Tensor, weight: Tensor) -> Tensor:
        """What stands between a cell's input and the BatchNorm of a state; weight [2, C / 2, I] halves the maps."""
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
    """Name of the fastest back end for a cell on "cpu", "cuda", ...; compiled: whether it may be the compiled one, which
    has no partial cells."""
    if compiled and device_type == "cpu" and cell.partial == 1 and unavailable() is None:
        return "compiled"
    on_cpu = device_type == "cpu"
    largest = TINY_MAP if on_cpu and cell.selected > DENSE_CHANNELS else LARGEST_MAP
    if math.prod(cell.map_size) <= largest:
        return "dense"
    return "channels_last" if on_cpu and cell.selected >= CHANNELS_LAST_FROM else "merged"
