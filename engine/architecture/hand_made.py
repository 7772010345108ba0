"""Hand-made networks to compare derived ones with: residual networks in their forms for small images.

ResNet (He et al. 2016a, arXiv 1512.03385), PreActResNet (He et al. 2016b, arXiv 1603.05027) and WideResNet (Zagoruyko and
Komodakis 2016, arXiv 1605.07146), all of blocks of two 3x3 convolutions, with a 3x3 stem of stride 1 and no pooling before
the end, as the literature on robustness has them for 32x32 images. Here are their names, shapes and costs; imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.architecture.cost import Cost, convolution_cost, linear_cost, norm_cost
from engine.architecture.placement import check_size, halved
from engine.errors import ConfigError, shortened

DERIVED = "derived"  # what RetrainConfig.network says of a network that is no hand-made one
WIDE = "wide-resnet-"
DEPTHS, WIDTHS = range(10, 1000, 6), range(1, 100)  # of WideResNets: 6 m + 4 layers, widened k times
OFFERED = ("resnet-18", "preact-resnet-18", "wide-resnet-28-10", "wide-resnet-34-10")  # by the page; any size can be typed


@dataclass(frozen=True)
class Block:
    """Where a residual block stands.

    Attributes:
        inputs, outputs: channels.
        stride: of its first convolution, 1 or 2.
    """

    inputs: int
    outputs: int
    stride: int

    @property
    def projects(self) -> bool:
        """Whether the shortcut is a 1x1 convolution; else it is the identity."""
        return self.stride != 1 or self.inputs != self.outputs


@dataclass(frozen=True)
class HandMade:
    """One hand-made network.

    Attributes:
        name: as in settings and files, for example "wide-resnet-28-10".
        title: as in print, for example "WRN-28-10".
        source: paper and arXiv number.
        stem: channels of the stem.
        widths: channels of the stages; each but the first halves height and width.
        depth: blocks of a stage.
        preactivation: BatchNorm and ReLU before each convolution (He et al. 2016b) instead of behind it.
    """

    name: str
    title: str
    source: str
    stem: int
    widths: tuple[int, ...]
    depth: int
    preactivation: bool

    def blocks(self) -> Iterator[Block]:
        """From input to output."""
        inputs = self.stem
        for stage, outputs in enumerate(self.widths):
            for position in range(self.depth):
                yield Block(inputs, outputs, 2 if stage and not position else 1)
                inputs = outputs

    def cost(self, classes: int, image_shape: Sequence[int]) -> Cost:
        """Parameters and MACs, counted as in `engine.architecture.cost`.

        Raises:
            ConfigError: sizes no network can have.
        """
        check_size(self.stem, classes, image_shape)
        image_channels, *size = image_shape
        total = convolution_cost(image_channels, self.stem, 9, size)
        total += norm_cost(self.widths[-1] if self.preactivation else self.stem)
        for block in self.blocks():
            size = [halved(side) for side in size] if block.stride == 2 else size
            total += convolution_cost(block.inputs, block.outputs, 9, size) + norm_cost(block.outputs)
            total += convolution_cost(block.outputs, block.outputs, 9, size)
            total += norm_cost(block.inputs if self.preactivation else block.outputs)
            if block.projects:
                total += convolution_cost(block.inputs, block.outputs, 1, size)
                total += Cost(0, 0) if self.preactivation else norm_cost(block.outputs)
        return total + linear_cost(self.widths[-1], classes)


RESNETS = {
    "resnet-18": HandMade("resnet-18", "ResNet-18", "He et al. 2016, arXiv 1512.03385", 64, (64, 128, 256, 512), 2, False),
    "preact-resnet-18": HandMade("preact-resnet-18", "PreActResNet-18", "He et al. 2016, arXiv 1603.05027", 64,
                                 (64, 128, 256, 512), 2, True)}


def hand_made(name: str) -> HandMade:
    """The network of a name: one of `RESNETS`, or wide-resnet-N-K for WRN-N-K.

    Raises:
        ConfigError: no such network.
    """
    text = name.strip().lower()
    if text in RESNETS:
        return RESNETS[text]
    found = re.fullmatch(WIDE + r"(\d{1,3})-(\d{1,2})", text)
    if not found:
        raise ConfigError(problems={"network": (
            f"network must be {DERIVED}, {', '.join(RESNETS)} or {WIDE}N-K (N layers, widened K times), got "
            f"{shortened(name)}; give one of them, for example {OFFERED[2]}.")})
    layers, width = int(found[1]), int(found[2])
    if layers not in DEPTHS or width not in WIDTHS:
        near = min(DEPTHS, key=lambda depth: abs(depth - layers))
        raise ConfigError(problems={"network": (
            f"The layers of a WideResNet must be 6 m + 4 (10, 16, 22, 28, 34, ...) and its width at least 1, got "
            f"{layers} and {width}; take for example {WIDE}{near}-{max(width, 1)}.")})
    return HandMade(f"{WIDE}{layers}-{width}", f"WRN-{layers}-{width}", "Zagoruyko and Komodakis 2016, arXiv 1605.07146", 16,
                    (16 * width, 32 * width, 64 * width), (layers - 4) // 6, True)


def is_hand_made(text: str) -> bool:
    """Whether a text is meant as the name of a hand-made network, be it right or not."""
    return text.strip().lower().startswith((*RESNETS, WIDE))


def network_name(text: str) -> str:
    """The name as files have it, or `DERIVED`.

    Raises:
        ConfigError: as `hand_made`.
    """
    return DERIVED if text.strip().lower() == DERIVED else hand_made(text).name
