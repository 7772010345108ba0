"""The supernet as drawn in the papers: one module per edge and primitive, nothing merged, nothing shared. The tests' oracle.

Written for reading, not for speed, and deliberately independent of `engine/`: it has its own list of primitives, its own
placement rule and its own order of edges. Parameter names are those of the public DARTS family.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRIMITIVES = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
NODES = 4
STEM_MULTIPLIER = 3


class ReLUConvBN(nn.Module):
    """ReLU, 1x1 convolution, BatchNorm without affine: `op.1`, `op.2`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class FactorizedReduce(nn.Module):
    """Two concatenated 1x1 convolutions of stride 2 that halve height and width; the second reads x shifted by one pixel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class SepConv(nn.Module):
    """ReLU, depthwise k, pointwise and BatchNorm, twice; only the first depthwise convolution has the stride."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        halves = []
        for s in (stride, 1):
            halves += [nn.ReLU(),
                       nn.Conv2d(channels, channels, kernel, s, kernel // 2, groups=channels, bias=False),
                       nn.Conv2d(channels, channels, 1, bias=False),
                       nn.BatchNorm2d(channels, affine=False)]
        self.op = nn.Sequential(*halves)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class DilConv(nn.Module):
    """ReLU, depthwise k with dilation 2, pointwise, BatchNorm."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, kernel - 1, dilation=2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Zero(nn.Module):
    """The primitive "none"."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0


def operation(primitive: str, channels: int, stride: int) -> nn.Module:
    """The module of one primitive on one edge."""
    if primitive in ("max_pool_3x3", "avg_pool_3x3"):
        pool = (nn.MaxPool2d(3, stride, 1) if primitive == "max_pool_3x3"
                else nn.AvgPool2d(3, stride, 1, count_include_pad=False))
        return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))
    if primitive == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if primitive == "none":
        return Zero(stride)
    family, kernel = primitive.split("_")[0], int(primitive[-1])
    return {"sep": SepConv, "dil": DilConv}[family](channels, kernel, stride)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Shuffle the channels of x [B, C, H, W]: the first of every group, then the second of every group, and so on."""
    size = x.shape[1] // groups
    return x[:, [group * size + position for position in range(size) for group in range(groups)]]


class MixedOp(nn.Module):
    """All primitives of one edge, weighted; with partial > 1 on the first 1 / partial of the channels (PC-DARTS)."""

    def __init__(self, primitives: Sequence[str], channels: int, stride: int, partial: int = 1) -> None:
        super().__init__()
        self.stride, self.partial = stride, partial
        self._ops = nn.ModuleList([operation(name, channels // partial, stride) for name in primitives])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        selected = x.shape[1] // self.partial
        mixed = sum(w * op(x[:, :selected]) for w, op in zip(weights, self._ops, strict=True))
        if self.partial == 1:
            return mixed
        others = x[:, selected:]
        if self.stride == 2:
            others = F.max_pool2d(others, 2, 2)
        return channel_shuffle(torch.cat([mixed, others], dim=1), self.partial)


class SearchCell(nn.Module):
    """Two inputs, four nodes, 14 mixed edges in the order (0,2), (1,2), (0,3), (1,3), (2,3), ..."""

    def __init__(self, primitives: Sequence[str], before_last: int, last: int, channels: int, reduction: bool,
                 reduction_before: bool, partial: int = 1) -> None:
        super().__init__()
        self.preprocess0 = (FactorizedReduce(before_last, channels) if reduction_before
                            else ReLUConvBN(before_last, channels))
        self.preprocess1 = ReLUConvBN(last, channels)
        self._ops = nn.ModuleList([
            MixedOp(primitives, channels, 2 if reduction and state < 2 else 1, partial)
            for node in range(NODES) for state in range(2 + node)])

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, betas: Tensor | None = None) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        edge = 0
        for _ in range(NODES):
            strengths = [1.0] * len(states) if betas is None else F.softmax(betas[edge:edge + len(states)], dim=0)
            total = sum(strengths[k] * self._ops[edge + k](state, weights[edge + k]) for k, state in enumerate(states))
            edge += len(states)
            states.append(total)
        return torch.cat(states[2:], dim=1)


class ReferenceSupernet(nn.Module):
    """The unmerged supernet.

    Args:
        channels: C of the first cells.
        layers: number of cells.
        classes: number of logits.
        image_shape: (channels, height, width).
        kinds: order of the alphas; with "normal" among them the DARTS placement and widths 1:2:4, else ARNAS, 1:2:2.
        primitives: columns of the alphas.
        thirds, widths: kinds and widths of the three thirds, when they differ from those; "both" alternates the kinds.
        partial: operations act on 1 / partial of the channels. edge_weights: the edges into a node have softmaxed weights.

    Attributes:
        alphas: kind -> nn.Parameter [14, P], registered under the names `alphas_<kind>`.
        betas: kind -> nn.Parameter [14], registered under the names `betas_<kind>`; empty without edge weights.
    """

    def __init__(self, channels: int, layers: int, classes: int, image_shape: tuple[int, int, int],
                 kinds: Sequence[str] = ("robust", "reduce", "accurate"), primitives: Sequence[str] = PRIMITIVES,
                 thirds: Sequence[str] | None = None, widths: Sequence[int] | None = None, partial: int = 1,
                 edge_weights: bool = False) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.alphas: dict[str, nn.Parameter] = {}
        for kind in self.kinds:
            self.alphas[kind] = nn.Parameter(1e-3 * torch.randn(14, len(primitives)))
            self.register_parameter(f"alphas_{kind}", self.alphas[kind])
        self.betas: dict[str, nn.Parameter] = {}
        for kind in self.kinds if edge_weights else ():
            self.betas[kind] = nn.Parameter(1e-3 * torch.randn(14))
            self.register_parameter(f"betas_{kind}", self.betas[kind])
        width, stem_channels = STEM_MULTIPLIER * channels, channels
        self.stem = nn.Sequential(nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        self.cell_kinds: list[str] = []
        before_last, last, reduction_before = width, width, False
        third, two_thirds = layers // 3, 2 * layers // 3
        for i in range(layers):
            reduction = i in (third, two_thirds)
            if widths is not None:
                channels = stem_channels * widths[0 if i < third else 1 if i < two_thirds else 2]
            elif reduction and not (i == two_thirds and "normal" not in kinds):
                channels *= 2
            self.cells.append(SearchCell(primitives, before_last, last, channels, reduction, reduction_before, partial))
            if thirds is not None:
                ordinary = thirds[0 if i < third else 1 if i < two_thirds else 2]
            else:
                ordinary = "normal" if "normal" in kinds else ("accurate" if i < two_thirds else "robust")
            if ordinary == "both":
                ordinary = ("accurate", "robust")[sum(kind != "reduce" for kind in self.cell_kinds) % 2]
            self.cell_kinds.append("reduce" if reduction else ordinary)
            before_last, last, reduction_before = last, NODES * channels, reduction
        self.classifier = nn.Linear(last, classes)

    def weight_parameters(self) -> dict[str, nn.Parameter]:
        """Return name -> parameter for everything but the alphas and betas."""
        return {name: p for name, p in self.named_parameters() if not name.startswith(("alphas_", "betas_"))}

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] of images x [B, C, H, W]."""
        s0 = s1 = self.stem(x)
        for cell, kind in zip(self.cells, self.cell_kinds, strict=True):
            s0, s1 = s1, cell(s0, s1, F.softmax(self.alphas[kind], dim=-1), self.betas.get(kind))
        return self.classifier(s1.mean(dim=(2, 3)))
