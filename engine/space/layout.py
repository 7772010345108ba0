"""The supernet's structure and the packing of its tensors into one flat vector.

With one flat weight vector, an unrolled step, a finite difference, clipping and SGD are single vector operations. Tensors that
a state operation uses in one call are packed next to each other: 1x1 kernels of all edges leaving a state and of all
convolutional primitives as [kinds, m, C, C], depthwise kernels as [m, C, K, K]. A second flat vector holds BatchNorm's running
statistics.
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

# The groups in which a state operation computes the primitives, as slices of PRIMITIVES (which starts with the two pools), and
# (name, kernel) of the primitives with weights.
SKIP, SEPARABLE, DILATED = slice(2, 3), slice(3, 5), slice(5, 7)
SEPARABLE_KERNELS = tuple((name, int(name[-1])) for name in PRIMITIVES[SEPARABLE])
DILATED_KERNELS = tuple((name, int(name[-1])) for name in PRIMITIVES[DILATED])
# Increment whenever an entry's name, order or shape changes, so that checkpoints of another version are refused.
LAYOUT_VERSION = 1


class Entry(NamedTuple):
    """One named tensor inside the flat vector."""

    name: str
    offset: int
    shape: tuple[int, ...]


class Layout:
    """Names, offsets and shapes of the tensors packed in a flat vector, in order.

    Attributes:
        version: version of the packing, stored in checkpoints.
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
        """Return the named views of `flat` [size]. Writing to a view writes to the vector; the gradient is one vector.

        Raises:
            CheckpointError: the vector has the wrong length.
        """
        self._check(flat)
        # split instead of slices: its backward is one concatenation; each slice's would fill a zeroed vector of full length.
        parts = flat.split(self._lengths)
        return {entry.name: part.view(entry.shape) for entry, part in zip(self.entries, parts, strict=True)}

    def split(self, flat: Tensor, parts: Sequence[Layout]) -> tuple[Tensor, ...]:
        """Return the slices of `flat` [size] described by `parts` (see `part`), which must cover it in order.

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
        """Return the layout of the entries whose names begin with `prefix`, which must be adjacent; names are kept."""
        return Layout([(entry.name, entry.shape) for entry in self.entries if entry.name.startswith(prefix)])


@dataclass(frozen=True)
class StateShape:
    """One state of a cell and the edges that leave it.

    Attributes:
        prefix: prefix of its tensors' names, for example "cells.3.states.0.".
        edges: rows of alpha, one per edge, in the order of their target nodes.
        stride: stride of the operations on these edges.
    """

    prefix: str
    edges: tuple[int, ...]
    stride: int


@dataclass(frozen=True)
class CellShape:
    """One cell of the supernet.

    Attributes:
        index, kind: its position and the alphas that weight its operations.
        reduction, after_reduction: as in `engine.architecture.placement.CellPosition`.
        channels: channels of its nodes.
        inputs: channels of its two inputs (cell k-2, cell k-1).
        map_size: (height, width) of its states 0 and 1.
        states: the five states that have outgoing edges.
        partial: K: the operations on its edges act on the first 1 / K of the channels (`engine.space.partial`).
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
        """Channels that the operations on its edges act on."""
        return self.channels // self.partial

def cell_shapes(kinds: Sequence[str], channels: int, layers: int, image_shape: Sequence[int], placement: str = "",
                width_ratio: str = "", partial: int = 1) -> tuple[CellShape, ...]:
    """Return the cells of a supernet from input to output; arguments as in `engine.space.supernet.Supernet`."""
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
    """Return the indices of the edges that leave a state, in the order of their target nodes."""
    return tuple(e for e, (source, _) in enumerate(EDGES) if source == state)


def weight_layout(cells: Sequence[CellShape], classes: int, image_channels: int) -> Layout:
    """Return the packing of the weights: stem, cells with their states, classifier."""
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
    """Return the packing of BatchNorm's running means and variances; all edges of a state share the BatchNorms of its pools."""
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
    """Pack one tensor per entry into a flat vector."""
    return torch.cat([values[entry.name].reshape(-1).to(dtype=dtype, device=device) for entry in layout.entries])
