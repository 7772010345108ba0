"""The computation of the supernet's cells state by state, and the back ends that do it.

A state is an input or a node of a cell, and the unit of work is one state with all edges that leave it. A back end is an
implementation of this work. ReLU and both pools with BatchNorm are computed once per state. Some back ends also merge the
convolutions of all edges that leave a state. All back ends compute the same function of the same packed tensors, up to rounding.
`choose` returns the name of the back end that was fastest for a given cell in measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NODES
from engine.registry import Registry
from engine.space.compiled.build import unavailable
from engine.space.compiled.whole import Compiled
from engine.space.convolutional import ChannelsLast, Merged
from engine.space.dense import LARGEST_MAP, Dense
from engine.space.layout import CellShape, Layout, StateShape, edges_from
from engine.space.normalisation import Normalisation
from engine.space.partial import bypassed, shuffled

# With at least this many channels, channels_last convolutions per edge beat merged ones on a CPU (measured: merged wins at
# 8 channels, channels_last at 24).
CHANNELS_LAST_FROM = 16
# Limits of the dense back end on a CPU. Building its matrices takes as long for 8 images as for 64. With more than DENSE_CHANNELS
# channels, it wins only for maps of at most TINY_MAP pixels. Measured: on 8x8 maps, dense and channels_last are equally fast at
# 16 channels and channels_last is twice as fast at 48; on 4x4 maps, dense wins up to 48.
DENSE_CHANNELS, TINY_MAP = 16, 16


class Backend(Protocol):
    """An implementation of the supernet's stem and cells in PyTorch.

    Feature maps passed in and out have the shape [B, C, H, W], in any memory layout.

    Attributes:
        twice: True if the gradients can themselves be differentiated.
    """

    twice: bool

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Return True if this back end supports the cell, the device and dtype of x, and the statistics in `normalisation`."""

    def stem(self, layout: Layout, x: Tensor, weights: Tensor, normalisation: Normalisation) -> Tensor:
        """Compute the output of the stem, a 3x3 convolution with BatchNorm. Only the gradients that are needed are computed.

        Args:
            layout: the packing of the stem's weights.
            x: images [B, I, H, W], after the normalisation of their channels.
            weights: the stem's slice [n] of the flat weight vector.
            normalisation: the statistics to use and to update.

        Returns:
            [B, C, H, W].
        """

    def cell(self, cell: CellShape, layout: Layout, before_last: Tensor, last: Tensor, weights: Tensor, rows: Tensor,
             normalisation: Normalisation) -> Tensor:
        """Compute the output of a cell. The backward pass computes only the gradients that are needed.

        Args:
            cell: the shape of the cell.
            layout: the packing of the cell's weights.
            before_last, last: outputs [B, I, H, W] of the two cells before this cell, after a ReLU.
            weights: the cell's slice [n] of the flat weight vector.
            rows: [14, 7], weights of the operations. There is one row per edge, sorted by the state that the edge leaves, and one
                column per primitive, in the order of `PRIMITIVES`. In a partial cell (whose operations act on some channels
                only), the shape is [14, 8], and the last column weights the channels that bypass the operations.
            normalisation: the statistics to use and to update.

        Returns:
            [B, 4 C, H', W'].
        """


