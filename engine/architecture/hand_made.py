"""Hand-made residual networks for small images, as baselines for derived networks.

The networks are ResNet (He et al. 2016a, arXiv 1512.03385), PreActResNet (He et al. 2016b, arXiv 1603.05027) and WideResNet
(Zagoruyko and Komodakis 2016, arXiv 1605.07146). All have a 3x3 stem of stride 1, blocks of two 3x3 convolutions, and no pooling
before the end, as is usual in the robustness literature for 32x32 images. This module defines their names, shapes and costs, and
imports no torch. `engine.space.residual` builds the networks.

Their width can be chosen: "wide-resnet-10-1@12.6" has 12.6 base channels instead of the published 16, and each stage has its
published multiple of them, rounded to whole channels. Tenths of base channels allow finer steps of the network's size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Self

from engine.architecture.cost import Cost, convolution_cost, linear_cost, norm_cost
from engine.architecture.named import NamedNetwork
from engine.architecture.placement import check_size, halved
from engine.errors import ConfigError, shortened

if TYPE_CHECKING:
    from torch import nn

WIDE = "wide-resnet-"
DEPTHS, WIDENINGS = range(10, 1000, 6), range(1, 100)  # WideResNets have 6 m + 4 layers and are widened k times
BASE_CHANNELS = tuple(tenths / 10 for tenths in range(10, 10_241))  # values of ResidualShape.base_channels


@dataclass(frozen=True)
class Block:
    """The shape of a residual block.

    Attributes:
        inputs, outputs: number of input channels and of output channels.
        stride: stride of the block's first convolution, 1 or 2.
    """

    inputs: int
    outputs: int
    stride: int

    @property
    def projects(self) -> bool:
        """True if the shortcut is a 1x1 convolution, False if it is the identity."""
        return self.stride != 1 or self.inputs != self.outputs


@dataclass(frozen=True)
class ResidualShape:
    """The shape of a residual network, independent of its images and classes.

    Attributes:
        family: name of the network at its published width, for example "wide-resnet-28-10".
        family_title: display name at its published width, for example "WRN-28-10".
        source: paper and arXiv number.
        published_channels: base channels of the paper.
        multiples: number of channels of each stage, in units of the base channels. Every stage except the first halves height and
            width.
        depth: number of blocks in each stage.
        preactivation: True if BatchNorm and ReLU precede each convolution (He et al. 2016b), False if they follow it.
        base_channels: width of the network: the number of channels of the stem before rounding. One of `BASE_CHANNELS`.
    """

    family: str
    family_title: str
    source: str
    published_channels: float
    multiples: tuple[int, ...]
    depth: int
    preactivation: bool
    base_channels: float

    @property
    def name(self) -> str:
        """Name in settings and files, for example "wide-resnet-28-10", or "wide-resnet-28-10@12.6" at another width."""
        return f"{self.family}{self._width_text}"

    @property
    def title(self) -> str:
        """Display name, for example "WRN-28-10", or "WRN-28-10@12.6" at another width."""
        return f"{self.family_title}{self._width_text}"

    @property
    def _width_text(self) -> str:
        return "" if self.base_channels == self.published_channels else f"@{self.base_channels:g}"

    @property
    def stem(self) -> int:
        """Number of channels of the stem."""
        return _rounded(self.base_channels)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of channels of each stage (group of successive blocks with equal width)."""
        return tuple(_rounded(multiple * self.base_channels) for multiple in self.multiples)

    def at_width(self, base_channels: float) -> ResidualShape:
        """Return a copy of the shape with `base_channels` as the number of base channels.

        If the stem and all stages then have the published numbers of channels after rounding, return the published shape.
        """
        changed = replace(self, base_channels=base_channels)
        published = replace(self, base_channels=self.published_channels)
        return published if (changed.stem, changed.widths) == (published.stem, published.widths) else changed

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks from input to output."""
        inputs = self.stem
        for stage, outputs in enumerate(self.widths):
            for position in range(self.depth):
                yield Block(inputs, outputs, 2 if stage and not position else 1)
                inputs = outputs


def _rounded(channels: float) -> int:
    """Return the nearest whole number; halves are rounded up."""
    return int(channels + 0.5)


RESNETS = {
    "resnet-18": ResidualShape("resnet-18", "ResNet-18", "He et al. 2016, arXiv 1512.03385", 64, (1, 2, 4, 8), 2, False, 64),
    "preact-resnet-18": ResidualShape("preact-resnet-18", "PreActResNet-18", "He et al. 2016, arXiv 1603.05027", 64,
                                      (1, 2, 4, 8), 2, True, 64)}


@dataclass(frozen=True)
class HandMadeNetwork(NamedNetwork):
    """A residual network for the images and classes of one dataset.

    Attributes:
        shape: the shape of the residual network.
    """

    shape: ResidualShape

    OFFERED: ClassVar[tuple[str, ...]] = ("resnet-18", "preact-resnet-18", "wide-resnet-28-10", "wide-resnet-34-10")
    FORMS: ClassVar[str] = f"{', '.join(RESNETS)} or {WIDE}N-K (N layers, widened K times); NAME@C for C base channels"

    @classmethod
    def recognises(cls, text: str) -> bool:
        return text.strip().lower().startswith((*RESNETS, WIDE))

    @classmethod
    def from_name(cls, text: str, classes: int, image_shape: Sequence[int]) -> Self | None:
        channels, height, width = image_shape
        shape = residual_shape(text)
        return cls(classes, (channels, height, width), shape) if shape else None

    @property
    def name(self) -> str:
        return self.shape.name

    @property
    def title(self) -> str:
        return self.shape.title

    @property
    def width(self) -> float:
        return self.shape.base_channels

    @property
    def widths(self) -> tuple[float, ...]:
        return BASE_CHANNELS

    def at_width(self, width: float) -> Self:
        return replace(self, shape=self.shape.at_width(width))

    @property
    def source(self) -> str:
        return self.shape.source

    @property
    def description(self) -> str:
        shape, order = self.shape, "before" if self.shape.preactivation else "after"
        return (f"{len(shape.widths)} stages of {shape.depth} residual blocks of two 3x3 convolutions, "
                f"{', '.join(map(str, shape.widths))} channels, BatchNorm and ReLU {order} each convolution.")

    def cost(self, *, auxiliary: bool = False) -> Cost:
        """Return parameters and MACs. The network has no auxiliary head, so `auxiliary` changes nothing."""
        shape = self.shape
        check_size(shape.stem, self.classes, self.image_shape)
        image_channels, *size = self.image_shape
        total = convolution_cost(image_channels, shape.stem, 9, size)
        total += norm_cost(shape.widths[-1] if shape.preactivation else shape.stem)
        for block in shape.blocks():
            size = [halved(side) for side in size] if block.stride == 2 else size
            total += convolution_cost(block.inputs, block.outputs, 9, size) + norm_cost(block.outputs)
            total += convolution_cost(block.outputs, block.outputs, 9, size)
            total += norm_cost(block.inputs if shape.preactivation else block.outputs)
            if block.projects:
                total += convolution_cost(block.inputs, block.outputs, 1, size)
                total += Cost(0, 0) if shape.preactivation else norm_cost(block.outputs)
        return total + linear_cost(shape.widths[-1], self.classes)

    def build(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        module: nn.Module = import_module("engine.space.residual").ResidualNetwork(
            self.shape, classes=self.classes, image_shape=self.image_shape, mean=mean, std=std)
        return module


def residual_shape(name: str) -> ResidualShape | None:
    """Return the shape of the residual network with this name, or None if the name does not have one of the forms below.

    A name is a key of `RESNETS`, or "wide-resnet-N-K" for N layers and K times the usual width. Either may end with "@C" for C
    base channels.

    Raises:
        ConfigError: the name describes a WideResNet with an impossible depth or width, or C is not a valid number.
    """
    family, at, width = name.strip().lower().partition("@")
    shape = _published_shape(family)
    if shape is None or not at:
        return shape
    channels = float(width) if re.fullmatch(r"\d{1,4}(\.\d)?", width) else 0.0
    if not BASE_CHANNELS[0] <= channels <= BASE_CHANNELS[-1]:
        raise ConfigError(problems={"network": (
            f"The base channels of {shape.title} must be a number from {BASE_CHANNELS[0]:g} to {BASE_CHANNELS[-1]:g} with at "
            f"most one decimal, got {shortened(width)}; write for example {shape.family}@{shape.published_channels / 2:g}, or "
            f"leave out @ for the published {shape.published_channels:g}.")})
    return shape.at_width(channels)


def _published_shape(text: str) -> ResidualShape | None:
    """Return the shape of the network with this name (without "@C"), or None if the name has no form that `residual_shape` reads.

    Raises:
        ConfigError: the name describes a WideResNet with an impossible depth or width.
    """
    if text in RESNETS:
        return RESNETS[text]
    match = re.fullmatch(WIDE + r"(\d{1,3})-(\d{1,2})", text)
    if not match:
        return None
    layers, width = int(match[1]), int(match[2])
    if layers not in DEPTHS or width not in WIDENINGS:
        near = min(DEPTHS, key=lambda depth: abs(depth - layers))
        raise ConfigError(problems={"network": (
            f"The layers of a WideResNet must be 6 m + 4 (10, 16, 22, 28, 34, ...) and its width at least 1, got {layers} and "
            f"{width}; use for example {WIDE}{near}-{max(width, 1)}.")})
    return ResidualShape(f"{WIDE}{layers}-{width}", f"WRN-{layers}-{width}", "Zagoruyko and Komodakis 2016, arXiv 1605.07146", 16,
                         (width, 2 * width, 4 * width), (layers - 4) // 6, True, 16)
