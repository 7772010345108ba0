"""The parameters and multiply-adds (MACs) of a derived network, computed without building it. Does not import torch.

MACs count convolutions and linear layers, but not BatchNorm and pooling. Parameters include BatchNorm's affine parameters (two
per channel).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.architecture.genotype import NONE, Cell, Genotype
from engine.architecture.placement import STEM_MULTIPLIER, CellPosition, auxiliary_map, check_size, halved, positions, reductions

AUXILIARY_CHANNELS = (128, 768)  # outputs of the auxiliary head's two convolutions (DARTS)


@dataclass(frozen=True)
class Cost:
    """The number of parameters of a network, and the multiply-adds of a forward pass on one image.

    Attributes:
        parameters: number of trainable parameters.
        macs: multiply-adds of convolutions and linear layers.
    """

    parameters: int
    macs: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.macs + other.macs)


@dataclass(frozen=True)
class Part:
    """The cost of one part of a network.

    Attributes:
        name: name in the state dict: "stem", "cells.3", "auxiliary_head" or "classifier".
        kind: cell kind; "" if the part is not a cell.
        cost: parameters and MACs of this part.
    """

    name: str
    kind: str
    cost: Cost


FREE = Cost(0, 0)


def cost(genotype: Genotype, *, channels: int, layers: int, classes: int, image_shape: Sequence[int],
         auxiliary: bool = False, placement: str = "", width_ratio: str = "") -> Cost:
    """Return the numbers of parameters and MACs of a derived network.

    The arguments are described in `breakdown`.

    Example:
        cost(find_genotype("ARNAS"), channels=64, layers=20, classes=10, image_shape=(3, 32, 32)).parameters  # 4520394

    Raises:
        ConfigError: no network can have these sizes, or the placement is for other cell kinds.
    """
    parts = breakdown(genotype, channels=channels, layers=layers, classes=classes, image_shape=image_shape,
                      auxiliary=auxiliary, placement=placement, width_ratio=width_ratio)
    return sum((part.cost for part in parts), FREE)


def breakdown(genotype: Genotype, *, channels: int, layers: int, classes: int, image_shape: Sequence[int],
              auxiliary: bool = False, placement: str = "", width_ratio: str = "") -> list[Part]:
    """Return the cost of each part of a network, from input to output.

    Args:
        genotype: the architecture.
        channels: C, the width of the first cells.
        layers: number of cells.
        classes: number of classes.
        image_shape: (channels, height, width) of an image.
        auxiliary: True to count the auxiliary head, which only training uses.
        placement: name of the rule that gives the cell kind at each position; empty for the rule published for the genotype's
            cell kinds.
        width_ratio: relative widths of the first, middle and last third of the network, such as "1:2:4"; empty for the published
            ratio.

    Raises:
        ConfigError: no network can have these sizes, or the placement is for other cell kinds.
    """
    check_size(channels, classes, image_shape, width_ratio)
    image_channels, *size = image_shape
    last = before_last = STEM_MULTIPLIER * channels
    parts = [Part("stem", "", convolution_cost(image_channels, last, 9, size) + norm_cost(last))]
    size_before = size
    for i, position in enumerate(positions(genotype.kinds, layers, placement, width_ratio)):
        cell, width = genotype.cell(position.kind), position.channels_multiplier * channels
        parts.append(Part(f"cells.{i}", position.kind, _cell(cell, position, before_last, last, width, size_before, size)))
        before_last, last = last, len(cell.concat) * width
        size_before, size = size, [halved(s) for s in size] if position.reduction else size
        if auxiliary and i == reductions(layers)[1]:
            parts.append(Part("auxiliary_head", "", _auxiliary_head(last, classes, image_shape)))
    parts.append(Part("classifier", "", linear_cost(last, classes)))
    return parts


def _cell(cell: Cell, position: CellPosition, before_last: int, last: int, width: int, size_before: Sequence[int],
          size: Sequence[int]) -> Cost:
    if position.after_reduction:
        total = _factorized_reduce(before_last, width, size_before)
    else:
        total = convolution_cost(before_last, width, 1, size_before) + norm_cost(width)
    total += convolution_cost(last, width, 1, size) + norm_cost(width)
    small = [halved(s) for s in size] if position.reduction else size
    for operation, state in cell.edges:
        stride = 2 if position.reduction and state < 2 else 1
        total += _operation(operation, width, stride, size if state < 2 else small)
    return total


def _operation(name: str, channels: int, stride: int, size: Sequence[int]) -> Cost:
    """Return the cost of the operation on one edge. `size` is the (height, width) of the operation's input."""
    out = [halved(s) for s in size] if stride == 2 else size
    if name == "skip_connect":
        return _factorized_reduce(channels, channels, size) if stride == 2 else FREE
    if name == NONE or "pool" in name:
        return FREE
    if name == "conv_7x1_1x7":  # 1x7 strides along the width, then 7x1 along the height
        return (convolution_cost(channels, channels, 7, (size[0], out[1])) + convolution_cost(channels, channels, 7, out)
                + norm_cost(channels))
    kernel = int(name[-1])
    separable = (convolution_cost(channels, channels, kernel * kernel, out, groups=channels)
                 + convolution_cost(channels, channels, 1, out) + norm_cost(channels))
    return separable + separable if name.startswith("sep") else separable


def _auxiliary_head(channels: int, classes: int, image_shape: Sequence[int]) -> Cost:
    middle, features = AUXILIARY_CHANNELS
    height, width = auxiliary_map(image_shape)
    return (convolution_cost(channels, middle, 1, (height, width)) + norm_cost(middle)
            + convolution_cost(middle, features, height * width, (1, 1)) + norm_cost(features) + linear_cost(features, classes))


def _factorized_reduce(inputs: int, outputs: int, size: Sequence[int]) -> Cost:
    """Return the cost of a factorized reduction of an input with (height, width) `size`.

    It consists of two 1x1 convolutions of stride 2, each with half of the output channels, and a BatchNorm.
    """
    return convolution_cost(inputs, outputs, 1, [halved(s) for s in size]) + norm_cost(outputs)


def convolution_cost(inputs: int, outputs: int, taps: int, size: Sequence[int], groups: int = 1) -> Cost:
    """Return the cost of a convolution without bias.

    Args:
        inputs, outputs: number of input channels and of output channels.
        taps: kernel height times kernel width.
        size: (height, width) of the output.
        groups: number of groups.
    """
    parameters = inputs // groups * outputs * taps
    return Cost(parameters, parameters * size[0] * size[1])


def norm_cost(channels: int) -> Cost:
    """Return the cost of an affine BatchNorm."""
    return Cost(2 * channels, 0)


def linear_cost(inputs: int, outputs: int) -> Cost:
    """Return the cost of a linear layer with bias."""
    return Cost((inputs + 1) * outputs, inputs * outputs)