class StateBackend(Protocol):
    """A PyTorch implementation of single states (inputs or nodes of a cell). `StateByState` builds whole cells from it.

    Feature maps passed in and out have the shape [B, C, H, W], in any memory layout.
    """

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply a 1x1 convolution with weight [O, I] to x [B, I, H, W]."""

    def normalise(self, x: Tensor, normalisation: Normalisation, name: str) -> Tensor:
        """Apply the BatchNorm called `name` to x [B, C, H, W]. It has no affine parameters."""

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """Compute the contributions of one state to the m later nodes of the cell that have an edge from it.

        Args:
            h: the state, [B, C, H, W].
            weights: views of the flat weight vector, keyed by name.
            rows: [m, 7], weights of the operations on the m edges that leave the state, with columns as in `PRIMITIVES`.
            shape: the state's names, edges and stride.
            normalisation: the statistics to use and to update.

        Returns:
            [m, B, C, H / stride, W / stride], one contribution per edge, in the order of the edges' target nodes. The result can
            be differentiated twice with respect to h, weights and rows. Only the gradients that are needed are computed.
        """


class StateByState:
    """A back end (implementation of the supernet's cells) that visits the states of a cell, its inputs and nodes, one by one.

    A `StateBackend` computes what each state adds to the later nodes.
    """

    def __init__(self, states: StateBackend, twice: bool = True) -> None:
        """Wrap `states`, which computes what one state of a cell adds to the later nodes.

        `twice` is True if the results of `states` can be differentiated twice.
        """
        self.states, self.twice = states, twice

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Return True, because this back end supports every cell, device, dtype and kind of BatchNorm statistics."""
        return True

    def stem(self, layout: Layout, x: Tensor, weights: Tensor, normalisation: Normalisation) -> Tensor:
        """Compute the output of the stem. `Backend.stem` describes the arguments."""
        views = layout.views(weights)
        return normalisation.maps(F.conv2d(x, views["stem.convolution"], padding=1), *normalisation.statistics("stem"),
                                  views["stem.scale"], views["stem.shift"])

    def cell(self, cell: CellShape, layout: Layout, before_last: Tensor, last: Tensor, weights: Tensor, rows: Tensor,
             normalisation: Normalisation) -> Tensor:
        """Compute the output of a cell: visit its states in order and add each state's contributions to the later nodes.

        `Backend.cell` describes the arguments.
        """
        views, backend = layout.views(weights), self.states
        by_state = rows.split([len(edges_from(state)) for state in range(1 + NODES)])
        states = [backend.normalise(self._preprocess(x, views[cell.prefix + name]), normalisation, cell.prefix + name)
                  for x, name in ((before_last, "preprocess0"), (last, "preprocess1"))]
        # Partial sums of the nodes that still lack inputs: one tensor [nodes left, B, C, H', W'], or in a partial cell two, for
        # the channels that the operations act on and for the others.
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
        """Return the contributions of one state to the m later nodes of the cell.

        Returns:
            A list of one tensor [m, B, channels, H', W'] for all channels. In a partial cell, a list of two such tensors: one for
            the channels that the operations act on, and one for the channels that bypass the operations.
        """
        if cell.partial == 1:
            return [self.states.state(h, views, rows, shape, normalisation)]
        selected, others = h.split([cell.selected, cell.channels - cell.selected], dim=1)
        operations, bypass = rows.split([rows.shape[1] - 1, 1], dim=1)
        return [self.states.state(selected, views, operations, shape, normalisation),
                bypassed(others, bypass.flatten(), shape.stride)]

    def _preprocess(self, x: Tensor, weight: Tensor) -> Tensor:
        """Project a cell's input to the cell's width, without BatchNorm.

        A weight [C, I] is applied as a 1x1 convolution. A weight [2, C / 2, I] is a factorized reduction, which also halves the
        maps.
        """
        if weight.dim() == 2:
            return self.states.project(x, weight)
        halves = [self.states.project(x[:, :, shift::2, shift::2], part) for shift, part in enumerate(weight)]
        return torch.cat(halves, dim=1)


BACKENDS: Registry[Backend | Compiled] = Registry("back end")
BACKENDS.add("dense", StateByState(Dense()))
BACKENDS.add("merged", StateByState(Merged()))
BACKENDS.add("channels_last", StateByState(ChannelsLast()))
BACKENDS.add("compiled", Compiled())


def choose(cell: CellShape, device_type: str, compiled: bool = True) -> str:
    """Return the name of the fastest back end (implementation) for a cell.

    Args:
        cell: the shape of the cell.
        device_type: "cpu", "cuda" or another type of torch device.
        compiled: True to consider the compiled back end as well. It runs only on a CPU and does not support partial cells (whose
            operations act on some channels only).
    """
    if compiled and device_type == "cpu" and cell.partial == 1 and unavailable() is None:
        return "compiled"
    on_cpu = device_type == "cpu"
    largest = TINY_MAP if on_cpu and cell.selected > DENSE_CHANNELS else LARGEST_MAP
    if math.prod(cell.map_size) <= largest:
        return "dense"
    return "channels_last" if on_cpu and cell.selected >= CHANNELS_LAST_FROM else "merged"
