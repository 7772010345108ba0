"""The structure of the supernet, and the packing of its tensors into one flat vector.

All weights are in one flat vector, so that clipping, SGD, unrolled steps and finite differences are operations on one vector.
Tensors that are used by the same call are packed next to each other. For example, the m edges that leave a state (an input or
node of a cell) have these entries:

- [kinds, m, C, C]: the first 1x1 kernels of all kinds of convolutional primitives.
- [m, C, K, K], one entry per kind: the depthwise kernels.

A second flat vector holds BatchNorm's running statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from engine.architecture.genotype import EDGES, NODES, PRIMITIVES
from engine.architecture.placement import STEM_MULTIPLIER, positions
from engine.errors import CheckpointError

# The groups in which back ends compute the primitives, as slices of PRIMITIVES (which starts with the two pools). Below, (name,
# kernel size) of the primitives with weights.
SKIP, SEPARABLE, DILATED = slice(2, 3), slice(3, 5), slice(5, 7)
SEPARABLE_KERNELS = tuple((name, int(name[-1])) for name in PRIMITIVES[SEPARABLE])
DILATED_KERNELS = tuple((name, int(name[-1])) for name in PRIMITIVES[DILATED])
# Increment whenever an entry's name, order or shape changes, so that checkpoints of another version are rejected.
LAYOUT_VERSION = 1


class Entry(NamedTuple):
    """One named tensor inside a flat vector.

    Attributes:
        name: name of the tensor.
        offset: index of the tensor's first number in the vector.
        shape: shape of the tensor.
    """

    name: str
    offset: int
    shape: tuple[int, ...]


class Layout:
    """The names, offsets and shapes of the tensors that are packed in a flat vector, in their order.

    Attributes:
        version: version of the packing, which checkpoints store.
        size: length of the flat vector.
        entries: name, offset and shape of each tensor.
    """

    def __init__(self, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        self.version = LAYOUT_VERSION
        self.entries: tuple[Entry, ...] = ()
        entries, offset = [], 0
        for name, shape in shapes:
            entries.append(Entry(name, offset, shape))
            offset += prod(shape)
        self.entries = tuple(entries)
        self.size = offset
        self._lengths = [prod(entry.shape) for entry in entries]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return {name: view} for the tensors in `flat` [size].

        Writing to a view writes to the vector. The gradients of all views form one vector, the gradient of `flat`.

        Raises:
            CheckpointError: the vector has the wrong length.
        """
        self._check(flat)
        # The backward pass of `split` is one concatenation. With slices, each would fill a zeroed vector of full length.
        parts = flat.split(self._lengths)
        return {entry.name: part.view(entry.shape) for entry, part in zip(self.entries, parts, strict=True)}

    def split(self, flat: Tensor, parts: Sequence[Layout]) -> tuple[Tensor, ...]:
        """Split `flat` [size] into the slices that `parts` describe.

        The parts are layouts returned by `part`. Together they must cover the whole vector, in order.

        Raises:
            CheckpointError: the vector has the wrong length.
        """
        self._check(flat)
        pieces: tuple[Tensor, ...] = flat.split([part.size for part in parts])
        return pieces

    def _check(self, flat: Tensor) -> None:
        if flat.shape != (self.size,):
            raise CheckpointError(f"The flat vector must have {self.size} entries (layout version {self.version}), got shape "
                                  f"{tuple(flat.shape)}; was it made for another width, depth or version?")

    def part(self, prefix: str) -> Layout:
        """Return the layout of the entries whose names begin with `prefix`. The entries must be adjacent and keep their names."""
        return Layout([(entry.name, entry.shape) for entry in self.entries if entry.name.startswith(prefix)])


@dataclass(frozen=True)
class StateShape:
    """The shape of one state of a cell (an input or a node), together with the edges that leave the state.

    Attributes:
        prefix: prefix of the names of the state's tensors, for example "cells.3.states.0.".
        edges: row number of each edge in the alphas [14, primitives]. The edges are in the order of their target nodes.
        stride: stride of the operations on the edges.
    """

    prefix: str
    edges: tuple[int, ...]
    stride: int


@dataclass(frozen=True)
class CellShape:
    """The shape of one cell of the supernet.

    Attributes:
        index: position of the cell in the network, from 0.
        kind: kind of the cell. The alphas of this kind weight the cell's operations.
        reduction: True if the cell halves height and width.
        after_reduction: True if the previous cell is a reduction, so that the first input has twice the height and width.
        channels: channels of the cell's nodes.
        inputs: channels of the cell's two inputs, which are the outputs of the two cells before it.
        map_size: (height, width) of the two inputs after they have been projected to the cell's number of channels.
        states: shapes of the five states with outgoing edges: the two inputs and the first three nodes.
        partial: K. The operations on the cell's edges act on the first 1 / K of the channels (`engine.space.partial`).
    """

    index: int
    kind: str
    reduction: bool
    after_reduction: bool
    channels: int
    inputs: tuple[int, int]
    map_size: tuple[int, int]
    states: tuple[StateShape, ...]
    partial: int = 1

    @property
    def prefix(self) -> str:
        """Prefix of the names of the cell's tensors."""
        return f"cells.{self.index}."

    @property
    def selected(self) -> int:
        """Number of channels that the operations on the cell's edges act on."""
        return self.channels // self.partial

