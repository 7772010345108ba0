"""A network of stacked cells that needs torch and nothing else.

    from network import Network, load
    model = load("network.pt")      # or Network() for fresh weights
    logits = model(x)               # x: [B, C, H, W], pixels in 0..1 -> [B, CLASSES]

The cells, the operations and the names of parameters are the same as in public codes of the DARTS family (Liu, Simonyan and Yang
2018, arXiv 1806.09055). The network normalises its images itself. The auxiliary head and drop path, which only training uses, are
left out.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# --- the architecture ---
# Per cell kind: (operation, input state) of every edge, two per node; states 0 and 1 are the outputs of the two cells before.
EDGES = {
    "normal": [("sep_conv_3x3", 0), ("skip_connect", 1)],
    "reduce": [("max_pool_3x3", 0), ("dil_conv_3x3", 1)],
}
# Per cell kind: the states that are concatenated to the cell's output.
CONCAT = {"normal": [2], "reduce": [2]}
# From input to output: (cell kind, channels of a node, stride).
CELLS = [("normal", 4, 1), ("reduce", 8, 2), ("reduce", 16, 2)]
STEM_CHANNELS = 12
CLASSES = 10
IMAGE_SHAPE = (1, 8, 8)
# --- end of the architecture ---


class ReLUConvBN(nn.Module):
    """A sequence of ReLU, 1x1 convolution and BatchNorm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


class FactorizedReduce(nn.Module):
    """A block that halves height and width: ReLU, two 1x1 convolutions with stride 2 in parallel, and BatchNorm.

    The second convolution receives the feature map shifted by one pixel in both directions. Each convolution computes half of the
    output channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        height, width = x.shape[2:]
        if height % 2 or width % 2:  # add a row or column of zeros where the size is odd
            x = F.pad(x, (0, width % 2, 0, height % 2))
        y: Tensor = self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))
        return y


class Convolutions(nn.Module):
    """A sequence of ReLU, depthwise convolution, 1x1 convolution and BatchNorm, applied once or twice.

    Only the first depthwise convolution has the stride `stride`; a second one has stride 1.
    """

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, times: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stride_of_part in (stride, 1)[:times]:
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, stride_of_part, dilation * (kernel // 2), dilation, groups=channels,
                          bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            ]
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


class Zero(nn.Module):
    """The operation "none", whose output is zero everywhere."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """Create the operation of one edge in a cell."""
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
            nn.BatchNorm2d(channels))
    if name == "none":
        return Zero(stride)
    kernel = int(name[-1])
    if name.startswith("sep"):
        return Convolutions(channels, kernel, stride, dilation=1, times=2)
    return Convolutions(channels, kernel, stride, dilation=2, times=1)


class Cell(nn.Module):
    """A cell of the network. It computes a feature map from the outputs of the two cells before it.

    Its output has `len(self.concat) * channels` channels.
    """

    def __init__(self, kind: str, before_last: int, last: int, channels: int, stride: int, after_reduction: bool) -> None:
        super().__init__()
        self.preprocess0 = (FactorizedReduce if after_reduction else ReLUConvBN)(before_last, channels)
        self.preprocess1 = ReLUConvBN(last, channels)
        self._ops = nn.ModuleList(operation(name, channels, stride if state < 2 else 1) for name, state in EDGES[kind])
        self.inputs = [state for _, state in EDGES[kind]]
        self.concat = CONCAT[kind]

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for i in range(0, len(self.inputs), 2):
            states.append(self._ops[i](states[self.inputs[i]]) + self._ops[i + 1](states[self.inputs[i + 1]]))
        return torch.cat([states[state] for state in self.concat], dim=1)


class Network(nn.Module):
    """The whole network, which maps images [B, C, H, W], pixels in 0..1, to logits [B, CLASSES]."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(IMAGE_SHAPE[0]))  # mean of the pixels in each image channel
        self.register_buffer("std", torch.ones(IMAGE_SHAPE[0]))
        self.stem = nn.Sequential(
            nn.Conv2d(IMAGE_SHAPE[0], STEM_CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(STEM_CHANNELS))
        self.cells = nn.ModuleList()
        before_last = last = STEM_CHANNELS
        stride_before = 1
        for kind, channels, stride in CELLS:
            self.cells.append(Cell(kind, before_last, last, channels, stride, after_reduction=stride_before == 2))
            before_last, last, stride_before = last, len(CONCAT[kind]) * channels, stride
        self.classifier = nn.Linear(last, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        before_last = last = self.stem((x - self.mean[:, None, None]) / self.std[:, None, None])
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        logits: Tensor = self.classifier(last.mean(dim=(2, 3)))
        return logits


def load(path: str | os.PathLike[str]) -> Network:
    """Return the network with the weights from a file, in evaluation mode. Nothing in the file is executed."""
    network = Network()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
