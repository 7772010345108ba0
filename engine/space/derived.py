"""The derived network as it is computed fast: once per state what its edges share, and in an attack only what it needs.

`engine.space.network` holds the modules, their names and the plain forward pass, which says what the network is; here is the
same function of the same parameters, equal up to rounding, in two forms:

- live: for training; gradients for the parameters, BatchNorm in its present mode, running statistics updated.
- frozen: evaluation mode with the parameters of the moment as constants, BatchNorm folded into the 1x1 convolutions before
  it. Gradients of the images only. For attacks, which call one network hundreds of times.

On small maps (`fits_rows`) the maps lie in memory as [C, H W B]: a depthwise convolution is one product per channel with a
[pixels out, pixels in] matrix (see `engine.space.dense`), a 1x1 convolution one matrix product, BatchNorm a normalisation of
contiguous rows. On larger ones they stay [B, C, H, W] and go through PyTorch's convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.space.dense import LARGEST_MAP, taps
from engine.space.depthwise import depthwise
from engine.space.primitives import DilConv, FactorizedReduce, ReLUConvBN, SepConv, Zero, dropped_scale

Size = tuple[int, int]


class DerivedCell(Protocol):
    """What is read of a cell of `engine.space.network`."""

    preprocess0: nn.Module
    preprocess1: nn.Module
    _ops: nn.ModuleList
    inputs: tuple[int, ...]
    concat: tuple[int, ...]


class DerivedNetwork(Protocol):
    """What is read of an `engine.space.network.Network`."""

    mean: Tensor
    std: Tensor
    channels: int
    channels_last: bool
    stem: nn.Sequential
    cells: nn.ModuleList
    classifier: nn.Linear


Adder = Callable[[Tensor, Tensor | None], Tensor]  # (maps, total) -> total plus something of the maps; see Edge.add
# From so many channels on, PyTorch's convolutions on a CPU are faster with the channels last in memory.
CHANNELS_LAST_FROM = 16


class State:
    """A state's maps, and what several edges make of them alike: computed once."""

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps
        self._made: dict[object, Tensor] = {}

    @property
    def rectified(self) -> Tensor:
        """ReLU of the maps."""
        return self.once("rectified", F.relu)

    def once(self, name: object, make: Callable[[Tensor], Tensor]) -> Tensor:
        """make(maps), remembered under a name."""
        if name not in self._made:
            self._made[name] = make(self.maps)
        return self._made[name]


@dataclass(frozen=True)
class Edge:
    """One operation. A node's sum is `edge.add(state, total)` over its edges, begun with the sum of their constants.

    Attributes:
        add: (state, total) -> total plus the operation's value without its constant. total: None for zero, [C] or maps.
        constant: [C], what the operation adds to every pixel of a channel (BatchNorm's shift), or None for nothing.
        droppable: whether drop path applies.
    """

    add: Callable[[State, Tensor | None], Tensor]
    constant: Tensor | None = None
    droppable: bool = True

    def __call__(self, state: State) -> Tensor:
        """The operation's whole value."""
        return self.add(state, self.constant)


