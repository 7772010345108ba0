"""A small network trained on digits, and modifications of it that make an evaluation unreliable."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.catalogue import DATASETS
from engine.data.loading import load_split
from engine.data.splits import splits_of


def digits(split: str) -> tuple[Tensor, Tensor]:
    """Return images and labels of a split of digits."""
    dataset = DATASETS["digits"]
    images, labels = load_split(dataset, splits_of(dataset, 0), (split,), torch.device("cpu"))
    return images[torch.arange(len(labels))], labels


class SmallConvolutional(nn.Module):
    """Three convolutions, BatchNorm and dropout before a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                                  nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
                                  nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1))
        self.classifier = nn.Linear(32 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x))


def trained(epochs: int = 8) -> SmallConvolutional:
    """Return a network trained without attacks, in evaluation mode."""
    torch.manual_seed(0)
    x, y = digits("weights")
    network = SmallConvolutional()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(50):
            optimiser.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
    return network.eval()


class Modified(nn.Module):
    """A network behind a modification of its input or output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class Scaled(Modified):
    """Logits times 1,000: the softmax saturates, and the gradient of the cross-entropy is zero in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) * 1000


class Randomised(Modified):
    """Noise on the input, drawn anew in every forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.05 * torch.randn_like(x))


class Probabilities(Modified):
    """A softmax at the end."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).softmax(1)


class InTrainingMode(Modified):
    """A network that cannot be put into evaluation mode: BatchNorm uses batch statistics, and dropout drops."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)


class BatchStatistics(Modified):
    """Images normalised by statistics of their batch, without any module that has a mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x - x.mean((0, 2, 3), keepdim=True) + 0.3)


class Quantised(Modified):
    """Pixels rounded to 8 levels; the derivative is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x * 7).round() / 7)


class QuantisedStraightThrough(Modified):
    """Pixels rounded to 8 levels; the derivative is that of the identity."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + ((x * 7).round() / 7 - x).detach())


class Detached(Modified):
    """A smooth network whose gradient is cut for every image."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.detach()) + 0 * x.sum()
