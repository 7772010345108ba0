"""A derived network in evaluation mode as a list of steps for the kernels (kernels/frozen.c).

Each step is one operation. The BatchNorm after the operation is folded into the operation's weights and into a constant. Two
operations contribute to each node of a cell. The first one writes its result plus the constants of both operations, and the
second one adds its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from engine.space.derived_layouts import Size, as_convolution, as_norm, folded, stride_of
from engine.space.primitives import DilConv, FactorizedReduce, ReLUConvBN, SepConv, Zero

if TYPE_CHECKING:
    from engine.space.cell_network import CellNetwork, NetworkCell

STEM, PROJECT, SEPARABLE, SKIP, AVERAGE, MAXIMUM, MEAN, FILL = range(8)  # the kinds of steps in kernels/frozen.c
NONE = -1
INPUT, OUTPUT = 0, 1  # numbers of the buffers that hold images and logits


class Maps(NamedTuple):
    """A range of consecutive channels in a buffer. A buffer is a group of feature maps of equal size."""

    buffer: int
    first: int
    channels: int
    size: Size

    def part(self, first: int, channels: int) -> Maps:
        """Return a smaller range: `channels` channels, starting at channel `first` of this range."""
        return self._replace(first=self.first + first, channels=channels)

    @property
    def keys(self) -> set[tuple[int, int]]:
        """The channels as a set of (buffer index, channel index) pairs."""
        return {(self.buffer, channel) for channel in range(self.first, self.first + self.channels)}


@dataclass(frozen=True)
class Step:
    """One operation of a compiled network. It reads the feature maps `read` and writes the feature maps `written`.

    The file kernels/frozen.c explains the other fields.
    """

    kind: int
    read: Maps
    written: Maps
    stride: int = 1
    shift: int = 0
    size: int = 0
    dilation: int = 1
    rectify: bool = False
    weight: int = NONE
    kernel: int = NONE
    constant: int = NONE
    fresh: bool = False

    def row(self, values: Sequence[int], gradients: Sequence[int]) -> list[int]:
        """Return the fields of the struct `Step` in kernels/frozen.c.

        `values` and `gradients` are the offsets of all buffers in the memory for values and in the memory for gradients.
        """
        offsets = [places[maps.buffer] + maps.first * plane(maps.size) for places in (values, gradients)
                   for maps in (self.read, self.written)]
        return [self.kind, *offsets, self.read.channels, self.written.channels, *self.read.size, self.stride, self.shift,
                self.size, self.dilation, int(self.rectify), self.weight, self.kernel, self.constant, int(self.fresh)]

    @property
    def scratch(self) -> int:
        """The number of SIMD vectors that the kernels need for intermediate values."""
        height, width = self.read.size
        if self.kind == STEM:
            return self.read.channels * self.size ** 2 * width
        if self.kind == PROJECT:
            return self.read.channels * width
        if self.kind == SEPARABLE:
            margin = 2 * self.dilation * (self.size // 2)
            return self.read.channels * plane(self.written.size) + (height + margin) * (width + margin)
        return 0


class Program:
    """The steps (single operations) that compute one network for one image size.

    Attributes:
        steps: the steps in order.
        buffers: (channels, (height, width)) of each buffer. A buffer is a group of feature maps of equal size.
        weights: the tensors that are joined to one vector of weights, in order. A step refers to a tensor by its offset in this
            vector.
    """

    def __init__(self, network: CellNetwork, size: Size) -> None:
        """List the steps of `network` for images whose (height, width) is `size`.

        The tensors in the attribute `weights` may share memory with the network's parameters.
        """
        self.steps: list[Step] = []
        self.buffers: list[tuple[int, Size]] = []
        self.weights: list[Tensor] = []
        self._stored = 0
        with torch.no_grad():
            images, logits = self._buffer(len(network.mean), size), self._buffer(network.classifier.out_features, (1, 1))
            last = self._stem(network.stem, images)
            before_last = last
            for cell in network.cells:
                before_last, last = last, self._cell(cast("NetworkCell", cell), before_last, last)
            pooled = self._buffer(last.channels, (1, 1))
            self.steps.append(Step(MEAN, last, pooled))
            self.steps.append(Step(PROJECT, pooled, logits, weight=self._store(network.classifier.weight),
                                   constant=self._store(network.classifier.bias)))
        self._finish(logits)

    @property
    def scratch(self) -> int:
        """The number of SIMD vectors that the kernels need for intermediate values of any one step."""
        return max(step.scratch for step in self.steps)

    def lifetimes(self) -> list[tuple[int, int]]:
        """Return [(first step, last step)], one pair per buffer: the numbers of the first and last step that use the buffer."""
        used: list[list[int]] = [[] for _ in self.buffers]
        for number, step in enumerate(self.steps):
            used[step.read.buffer].append(number)
            used[step.written.buffer].append(number)
        return [(min(numbers, default=0), max(numbers, default=0)) for numbers in used]

    def table(self, values: Sequence[int], gradients: Sequence[int]) -> Tensor:
        """Return the steps as an array of structs for the compiled kernels, int64 [steps, fields of a struct].

        Args:
            values: offset of each buffer in the memory for values.
            gradients: offset of each buffer in the memory for gradients.
        """
        return torch.tensor([step.row(values, gradients) for step in self.steps], dtype=torch.int64)

    def _buffer(self, channels: int, size: Size) -> Maps:
        self.buffers.append((channels, size))
        return Maps(len(self.buffers) - 1, 0, channels, size)

    def _store(self, weight: Tensor) -> int:
        self.weights.append(weight)
        self._stored += weight.numel()
        return self._stored - weight.numel()

    def _stem(self, stem: nn.Sequential, images: Maps) -> Maps:
        convolution, (scale, shift) = as_convolution(stem[0]), folded(as_norm(stem[1]))
        maps = self._buffer(len(scale), images.size)
        self.steps.append(Step(STEM, images, maps, size=convolution.kernel_size[0], constant=self._store(shift),
                               weight=self._store(scale[:, None] * convolution.weight.flatten(1))))
        return maps

    def _cell(self, cell: NetworkCell, before_last: Maps, last: Maps) -> Maps:
        """Add the steps that compute one cell to the program, and return the cell's output.

        The output nodes are adjacent in one buffer, so that a single step of a later cell can read all of them.

        Args:
            cell: the cell.
            before_last: output of the cell before the previous one (or of the stem).
            last: output of the previous cell (or of the stem).
        """
        size = last.size
        strides = {stride_of(op) for op, state in zip(cell._ops, cell.inputs, strict=True) if state < 2}
        if 2 in strides:
            size = (size[0] // 2, size[1] // 2)
        projections = cell.preprocess0, cell.preprocess1
        constants = [_constant(module, 0) for module in projections]
        channels = len(constants[0])
        states = [self._buffer(channels, last.size) for _ in projections]
        for module, maps, state, constant in zip(projections, (before_last, last), states, constants, strict=True):
            self._edge(module, maps, state, constant)
        output = self._buffer(len(cell.concat) * channels, size)
        for first in range(0, len(cell.inputs), 2):
            node = 2 + first // 2
            states.append(output.part(cell.concat.index(node) * channels, channels) if node in cell.concat
                          else self._buffer(channels, size))
            self._node([(cell._ops[edge], states[cell.inputs[edge]]) for edge in (first, first + 1)], states[node])
        return output

    def _node(self, edges: Sequence[tuple[nn.Module, Maps]], node: Maps) -> None:
        """Add the steps that compute a node of a cell from its edges.

        The constants of all edges (the shifts of their BatchNorms) are summed in advance. The first edge adds its result to this
        sum.
        """
        constant: Tensor | None = torch.stack([_constant(op, node.channels) for op, _ in edges]).sum(0)
        for op, state in edges:
            if not isinstance(op, Zero):
                self._edge(op, state, node, constant)
                constant = None
        if constant is not None:
            self.steps.append(Step(FILL, node, node, constant=self._store(constant)))

    def _edge(self, module: nn.Module, read: Maps, written: Maps, constant: Tensor | None) -> None:
        """Add the steps of an operation to the program.

        Args:
            module: the operation.
            read: feature maps that the operation reads.
            written: feature maps that receive the result.
            constant: [channels]. The steps set `written` to constant + result. If it is None, they add the result to `written`.
        """
        if isinstance(module, SepConv):
            middle = self._buffer(read.channels, _halved(read.size, stride_of(module)))
            self._separable(module.op[1], module.op[2], module.op[3], read, middle, folded(as_norm(module.op[3]))[1])
            self._separable(module.op[5], module.op[6], module.op[7], middle, written, constant)
        elif isinstance(module, DilConv):
            self._separable(module.op[1], module.op[2], module.op[3], read, written, constant)
        elif isinstance(module, ReLUConvBN):
            self._project(as_convolution(module.op[1]), folded(as_norm(module.op[2]))[0], read, written, constant)
        elif isinstance(module, FactorizedReduce):
            half = written.channels // 2
            scales = folded(module.bn)[0].split(half)
            constants = [None] * 2 if constant is None else constant.split(half)
            for shift, (convolution, scale) in enumerate(zip((module.conv_1, module.conv_2), scales, strict=True)):
                self._project(convolution, scale, read, written.part(shift * half, half), constants[shift], shift)
        else:
            kind = {nn.Identity: SKIP, nn.AvgPool2d: AVERAGE, nn.MaxPool2d: MAXIMUM}[type(module)]
            self.steps.append(Step(kind, read, written, stride=stride_of(module), constant=self._optional(constant)))

    def _project(self, convolution: nn.Conv2d, scale: Tensor, read: Maps, written: Maps, constant: Tensor | None,
                 shift: int = 0) -> None:
        weight = self._store(scale[:, None] * convolution.weight.flatten(1))
        self.steps.append(Step(PROJECT, read, written, stride=convolution.stride[0], shift=shift, rectify=True, weight=weight,
                               constant=self._optional(constant)))

    def _separable(self, depthwise: nn.Module, pointwise: nn.Module, norm: nn.Module, read: Maps, written: Maps,
                   constant: Tensor | None) -> None:
        """Add the step of ReLU, depthwise convolution, 1x1 convolution and BatchNorm."""
        spread, project, scale = as_convolution(depthwise), as_convolution(pointwise), folded(as_norm(norm))[0]
        self.steps.append(Step(
            SEPARABLE, read, written, stride=spread.stride[0], size=spread.kernel_size[0], dilation=spread.dilation[0],
            rectify=True, kernel=self._store(spread.weight), weight=self._store(scale[:, None] * project.weight.flatten(1)),
            constant=self._optional(constant)))

    def _optional(self, constant: Tensor | None) -> int:
        return NONE if constant is None else self._store(constant)

    def _finish(self, logits: Maps) -> None:
        """Drop steps that the logits do not depend on, and mark the steps whose backward pass overwrites gradients.

        The backward pass visits the steps from last to first. Each step contributes to the gradients of the maps that it reads.
        The first contribution to a gradient overwrites it, and every later contribution is added.
        """
        written, steps = logits.keys, []
        for step in reversed(self.steps):
            if written.isdisjoint(step.written.keys):
                continue
            keys = step.read.keys if step.kind != FILL else set()
            steps.append(replace(step, fresh=written.isdisjoint(keys)))
            assert steps[-1].fresh or keys <= written
            written |= keys
        self.steps = steps[::-1]


def plane(size: Size) -> int:
    """Return the number of SIMD vectors that the kernels keep for one channel whose (height, width) is `size`."""
    return size[0] * size[1] | 1


def placed(buffers: Sequence[tuple[int, Size]], lifetimes: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """Assign an offset in one block of memory to each buffer. Buffers may share memory if their lifetimes do not overlap.

    Args:
        buffers: (channels, (height, width)) of each buffer.
        lifetimes: for each buffer, the numbers of the first and the last step that use it.

    Returns:
        places: offset of each buffer in the block, in SIMD vectors.
        size: length of the block, in SIMD vectors.
    """
    lengths = [channels * plane(size) for channels, size in buffers]
    places: dict[int, int] = {}
    for number in sorted(range(len(buffers)), key=lambda each: lifetimes[each]):
        first, last = lifetimes[number]
        taken = sorted((place, place + lengths[other]) for other, place in places.items()
                       if lifetimes[other][0] <= last and first <= lifetimes[other][1])
        place = 0
        for start, end in taken:
            if place + lengths[number] <= start:
                break
            place = max(place, end)
        places[number] = place
    return [places[number] for number in range(len(buffers))], max(places[each] + lengths[each] for each in places)


def _constant(module: nn.Module, channels: int) -> Tensor:
    """Return the number that an operation's last BatchNorm adds to each channel, [channels]; zeros if there is no BatchNorm."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    return folded(norms[-1])[1] if norms else torch.zeros(channels)


def _halved(size: Size, stride: int) -> Size:
    return size[0] // stride, size[1] // stride
