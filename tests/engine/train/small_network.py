"""A small network with every part of a derived network that training must respect."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SmallNetwork(nn.Module):
    """Convolution, BatchNorm, auxiliary head and a drop path that draws from the global random state."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.auxiliary_head = nn.Linear(6, classes)
        self.classifier = nn.Linear(6 * 36, classes)
        self.drop_path = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_auxiliary(x)[0]

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self.stem(x)
        auxiliary = self.auxiliary_head(maps.mean((2, 3)))
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            maps = maps / keep * torch.empty(len(x), 1, 1, 1).bernoulli_(keep)
        return self.classifier(maps.flatten(1)), auxiliary


def stripes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images [count, 1, 6, 6] in 0..1 of four classes (a bright bar at one of four heights, plus noise) and labels."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    x = torch.rand(count, 1, 6, 6, generator=generator) * 0.4
    x[torch.arange(count), 0, y + 1] += 0.5
    return x, y
