"""The two memory layouts in which `engine.space.derived` computes derived networks: `Rows` and `Maps`.

`Rows` stores small maps as [C, H * W * B]. A depthwise convolution is then one product per channel with a [pixels out, pixels in]
matrix (see `engine.space.dense`), a 1x1 convolution is one matrix product, and BatchNorm normalises contiguous rows. `Maps`
keeps larger maps as [B, C, H, W] and uses PyTorch's convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.space.dense import taps
from engine.space.depthwise import depthwise
from engine.space.part import SynchronisedNorm
from engine.space.primitives import DilConv, FactorizedReduce, SepConv, Zero

Size = tuple[int, int]
Adder = Callable[[Tensor, Tensor | None], Tensor]  # (maps, total) -> total + the operation's result; see Edge.add
# With at least this many channels, PyTorch's CPU convolutions are faster in the channels_last format.
CHANNELS_LAST_FROM = 16


class State:
    """The maps of one state (an input or a node of a cell), with a cache of the values that several edges compute from them."""

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps
        self._cache: dict[object, Tensor] = {}

    @property
    def rectified(self) -> Tensor:
        """The ReLU of the maps."""
        return self.once("rectified", F.relu)

    def once(self, name: object, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return make(self.maps). It is computed on the first call and cached under `name` for later calls."""
        if name not in self._cache:
            self._cache[name] = make(self.maps)
        return self._cache[name]


@dataclass(frozen=True)
class Edge:
    """One operation of a cell, in a form that adds its result to a running sum.

    To compute a node, start from the sum of the constants of all edges into the node. Then call `add(state, total)` of each edge.

    Attributes:
        add: function of (state, total). It returns total + f(state) - constant, where f is the whole operation. The total is
            maps, a vector [C] with one number per channel, or None for zero.
        constant: [C], the part of the result that is the same at every pixel of a channel (BatchNorm's shift). None counts as 0.
        droppable: True if drop path may drop the operation's result.
    """

    add: Callable[[State, Tensor | None], Tensor]
    constant: Tensor | None = None
    droppable: bool = True

    def __call__(self, state: State) -> Tensor:
        """Return the operation's whole result, including the constant, on a state (an input or a node of a cell)."""
        return self.add(state, self.constant)


class Layout(Protocol):
    """A memory layout of maps, with the operations that a network computes in it.

    An argument `size` is always the (height, width) of the operation's input.

    Attributes:
        live: True for training, with parameter gradients. False for evaluation mode with constant parameters.
    """

    live: bool

    def stem(self, stem: nn.Sequential, size: Size) -> Callable[[Tensor], Tensor]:
        """Return the stem as a function from normalised images [B, C, H, W] to maps in this layout."""

    def leave(self, maps: Tensor, size: Size) -> Tensor:
        """Convert maps in this layout to [B, C, H, W]."""

    def add(self, total: Tensor | None, maps: Tensor) -> Tensor:
        """Return the sum of a total and feature maps.

        The total is feature maps, a vector [C] with one number per channel, or None for zero.
        """

    def scaled(self, maps: Tensor, scale: Tensor) -> Tensor:
        """Multiply the maps of each image by the image's entry of scale [B]."""

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """Concatenate maps along the channels."""

    def projection(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor | None]:
        """Return a convolution followed by BatchNorm, as a function and a constant.

        The layout `Rows` supports only 1x1 convolutions.

        Returns:
            add: function of (maps, total). It returns total + f(maps) - constant, where f is the whole operation.
            constant: [C], the part of the result that is the same at every pixel of a channel. None counts as 0.
        """

    def reduction(self, module: FactorizedReduce, size: Size) -> tuple[Adder, Tensor | None]:
        """Return a factorized reduction as a function and a constant. The caller must apply the reduction's ReLU.

        Returns:
            add: function of (maps, total). It returns total + f(maps) - constant, where f is the reduction
                with its BatchNorm.
            constant: [C], the part of the result that is the same at every pixel of a channel. None counts as 0.
        """

    def depthwise(self, convolution: nn.Conv2d, size: Size) -> Callable[[Tensor], Tensor]:
        """Return a depthwise convolution as a function from feature maps to feature maps."""

    def other(self, module: nn.Module, size: Size) -> Edge:
        """Return `module`, a pool, "none" or a 1x7-7x1 convolution, as an `Edge` (a form that adds its result to a sum)."""


