"""The operations of a derived network as modules (Liu, Simonyan and Yang 2018, arXiv 1806.09055; released code).

Parameters have the names of the public DARTS family (`op.1.weight`, `conv_1.weight`, ...). BatchNorm has affine parameters, as in
every derived network. The supernet does not use these modules, because it has merged operations of its own. All maps are
[B, C, H, W].
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.genotype import NONE, OPERATIONS
from engine.errors import ConfigError, GenotypeError
from engine.registry import unknown_name
from engine.space.depthwise import depthwise
from engine.space.part import Part, whole


class ReLUConvBN(nn.Module):
    """A projection of a cell's input to the cell's width: ReLU, 1x1 convolution and BatchNorm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


class FactorizedReduce(nn.Module):
    """A projection that halves height and width: ReLU, two 1x1 convolutions of stride 2, and BatchNorm.

    Each convolution gives half of the output channels. The second one reads the map shifted by one pixel in both directions.

    Differs: odd heights and widths, for which the released code fails, are made even by a row or column of zeros. The result has
    half the height and width, rounded up.

    Raises:
        ConfigError: the number of output channels is odd, so the two convolutions cannot share them equally.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        if outputs % 2:
            raise ConfigError(f"The channels of a reduction must be even (two convolutions share them), got {outputs}; "
                              f"take {outputs + 1}.")
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        y: Tensor = self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))
        return y


class Depthwise(nn.Conv2d):
    """A depthwise convolution with the gradients of `engine.space.depthwise`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the base class's name)
        return depthwise(input, self.weight, self.stride[0], self.dilation[0])


class SepConv(nn.Module):
    """A separable convolution: ReLU, k x k depthwise convolution, 1x1 convolution and BatchNorm, all applied twice.

    Only the first depthwise convolution has the stride. The second one has stride 1.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.op = nn.Sequential(*_separable(channels, kernel, stride, dilation=1), *_separable(channels, kernel, 1, dilation=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


class DilConv(nn.Module):
    """A dilated convolution: ReLU, k x k depthwise convolution with dilation 2, 1x1 convolution and BatchNorm."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.op = nn.Sequential(*_separable(channels, kernel, stride, dilation=2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


class Zero(nn.Module):
    """The operation "none": zeros of the right size.

    The zeros are computed from the input, so that the gradient of the input is zero instead of None.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """Build the module of one edge.

    The module maps [B, C, H, W] to [B, C, H / stride, W / stride], rounded up.

    Args:
        name: one of `engine.architecture.genotype.OPERATIONS`.
        channels: C of the input and the output.
        stride: 1 or 2.

    Raises:
        GenotypeError: the name is unknown.
        ConfigError: a skip connection of stride 2 has an odd number of channels.
    """
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if name == "conv_7x1_1x7":
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False),
            nn.Conv2d(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False),
            nn.BatchNorm2d(channels),
        )
    if name == NONE:
        return Zero(stride)
    if name not in OPERATIONS:
        raise GenotypeError(unknown_name("operation", name, OPERATIONS))
    kernel = int(name[-1])
    return SepConv(channels, kernel, stride) if name.startswith("sep") else DilConv(channels, kernel, stride)


def drop_path(x: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Zero all maps of an image with `probability`, and scale the maps of the other images so that the expected value stays x.

    The method comes from FractalNet (Larsson, Maire and Shakhnarovich 2016), and the DARTS family uses it, too.

    Args:
        x: [B, C, H, W].
        probability: 0 <= probability < 1.
        generator: source of random numbers, on x's device; None for torch's global generator.
    """
    return x * dropped_scale(x.shape[0], probability, generator, x)[:, None, None, None]


def dropped_scale(images: int, probability: float | Tensor, generator: torch.Generator | None, like: Tensor,
                  part: Part | None = None) -> Tensor:
    """Draw the factor of each image for `drop_path`: 0 if the image is dropped, and 1 / (1 - probability) if it is kept.

    Args:
        images: number of images.
        probability: 0 <= probability < 1. A CUDA graph needs a tensor, float64 without dimensions.
        generator: source of random numbers, on the device of `like`; None for torch's global generator.
        like: tensor whose device and dtype the factors have.
        part: the part of a batch that the images are; None if they are a whole batch.

    Returns:
        [images], with the device and dtype of `like`.
    """
    keep = 1.0 - probability
    dtype = torch.float32 if like.dtype == torch.bfloat16 else like.dtype  # bfloat16 would round the probability to 8 bits
    numbers = (part or whole(images)).draw(partial(torch.rand, generator=generator, device=like.device, dtype=dtype))
    kept = numbers < keep
    return (kept.to(dtype) / keep).to(like.dtype)


def _separable(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        Depthwise(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]
