"""A small smooth network trained on digits, with images that it classifies correctly: what attacks are compared on."""

from __future__ import annotations

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@lru_cache
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network, 87 test images [n, 1, 8, 8] and their labels."""
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(512, 10))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        batch = torch.randint(1500, (100,))
        noisy = (x[batch] + 0.15 * (torch.rand(100, 1, 8, 8) - 0.5).sign()).clamp(0, 1)
        optimiser.zero_grad()
        cross_entropy(network(noisy), y[batch]).backward()
        optimiser.step()
    network.eval().requires_grad_(False)
    correct = 1500 + (network(x[1500:1600]).argmax(1) == y[1500:1600]).nonzero().flatten()
    return network, x[correct], y[correct]