class Rows:
    """A layout that stores small maps as [C, H * W * B] and computes with matrix products. See `Layout` for its methods."""

    def __init__(self, *, live: bool) -> None:
        self.live = live

    def stem(self, stem: nn.Sequential, size: Size) -> Callable[[Tensor], Tensor]:
        """Return the stem as a function that computes one matrix product over 3x3 patches."""
        convolution, norm = as_convolution(stem[0]), as_norm(stem[1])
        weight, pixels, channels = convolution.weight, size[0] * size[1], convolution.in_channels
        joins = taps(3, size, 1, 1, weight.dtype, weight.device).view(-1, pixels)
        add, constant = self._affine(weight.flatten(1), norm)

        def enter(x: Tensor) -> Tensor:
            patches = joins @ x.permute(1, 2, 3, 0).reshape(channels, pixels, -1)  # [C, 9 pixels, B]
            return add(patches.view(channels * 9, -1), constant)

        return enter

    def leave(self, maps: Tensor, size: Size) -> Tensor:
        """Return a view of the maps with the shape [B, C, H, W]."""
        return maps.view(maps.shape[0], *size, -1).permute(3, 0, 1, 2)

    def add(self, total: Tensor | None, maps: Tensor) -> Tensor:
        """Return total + maps. A total [C] is added to every pixel of its channel."""
        return maps if total is None else maps + _column(total)

    def scaled(self, maps: Tensor, scale: Tensor) -> Tensor:
        """Multiply the maps of each image by the image's entry of scale [B]."""
        return (maps.view(maps.shape[0], -1, len(scale)) * scale).view_as(maps)

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """Concatenate feature maps along their first dimension, the channels."""
        return torch.cat(tuple(maps))

    def projection(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor]:
        """Return a 1x1 convolution followed by BatchNorm, as a function and a constant.

        The convolution is computed as one matrix product.

        Returns:
            add: function of (maps, total). It returns total + f(maps) - constant, where f is the whole operation.
            constant: [C], the part of the result that is the same at every pixel of a channel (BatchNorm's shift).
        """
        return self._affine(convolution.weight.flatten(1), norm)

    def reduction(self, module: FactorizedReduce, size: Size) -> tuple[Adder, Tensor]:
        """Return a factorized reduction as a function and a constant. The caller must apply the reduction's ReLU.

        Returns:
            add: function of (maps, total). It returns total + f(maps) - constant, where f is the reduction
                with its BatchNorm.
            constant: [C], BatchNorm's shift.
        """
        first, second = module.conv_1.weight.flatten(1), module.conv_2.weight.flatten(1)
        scale, constant = (module.bn.weight, module.bn.bias) if self.live else folded(module.bn)
        if not self.live:
            first, second = scale[:len(first), None] * first, scale[len(first):, None] * second

        def add(x: Tensor, total: Tensor | None) -> Tensor:
            maps = x.view(x.shape[0], *size, -1)
            y = torch.cat([first @ maps[:, ::2, ::2].reshape(x.shape[0], -1),
                           second @ maps[:, 1::2, 1::2].reshape(x.shape[0], -1)])
            return _normalised(y, module.bn, total) if self.live else self.add(total, y)

        return add, constant

    def depthwise(self, convolution: nn.Conv2d, size: Size) -> Callable[[Tensor], Tensor]:
        """Return a depthwise convolution as a function that computes one matrix product per channel."""
        matrix, pixels = _matrix(convolution, size), size[0] * size[1]

        def apply(x: Tensor) -> Tensor:
            return torch.bmm(matrix, x.view(x.shape[0], pixels, -1)).view(x.shape[0], -1)

        return apply

    def other(self, module: nn.Module, size: Size) -> Edge:
        """Return `module`, a pool or the operation "none", as an `Edge` (a form that adds its result to a sum)."""
        pixels, stride = size[0] * size[1], stride_of(module)
        if isinstance(module, nn.AvgPool2d):
            def average(x: Tensor) -> Tensor:
                matrix = averages(x.shape[0], size, stride, x.dtype, x.device)
                return torch.bmm(matrix, x.view(x.shape[0], pixels, -1)).view(x.shape[0], -1)

            return self._shared(("average", stride), average)
        if isinstance(module, nn.MaxPool2d):
            def largest(x: Tensor) -> Tensor:
                # The pool sees C images with B channels in channels_last format. It needs no copy and takes its fast path.
                maps = x.view(x.shape[0], *size, -1).permute(0, 3, 1, 2)
                pooled: Tensor = module(maps)
                return pooled.permute(0, 2, 3, 1).reshape(x.shape[0], -1)

            return self._shared(("largest", stride), largest)
        assert isinstance(module, Zero)

        def nothing(x: Tensor) -> Tensor:
            maps = x.view(x.shape[0], *size, -1)[:, ::stride, ::stride]
            return maps.reshape(x.shape[0], -1) * 0.0

        return self._shared(("nothing", stride), nothing)

    def _shared(self, name: tuple[str, int], make: Callable[[Tensor], Tensor]) -> Edge:
        """Return an operation without parameters as an `Edge` (a form that adds its result to a sum).

        Args:
            name: key under which the result is cached, so that it is computed once per state (an input or a node of a cell).
            make: function that computes the operation on the maps of a state.
        """
        return Edge(lambda state, total: self.add(total, state.once(name, make)))

    def _affine(self, weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor]:
        """Return a matrix product with `weight` [O, I] followed by BatchNorm, as a function and a constant.

        Returns:
            add: function of (maps, total). It returns total + f(maps) - constant, where f is the whole operation.
            constant: [O], BatchNorm's shift.
        """
        if self.live:
            return lambda x, total: _normalised(weight @ x, norm, total), norm.bias
        scale, constant = folded(norm)
        weight = scale[:, None] * weight
        return lambda x, total: weight @ x if total is None else torch.addmm(_column(total), weight, x), constant