def cell_shapes(kinds: Sequence[str], channels: int, layers: int, image_shape: Sequence[int], placement: str = "",
                width_ratio: str = "", partial: int = 1) -> tuple[CellShape, ...]:
    """Return the shapes of a supernet's cells from input to output.

    The arguments are described in `engine.space.supernet.Supernet`.
    """
    cells: list[CellShape] = []
    inputs = (STEM_MULTIPLIER * channels, STEM_MULTIPLIER * channels)
    height, width = image_shape[1:]
    for i, position in enumerate(positions(kinds, layers, placement, width_ratio)):
        states = tuple(StateShape(f"cells.{i}.states.{state}.", edges_from(state), 2 if position.reduction and state < 2 else 1)
                       for state in range(1 + NODES))
        cell = CellShape(i, position.kind, position.reduction, position.after_reduction,
                         channels * position.channels_multiplier, inputs, (height, width), states, partial)
        cells.append(cell)
        inputs = (inputs[1], NODES * cell.channels)
        if position.reduction:
            height, width = height // 2, width // 2
    return tuple(cells)


def edges_from(state: int) -> tuple[int, ...]:
    """Return the indices in `EDGES` of the edges that leave a state (an input or a node), in the order of their target nodes."""
    return tuple(e for e, (source, _) in enumerate(EDGES) if source == state)


def weight_layout(cells: Sequence[CellShape], classes: int, image_channels: int) -> Layout:
    """Return the layout of the flat weight vector: stem, cells with their states, classifier."""
    stem = cells[0].inputs[0]
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("stem.convolution", (stem, image_channels, 3, 3)), ("stem.scale", (stem,)), ("stem.shift", (stem,))]
    for cell in cells:
        c = cell.channels
        before_last, last = cell.inputs
        shapes.append((cell.prefix + "preprocess0",
                       (2, c // 2, before_last) if cell.after_reduction else (c, before_last)))
        shapes.append((cell.prefix + "preprocess1", (c, last)))
        for state in cell.states:
            shapes += _state_weights(state, cell.selected)
    features = NODES * cells[-1].channels
    return Layout([*shapes, ("classifier.weight", (classes, features)), ("classifier.bias", (classes,))])


def _state_weights(state: StateShape, c: int) -> list[tuple[str, tuple[int, ...]]]:
    m = len(state.edges)
    first = (*SEPARABLE_KERNELS, *DILATED_KERNELS)
    shapes: list[tuple[str, tuple[int, ...]]] = [
        (f"{state.prefix}depthwise.{name}", (m, c, kernel, kernel)) for name, kernel in first]
    shapes.append((state.prefix + "pointwise", (len(first), m, c, c)))
    shapes += [(f"{state.prefix}second.depthwise.{name}", (m, c, kernel, kernel)) for name, kernel in SEPARABLE_KERNELS]
    shapes.append((state.prefix + "second.pointwise", (len(SEPARABLE_KERNELS), m, c, c)))
    if state.stride == 2:
        shapes.append((state.prefix + "reduce", (2, m, c // 2, c)))
    return shapes


def buffer_layout(cells: Sequence[CellShape]) -> Layout:
    """Return the layout of the flat vector of BatchNorm's running means and variances.

    All edges that leave the same state (an input or node of a cell) share one BatchNorm per pool.
    """
    norms: list[tuple[str, tuple[int, ...]]] = [("stem", (cells[0].inputs[0],))]
    for cell in cells:
        c = cell.channels
        norms += [(cell.prefix + "preprocess0", (c,)), (cell.prefix + "preprocess1", (c,))]
        for state in cell.states:
            m, c = len(state.edges), cell.selected
            norms.append((state.prefix + "pools", (2, c)))
            norms.append((state.prefix + "first", (len(SEPARABLE_KERNELS), m, c)))
            norms.append((state.prefix + "separable", (len(SEPARABLE_KERNELS), m, c)))
            norms.append((state.prefix + "dilated", (len(DILATED_KERNELS), m, c)))
            if state.stride == 2:
                norms.append((state.prefix + "reduce", (1, m, c)))
    return Layout([(f"{name}.{statistic}", shape) for name, shape in norms for statistic in ("mean", "variance")])


def fill(layout: Layout, values: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Pack tensors into a flat vector. `values` must hold one tensor for each entry of the layout."""
    return torch.cat([values[entry.name].reshape(-1).to(dtype=dtype, device=device) for entry in layout.entries])
