"""A fast forward pass for derived networks. It gives the same result as running the network's modules, up to rounding.

Edges that read the same state (an input or node of a cell) share work, for example the ReLU. The forward pass has two forms:

- live: for training. It computes parameter gradients, respects BatchNorm's current mode and updates the running statistics.
- frozen: for attacks. It runs in evaluation mode with the current parameters as constants, folds BatchNorm into the preceding
  convolution, and computes gradients with respect to the images only.

Compiled kernels compute the frozen form if they support the network (`engine.space.compiled.frozen`). In all other cases, PyTorch
computes the network in one of two memory layouts (`engine.space.derived_layouts`): `Rows` for small maps (see `fits_rows`) and
`Maps` for larger ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.space.cell_network import CellNetwork, NetworkCell
from engine.space.compiled import frozen as kernels
from engine.space.dense import LARGEST_MAP
from engine.space.derived_layouts import (
    CHANNELS_LAST_FROM,
    Edge,
    Layout,
    Maps,
    Rows,
    Size,
    State,
    as_convolution,
    as_norm,
    stride_of,
)
from engine.space.primitives import DilConv, FactorizedReduce, ReLUConvBN, SepConv

# Drop path: a function from an operation's output to a new random factor for each image, as `primitives.dropped_scale` draws it.
DropScale = Callable[[Tensor], Tensor]


class Program:
    """The forward pass of one network, in one memory layout and for one image size.

    With a layout for constant parameters (`Layout.live` is False), the program copies the network's parameters, so later changes
    to the network have no effect.
    """

    def __init__(self, network: CellNetwork, layout: Layout, size: Size) -> None:
        """Build the forward pass of `network` for images whose (height, width) is `size`."""
        self.layout = layout
        self.cells: list[CellProgram] = []
        self._mean, self._std = (value if layout.live else value.clone() for value in (network.mean, network.std))
        self._enter = layout.stem(network.stem, size)
        before = size
        for cell in _cells(network):
            self.cells.append(CellProgram(cell, layout, before, size))
            before, size = size, self.cells[-1].size

    def __call__(self, x: Tensor, drop_scale: DropScale | None = None) -> list[Callable[[], Tensor]]:
        """Run the network on a batch of images.

        Args:
            x: images [B, C, H, W], pixels in 0..1.
            drop_scale: drop path; see `DropScale`. None for no drop path.

        Returns:
            One function for each cell k. It takes no arguments and returns the cell's output as [B, C_k, H_k, W_k].
        """
        before_last = last = State(self._enter((x - self._mean[:, None, None]) / self._std[:, None, None]))
        outputs: list[Callable[[], Tensor]] = []
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, drop_scale)
            outputs.append(partial(self.layout.leave, last.maps, cell.size))
        return outputs


class CellProgram:
    """The forward pass of one cell: the projections of the cell's two inputs, and two edges for each node."""

    def __init__(self, cell: NetworkCell, layout: Layout, before: Size, size: Size) -> None:
        """Build the forward pass of `cell`.

        Args:
            cell: the cell to compute.
            layout: memory layout of the maps.
            before: (height, width) of the cell's first input, the output of the cell before the previous one.
            size: (height, width) of the cell's second input, the output of the previous cell.
        """
        self.layout, self.concat = layout, cell.concat
        self.inputs = (_edge(cell.preprocess0, layout, before), _edge(cell.preprocess1, layout, size))
        self.size = size  # (height, width) of the nodes
        strides = {stride_of(op) for op, state in zip(cell._ops, cell.inputs, strict=True) if state < 2}
        if 2 in strides:
            self.size = (-(-size[0] // 2), -(-size[1] // 2))
        self.edges = [(state, _edge(op, layout, size if state < 2 else self.size))
                      for op, state in zip(cell._ops, cell.inputs, strict=True)]

    def __call__(self, before_last: State, last: State, drop_scale: DropScale | None) -> State:
        """Return the cell's output.

        Args:
            before_last: the cell's first input, the output of the cell before the previous one.
            last: the cell's second input, the output of the previous cell.
            drop_scale: drop path; see `DropScale`. None for no drop path.
        """
        states = [State(edge(state)) for edge, state in zip(self.inputs, (before_last, last), strict=True)]
        for pair in zip(self.edges[::2], self.edges[1::2], strict=True):
            if drop_scale is not None:
                total = self._dropped(pair, states, drop_scale)
            else:
                constants = [edge.constant for _, edge in pair if edge.constant is not None]
                total = sum(constants[1:], constants[0]) if constants else None
                for state, edge in pair:
                    total = edge.add(states[state], total)
            assert total is not None
            states.append(State(total))
        return State(self.layout.join([states[state].maps for state in self.concat]))

    def _dropped(self, pair: Sequence[tuple[int, Edge]], states: Sequence[State], drop_scale: DropScale) -> Tensor | None:
        total = None
        for state, edge in pair:
            value = edge(states[state])
            if edge.droppable:
                value = self.layout.scaled(value, drop_scale(value))
            total = self.layout.add(total, value)
        return total


def fits_rows(network: CellNetwork, x: Tensor) -> bool:
    """Return True if the memory layout `Rows`, made for small maps, can compute the network on images like x [B, C, H, W].

    The images must have at most `LARGEST_MAP` pixels and sides that are multiples of 4, and no operation may be a 7x1
    convolution.
    """
    height, width = x.shape[2:]
    plain = not any(isinstance(op, nn.Sequential) for cell in _cells(network) for op in cell._ops)  # not in `Rows`: 7x1
    return height * width <= LARGEST_MAP and height % 4 == width % 4 == 0 and plain


def layout_of(network: CellNetwork, x: Tensor, *, live: bool) -> Layout:
    """Return the faster memory layout for images with the size and device of x.

    Args:
        network: the network to compute.
        x: images [B, C, H, W].
        live: True for a pass that trains the network, False for one with constant parameters.
    """
    if fits_rows(network, x):
        return Rows(live=live)
    last = network.channels_last or x.device.type == "cpu" and network.channels >= CHANNELS_LAST_FROM
    return Maps(torch.channels_last if last else torch.contiguous_format, live=live)


def frozen(network: CellNetwork, size: Size) -> Callable[[Tensor], Tensor]:
    """Return the network in evaluation mode as a function of images, with its current parameters as constants.

    The function maps images [B, C, *size], pixels in 0..1, to logits [B, classes]. It uses the compiled kernels if they support
    the network.
    """
    if kernels.serves(network, size):
        return kernels.Frozen(network, size)
    return frozen_by_layout(network, size)


def frozen_by_layout(network: CellNetwork, size: Size) -> Callable[[Tensor], Tensor]:
    """Return the network in evaluation mode as a function of images, computed by PyTorch instead of the compiled kernels.

    The function maps images [B, C, *size], pixels in 0..1, to logits [B, classes]. The network's parameters are constants.
    """
    with torch.no_grad():
        program = Program(network, layout_of(network, network.mean.new_empty(1, 1, *size), live=False), size)
        classifier = [parameter.clone() for parameter in network.classifier.parameters()]

    def logits(x: Tensor) -> Tensor:
        return F.linear(program(x)[-1]().mean(dim=(2, 3)), *classifier)

    def logits_or_query(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return logits(x)
        with torch.inference_mode():  # 10 % faster than no_grad; black-box attacks make thousands of queries
            queried = logits(x)
        return queried.clone()  # a copy made outside inference mode is a normal tensor, which the caller may modify

    return logits_or_query


def _cells(network: CellNetwork) -> Iterator[NetworkCell]:
    return cast(Iterator[NetworkCell], iter(network.cells))


def _edge(module: nn.Module, layout: Layout, size: Size) -> Edge:
    """Return a module as an `Edge`, an object that adds the module's result to a running sum.

    Args:
        module: operation of a cell, or projection of a cell's input.
        layout: memory layout of the maps.
        size: (height, width) of the module's input.
    """
    if isinstance(module, nn.Identity):
        return Edge(lambda state, total: layout.add(total, state.maps), droppable=False)
    if isinstance(module, ReLUConvBN):
        add, constant = layout.projection(as_convolution(module.op[1]), as_norm(module.op[2]))
        return Edge(lambda state, total: add(state.rectified, total), constant)
    if isinstance(module, FactorizedReduce):
        add, constant = layout.reduction(module, size)
        return Edge(lambda state, total: add(state.rectified, total), constant)
    if isinstance(module, DilConv):
        spread = layout.depthwise(as_convolution(module.op[1]), size)
        add, constant = layout.projection(as_convolution(module.op[2]), as_norm(module.op[3]))
        return Edge(lambda state, total: add(spread(state.rectified), total), constant)
    if isinstance(module, SepConv):
        stride = stride_of(module)
        spread, again = (layout.depthwise(as_convolution(module.op[1]), size),
                         layout.depthwise(as_convolution(module.op[5]), (-(-size[0] // stride), -(-size[1] // stride))))
        first, shift = layout.projection(as_convolution(module.op[2]), as_norm(module.op[3]))
        add, constant = layout.projection(as_convolution(module.op[6]), as_norm(module.op[7]))
        return Edge(lambda state, total: add(again(F.relu(first(spread(state.rectified), shift))), total), constant)
    return layout.other(module, size)