class Layout(Protocol):
    """How maps lie in memory and what their operations are there. Sizes are (height, width) of an operation's input."""

    live: bool

    def stem(self, stem: nn.Sequential, size: Size) -> Callable[[Tensor], Tensor]:
        """Normalised images [B, C, H, W] -> the stem's maps."""

    def leave(self, maps: Tensor, size: Size) -> Tensor:
        """Maps as [B, C, H, W]."""

    def add(self, total: Tensor | None, maps: Tensor) -> Tensor:
        """total + maps; total may be None or [C]."""

    def scaled(self, maps: Tensor, scale: Tensor) -> Tensor:
        """Maps times one number per image, scale [B]."""

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps one after the other along the channels."""

    def projection(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor | None]:
        """A convolution (1x1 in rows) and BatchNorm as (add to a total, constant)."""

    def reduction(self, module: FactorizedReduce, size: Size) -> tuple[Adder, Tensor | None]:
        """What follows the ReLU of a factorized reduction, as (add to a total, constant)."""

    def depthwise(self, convolution: nn.Conv2d, size: Size) -> Callable[[Tensor], Tensor]:
        """A depthwise convolution."""

    def other(self, module: nn.Module, size: Size) -> Edge:
        """Pools and whatever has a form of its own."""


class Rows:
    """Small maps as [C, H W B]. Live or frozen."""

    def __init__(self, *, live: bool) -> None:
        self.live = live

    def stem(self, stem: nn.Sequential, size: Size) -> Callable[[Tensor], Tensor]:
        """See `Layout.stem`."""
        convolution, norm = _convolution(stem[0]), _norm(stem[1])
        weight, pixels, channels = convolution.weight, size[0] * size[1], convolution.in_channels
        joins = taps(3, size, 1, 1, weight.dtype, weight.device).view(-1, pixels)
        add, constant = self._affine(weight.flatten(1), norm)

        def enter(x: Tensor) -> Tensor:
            patches = joins @ x.permute(1, 2, 3, 0).reshape(channels, pixels, -1)  # [C, 9 pixels, B]
            return add(patches.view(channels * 9, -1), constant)

        return enter

    def leave(self, maps: Tensor, size: Size) -> Tensor:
        """See `Layout.leave`."""
        return maps.view(maps.shape[0], *size, -1).permute(3, 0, 1, 2)

    def add(self, total: Tensor | None, maps: Tensor) -> Tensor:
        """See `Layout.add`."""
        return maps if total is None else maps + _column(total)

    def scaled(self, maps: Tensor, scale: Tensor) -> Tensor:
        """See `Layout.scaled`."""
        return (maps.view(maps.shape[0], -1, len(scale)) * scale).view_as(maps)

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """See `Layout.join`."""
        return torch.cat(tuple(maps))

    def projection(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor]:
        """See `Layout.projection`."""
        return self._affine(convolution.weight.flatten(1), norm)

    def reduction(self, module: FactorizedReduce, size: Size) -> tuple[Adder, Tensor]:
        """See `Layout.reduction`."""
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
        """See `Layout.depthwise`."""
        matrix, pixels = _matrix(convolution, size), size[0] * size[1]

        def apply(x: Tensor) -> Tensor:
            return torch.bmm(matrix, x.view(x.shape[0], pixels, -1)).view(x.shape[0], -1)

        return apply

    def other(self, module: nn.Module, size: Size) -> Edge:
        """See `Layout.other`."""
        pixels, stride = size[0] * size[1], _stride(module)
        if isinstance(module, nn.AvgPool2d):
            def average(x: Tensor) -> Tensor:
                matrix = averages(x.shape[0], size, stride, x.dtype, x.device)
                return torch.bmm(matrix, x.view(x.shape[0], pixels, -1)).view(x.shape[0], -1)

            return self._shared(("average", stride), average)
        if isinstance(module, nn.MaxPool2d):
            def largest(x: Tensor) -> Tensor:
                # The pool sees C images with B channels, channels last, which is the memory at hand and its fast path.
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
        """What has no parameters is the same for all edges of a state that have the same stride."""
        return Edge(lambda state, total: self.add(total, state.once(name, make)))

    def _affine(self, weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor]:
        """Product with weight [O, I], then BatchNorm."""
        if self.live:
            return lambda x, total: _normalised(weight @ x, norm, total), norm.bias
        scale, constant = folded(norm)
        weight = scale[:, None] * weight
        return lambda x, total: weight @ x if total is None else torch.addmm(_column(total), weight, x), constant


class Maps:
    """Maps of any size as [B, C, H, W], through PyTorch's convolutions. Live or frozen."""

    def __init__(self, memory: torch.memory_format, *, live: bool) -> None:
        """memory: of the maps; the operations keep it."""
        self.memory, self.live = memory, live

    def stem(self, stem: nn.Sequential, size: Size) -> Callable[[Tensor], Tensor]:
        """See `Layout.stem`."""
        add, constant = self.projection(_convolution(stem[0]), _norm(stem[1]))
        return lambda x: add(x.contiguous(memory_format=self.memory), constant)

    def leave(self, maps: Tensor, size: Size) -> Tensor:
        """See `Layout.leave`."""
        return maps

    def add(self, total: Tensor | None, maps: Tensor) -> Tensor:
        """See `Layout.add`."""
        if total is None:
            return maps
        return maps + (total[:, None, None] if total.dim() == 1 else total)

    def scaled(self, maps: Tensor, scale: Tensor) -> Tensor:
        """See `Layout.scaled`."""
        return maps * scale[:, None, None, None]

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """See `Layout.join`."""
        return torch.cat(tuple(maps), dim=1)

    def projection(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Adder, Tensor | None]:
        """See `Layout.projection`."""
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
        """See `Layout.reduction`."""
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
        """1x1 convolution with weight [O, I, 1, 1]. With the channels last it is one matrix product, while PyTorch's
        convolution goes a way on a CPU that is several times slower."""
        if self.memory != torch.channels_last:
            return F.conv2d(x, weight, bias)
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)

    def depthwise(self, convolution: nn.Conv2d, size: Size) -> Callable[[Tensor], Tensor]:
        """See `Layout.depthwise`."""
        if self.live:
            return convolution
        weight, stride, dilation = convolution.weight.clone(), convolution.stride[0], convolution.dilation[0]
        return lambda x: depthwise(x, weight, stride, dilation)

    def other(self, module: nn.Module, size: Size) -> Edge:
        """See `Layout.other`."""
        if not isinstance(module, nn.Sequential):  # no parameters: the same for all edges of a state with the same stride
            name = type(module), _stride(module)
            return Edge(lambda state, total: self.add(total, state.once(name, module)))
        across, down = _convolution(module[1]), _convolution(module[2])  # 1x7 and 7x1
        add, constant = self.projection(down, _norm(module[3]))
        weight = across.weight if self.live else across.weight.clone()
        stride, padding = across.stride, across.padding
        return Edge(lambda state, total: add(F.conv2d(state.rectified, weight, None, stride, padding), total), constant)