class Maps:
    """A layout that keeps maps of any size as [B, C, H, W] and uses PyTorch's convolutions. See `Layout` for its methods."""

    def __init__(self, memory: torch.memory_format, *, live: bool) -> None:
        """Create the layout.

        Args:
            memory: the memory format of all feature maps, contiguous or channels_last.
            live: True for training. False for evaluation mode, where parameters and statistics are treated as constants.
        """
        self.memory, self.live = memory, live

    def stem(self, stem: nn.Sequential, size: Size) -> Callable[[Tensor], Tensor]:
        """Return the stem as a function that also converts the images to the memory format of this layout."""
        add, constant = self.projection(as_convolution(stem[0]), as_norm(stem[1]))
        return lambda x: add(x.contiguous(memory_format=self.memory), constant)

    def leave(self, maps: Tensor, size: Size) -> Tensor:
        """Return the feature maps unchanged, because this layout already stores them as [B, C, H, W]."""
        return maps

    def add(self, total: Tensor | None, maps: Tensor) -> Tensor:
        """Return the sum of a total and feature maps.

        The total is feature maps, a vector [C] with one number per channel, or None for zero.
        """
        if total is None:
            return maps
        return maps + (total[:, None, None] if total.dim() == 1 else total)

    def scaled(self, maps: Tensor, scale: Tensor) -> Tensor:
        """Multiply the maps of each image by the image's entry of scale [B]."""
        return maps * scale[:, None, None, None]

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """Concatenate maps along the channels."""
        return torch.cat(tuple(maps), dim=1)

    def projection(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor | None]:
        """Return a convolution followed by BatchNorm as a function and a constant; see `Layout.projection`.

        If the attribute `live` is False (constant parameters), BatchNorm's scale is multiplied into the convolution's weight.

        Returns:
            add: function of (maps, total). It returns total + f(maps) - constant, where f is the whole operation.
            constant: [C], BatchNorm's shift. None counts as 0.
        """
        pointwise = convolution.kernel_size == convolution.stride == (1, 1)
        if self.live:
            if pointwise:
                return lambda x, total: self.add(total, norm(self._pointwise(x, convolution.weight, None))), None
            return lambda x, total: self.add(total, norm(convolution(x))), None
        scale, constant = folded(norm)
        weight = scale[:, None, None, None] * convolution.weight

        def add(x: Tensor, total: Tensor | None) -> Tensor:
            bias, total = (total, None) if total is not None and total.dim() == 1 else (None, total)
            if pointwise:
                return self.add(total, self._pointwise(x, weight, bias))
            return self.add(total, F.conv2d(x, weight, bias, convolution.stride, convolution.padding))

        return add, constant

    def reduction(self, module: FactorizedReduce, size: Size) -> tuple[Adder, Tensor | None]:
        """Return a factorized reduction as a function and a constant.

        The caller must apply the reduction's ReLU. Odd heights and widths are padded.

        Returns:
            add: function of (maps, total). It returns total + f(maps) - constant, where f is the reduction
                with its BatchNorm.
            constant: [C], the part of the result that is the same at every pixel of a channel. None counts as 0.
        """
        first, second, norm = module.conv_1.weight, module.conv_2.weight, module.bn
        constant = None
        if not self.live:
            scale, constant = folded(norm)
            first, second = (scale[:, None, None, None] * torch.cat([first, second])).chunk(2)

        def add(x: Tensor, total: Tensor | None) -> Tensor:
            if size[0] % 2 or size[1] % 2:
                x = F.pad(x, (0, size[1] % 2, 0, size[0] % 2))
            y = torch.cat([self._pointwise(x[:, :, ::2, ::2], first, None),
                           self._pointwise(x[:, :, 1::2, 1::2], second, None)], dim=1)
            return self.add(total, norm(y) if self.live else y)

        return add, constant

    def _pointwise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply a 1x1 convolution with weight [O, I, 1, 1].

        In the channels_last format, the convolution is computed as one matrix product. PyTorch's own convolution is several times
        slower there on a CPU.
        """
        if self.memory != torch.channels_last:
            return F.conv2d(x, weight, bias)
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)

    def depthwise(self, convolution: nn.Conv2d, size: Size) -> Callable[[Tensor], Tensor]:
        """Return a depthwise convolution as a function from maps to maps.

        For evaluation with constant parameters (`self.live` is False), the function uses a copy of the weight.
        """
        if self.live:
            return convolution
        weight, stride, dilation = convolution.weight.clone(), convolution.stride[0], convolution.dilation[0]
        return lambda x: depthwise(x, weight, stride, dilation)

    def other(self, module: nn.Module, size: Size) -> Edge:
        """Return `module`, a pool, "none" or a 1x7-7x1 convolution, as an `Edge` (a form that adds its result to a sum)."""
        if not isinstance(module, nn.Sequential):  # without parameters, so computed once per state and stride
            name = type(module), stride_of(module)
            return Edge(lambda state, total: self.add(total, state.once(name, module)))
        across, down = as_convolution(module[1]), as_convolution(module[2])  # 1x7 and 7x1
        add, constant = self.projection(down, as_norm(module[3]))
        weight = across.weight if self.live else across.weight.clone()
        stride, padding = across.stride, across.padding
        return Edge(lambda state, total: add(F.conv2d(state.rectified, weight, None, stride, padding), total), constant)


def folded(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the factor and the shift that BatchNorm in evaluation mode applies to each channel.

    Returns:
        scale: factor of each channel, [C].
        shift: number that is added to each channel after the multiplication, [C].
    """
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # autograd rejects a matrix cached in inference mode
def averages(channels: int, size: Size, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return 3x3 average pooling as matrices [channels, pixels out, pixels in], the same matrix for every channel.

    Padding pixels do not count towards the average.
    """
    joins = taps(3, size, stride, 1, dtype, device).view(9, -1, size[0] * size[1]).sum(0)
    return (joins / joins.sum(1, keepdim=True)).repeat(channels, 1, 1)


def as_convolution(module: nn.Module) -> nn.Conv2d:
    """Return `module` with the static type of a convolution, after asserting that it is one."""
    assert isinstance(module, nn.Conv2d)
    return module


def as_norm(module: nn.Module) -> nn.BatchNorm2d:
    """Return `module` with the static type of a BatchNorm, after asserting that it is one."""
    assert isinstance(module, nn.BatchNorm2d)
    return module


def stride_of(module: nn.Module) -> int:
    """Return the stride of an operation, 1 or 2."""
    if isinstance(module, FactorizedReduce):
        return 2
    if isinstance(module, (SepConv, DilConv)):
        return as_convolution(module.op[1]).stride[0]
    if isinstance(module, nn.Sequential):
        return as_convolution(module[1]).stride[1]
    return int(getattr(module, "stride", 1))


def _matrix(convolution: nn.Conv2d, size: Size) -> Tensor:
    """Return a depthwise convolution as one matrix per channel, [C, pixels out, pixels in]."""
    weight = convolution.weight
    joins = taps(weight.shape[-1], size, convolution.stride[0], convolution.dilation[0], weight.dtype, weight.device)
    return (weight.view(weight.shape[0], -1) @ joins).view(weight.shape[0], -1, size[0] * size[1])


def _normalised(y: Tensor, norm: nn.BatchNorm2d, total: Tensor | None) -> Tensor:
    """Return y [C, L] normalised by BatchNorm in its current mode, without BatchNorm's shift, plus `total` unless it is None."""
    y = y.float() if y.dtype == torch.bfloat16 else y
    assert norm.running_mean is not None and norm.running_var is not None
    if not norm.training:
        y = (y - norm.running_mean[:, None]) * (norm.running_var + norm.eps).rsqrt()[:, None]
    elif isinstance(norm, SynchronisedNorm):
        y = norm.standardised(y, (1,))
    else:
        # With channels as rows, BatchNorm is LayerNorm of each row, which is several times faster on a CPU.
        length = y.shape[1]
        y, mean, reciprocal = torch.native_layer_norm(y, (length,), None, None, norm.eps)
        assert norm.momentum is not None and norm.num_batches_tracked is not None
        with torch.no_grad():
            unbiased = (reciprocal.flatten().square().reciprocal() - norm.eps) * (length / max(length - 1, 1))
            norm.running_mean.lerp_(mean.flatten(), norm.momentum)
            norm.running_var.lerp_(unbiased, norm.momentum)
            norm.num_batches_tracked.add_(1)
    weight = norm.weight[:, None]
    return y * weight if total is None else torch.addcmul(_column(total), y, weight)


def _column(total: Tensor) -> Tensor:
    """Return a vector [C] as [C, 1], so that it broadcasts over the pixels. Return maps unchanged."""
    return total[:, None] if total.dim() == 1 else total