class Program:
    """A network's forward pass in one layout, with the parameters as they are when it is made."""

    def __init__(self, network: DerivedNetwork, layout: Layout, size: Size) -> None:
        """size: of the images the network will see."""
        self.layout = layout
        self.cells: list[CellProgram] = []
        self._mean, self._std = (value if layout.live else value.clone() for value in (network.mean, network.std))
        self._enter = layout.stem(network.stem, size)
        before = size
        for cell in _cells(network):
            self.cells.append(CellProgram(cell, layout, before, size))
            before, size = size, self.cells[-1].size

    def __call__(self, x: Tensor, drop_probability: float = 0.0,
                 generator: torch.Generator | None = None) -> list[Callable[[], Tensor]]:
        """x: [B, C, H, W], pixels in 0..1 -> per cell a function that gives its output as [B, C_k, H_k, W_k]."""
        before_last = last = State(self._enter((x - self._mean[:, None, None]) / self._std[:, None, None]))
        outputs: list[Callable[[], Tensor]] = []
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, len(x), drop_probability, generator)
            outputs.append(partial(self.layout.leave, last.maps, cell.size))
        return outputs


class CellProgram:
    """One cell: the nodes' edges, two by two, and what brings the cell's inputs to its width."""

    def __init__(self, cell: DerivedCell, layout: Layout, before: Size, size: Size) -> None:
        """before, size: sizes of the outputs of the two cells before."""
        self.layout, self.concat = layout, cell.concat
        self.inputs = (_edge(cell.preprocess0, layout, before), _edge(cell.preprocess1, layout, size))
        self.size = size  # of the nodes
        strides = {_stride(op) for op, state in zip(cell._ops, cell.inputs, strict=True) if state < 2}
        if 2 in strides:
            self.size = (-(-size[0] // 2), -(-size[1] // 2))
        self.edges = [(state, _edge(op, layout, size if state < 2 else self.size))
                      for op, state in zip(cell._ops, cell.inputs, strict=True)]

    def __call__(self, before_last: State, last: State, images: int, drop_probability: float,
                 generator: torch.Generator | None) -> State:
        """Outputs of the two cells before, for so many images -> this cell's."""
        states = [State(edge(state)) for edge, state in zip(self.inputs, (before_last, last), strict=True)]
        for pair in zip(self.edges[::2], self.edges[1::2], strict=True):
            if drop_probability > 0:
                total = self._dropped(pair, states, images, drop_probability, generator)
            else:
                constants = [edge.constant for _, edge in pair if edge.constant is not None]
                total = sum(constants[1:], constants[0]) if constants else None
                for state, edge in pair:
                    total = edge.add(states[state], total)
            assert total is not None
            states.append(State(total))
        return State(self.layout.join([states[state].maps for state in self.concat]))

    def _dropped(self, pair: Sequence[tuple[int, Edge]], states: Sequence[State], images: int, probability: float,
                 generator: torch.Generator | None) -> Tensor | None:
        total = None
        for state, edge in pair:
            value = edge(states[state])
            if edge.droppable:
                value = self.layout.scaled(value, dropped_scale(images, probability, generator, value))
            total = self.layout.add(total, value)
        return total


def fits_rows(network: DerivedNetwork, x: Tensor) -> bool:
    """Whether the images x are so small, and the operations such, that the network is computed as rows."""
    height, width = x.shape[2:]
    plain = not any(isinstance(op, nn.Sequential) for cell in _cells(network) for op in cell._ops)  # no 7x1 convolutions
    return height * width <= LARGEST_MAP and height % 4 == width % 4 == 0 and plain


def layout_of(network: DerivedNetwork, x: Tensor, *, live: bool) -> Layout:
    """The faster layout for images like x, on their device."""
    if fits_rows(network, x):
        return Rows(live=live)
    last = network.channels_last or x.device.type == "cpu" and network.channels >= CHANNELS_LAST_FROM
    return Maps(torch.channels_last if last else torch.contiguous_format, live=live)


def frozen(network: DerivedNetwork, size: Size) -> Callable[[Tensor], Tensor]:
    """The network in evaluation mode with its present parameters as constants: x [B, C, *size] -> logits [B, classes]."""
    with torch.no_grad():
        program = Program(network, layout_of(network, network.mean.new_empty(1, 1, *size), live=False), size)
        classifier = [parameter.clone() for parameter in network.classifier.parameters()]

    def logits(x: Tensor) -> Tensor:
        return F.linear(program(x)[-1]().mean(dim=(2, 3)), *classifier)

    def logits_or_query(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return logits(x)
        with torch.inference_mode():  # a tenth faster than no_grad: black-box attacks ask thousands of times
            queried = logits(x)
        return queried.clone()  # made outside, so that the caller may change it and use it anywhere

    return logits_or_query


def _cells(network: DerivedNetwork) -> Iterator[DerivedCell]:
    return cast(Iterator[DerivedCell], iter(network.cells))


def _convolution(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _norm(module: nn.Module) -> nn.BatchNorm2d:
    assert isinstance(module, nn.BatchNorm2d)
    return module


def folded(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation mode as scale and shift, [C] each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # else a matrix first needed in an evaluation could never serve a gradient
def averages(channels: int, size: Size, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[channels, pixels out, pixels in]: average pooling of 3x3 that leaves out the padding, the same for every channel."""
    joins = taps(3, size, stride, 1, dtype, device).view(9, -1, size[0] * size[1]).sum(0)
    return (joins / joins.sum(1, keepdim=True)).repeat(channels, 1, 1)


def _edge(module: nn.Module, layout: Layout, size: Size) -> Edge:
    """size: of the module's input."""
    if isinstance(module, nn.Identity):
        return Edge(lambda state, total: layout.add(total, state.maps), droppable=False)
    if isinstance(module, ReLUConvBN):
        add, constant = layout.projection(_convolution(module.op[1]), _norm(module.op[2]))
        return Edge(lambda state, total: add(state.rectified, total), constant)
    if isinstance(module, FactorizedReduce):
        add, constant = layout.reduction(module, size)
        return Edge(lambda state, total: add(state.rectified, total), constant)
    if isinstance(module, DilConv):
        spread = layout.depthwise(_convolution(module.op[1]), size)
        add, constant = layout.projection(_convolution(module.op[2]), _norm(module.op[3]))
        return Edge(lambda state, total: add(spread(state.rectified), total), constant)
    if isinstance(module, SepConv):
        stride = _stride(module)
        spread, again = (layout.depthwise(_convolution(module.op[1]), size),
                         layout.depthwise(_convolution(module.op[5]), (-(-size[0] // stride), -(-size[1] // stride))))
        first, shift = layout.projection(_convolution(module.op[2]), _norm(module.op[3]))
        add, constant = layout.projection(_convolution(module.op[6]), _norm(module.op[7]))
        return Edge(lambda state, total: add(again(F.relu(first(spread(state.rectified), shift))), total), constant)
    return layout.other(module, size)


def _stride(module: nn.Module) -> int:
    if isinstance(module, FactorizedReduce):
        return 2
    if isinstance(module, (SepConv, DilConv)):
        return _convolution(module.op[1]).stride[0]
    if isinstance(module, nn.Sequential):
        return _convolution(module[1]).stride[1]
    return int(getattr(module, "stride", 1))


def _matrix(convolution: nn.Conv2d, size: Size) -> Tensor:
    """[C, pixels out, pixels in] of a depthwise convolution."""
    weight = convolution.weight
    joins = taps(weight.shape[-1], size, convolution.stride[0], convolution.dilation[0], weight.dtype, weight.device)
    return (weight.view(weight.shape[0], -1) @ joins).view(weight.shape[0], -1, size[0] * size[1])


def _normalised(y: Tensor, norm: nn.BatchNorm2d, total: Tensor | None) -> Tensor:
    """total plus y [C, L] behind BatchNorm in its present mode, without its shift; in float32 where autocast made y shorter."""
    y = y.float() if y.dtype == torch.bfloat16 else y
    assert norm.running_mean is not None and norm.running_var is not None
    if not norm.training:
        y = (y - norm.running_mean[:, None]) * (norm.running_var + norm.eps).rsqrt()[:, None]
    else:
        # With channels as rows BatchNorm is LayerNorm of the row, several times faster on a CPU.
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
    """[C] as [C, 1], to be spread over the pixels; maps as they are."""
    return total[:, None] if total.dim() == 1 else total
