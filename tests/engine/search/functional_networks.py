"""Networks of the functional interface `logits(x, weights, alphas)` that are independent of `engine/space`.

`FunctionalReference` is the unmerged reference supernet on flat vectors. `TwoLayers` is a minimal network with alphas. It is
smooth, so that autograd can differentiate it twice.
"""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import torch
from torch import Tensor

from engine.architecture.genotype import PRIMITIVES, Genotype, derive
from tests.reference_supernet import ReferenceSupernet

DEVICE = torch.device(os.environ.get("RAMPART_TEST_DEVICE", "cpu"))


class FunctionalReference:
    """The reference supernet with its weights as an argument, in the order of `named_parameters`; no running statistics."""

    layout = SimpleNamespace(version="reference")

    def __init__(self, *, channels: int, layers: int, classes: int, image_shape: tuple[int, int, int]) -> None:
        self.module = ReferenceSupernet(channels, layers, classes, image_shape)
        for child in self.module.modules():
            if isinstance(child, torch.nn.BatchNorm2d):
                child.track_running_stats, child.running_mean, child.running_var = False, None, None
                child.num_batches_tracked = None
        self._one_at_a_time = threading.Lock()  # functional_call puts the weights into the one module
        self.shapes = {name: p.shape for name, p in self.module.weight_parameters().items()}

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, buffers: Tensor | None = None,
               update_buffers: bool = False) -> Tensor:
        pieces = weights.split([shape.numel() for shape in self.shapes.values()])
        views = {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}
        with self._one_at_a_time:
            self.module.alphas = dict(zip(self.module.kinds, alphas.view(3, 14, 7), strict=True))
            return torch.func.functional_call(self.module, views, (x,))

    def initial_weights(self, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        flat = [0.2 * torch.randn(shape, generator=generator, dtype=dtype).flatten() for shape in self.shapes.values()]
        return torch.cat(flat).to(device)

    def initial_alphas(self, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        return 1e-3 * torch.randn(3 * 14 * 7, generator=generator, dtype=dtype).to(device)

    def initial_buffers(self) -> Tensor:
        return torch.zeros(0)

    def genotype(self, alphas: Tensor) -> Genotype:
        rows = alphas.view(3, 14, 7).softmax(dim=-1).tolist()
        return Genotype(tuple((kind, derive(cell, PRIMITIVES)) for kind, cell in zip(self.module.kinds, rows, strict=True)))

    def flat_from(self, state: dict[str, Tensor]) -> Tensor:
        """The flat weights of a state dict in DARTS-family names."""
        assert state.keys() == self.shapes.keys()
        return torch.cat([state[name].flatten() for name in self.shapes])


class TwoLayers:
    """x [B, C, H, W] -> hidden units, each a mixture of tanh, sine and identity by its own alphas -> logits."""

    layout = SimpleNamespace(version="two layers")

    def __init__(self, pixels: int, hidden: int = 5, classes: int = 3) -> None:
        self.pixels, self.hidden, self.classes = pixels, hidden, classes
        self.size = pixels * hidden + hidden * classes

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, buffers: Tensor | None = None,
               update_buffers: bool = False, twice: bool = False) -> Tensor:
        first, second = weights.split([self.pixels * self.hidden, self.hidden * self.classes])
        z = x.flatten(1) @ first.view(self.pixels, self.hidden)
        mix = alphas.view(self.hidden, 3).softmax(dim=-1)
        mixed = mix[:, 0] * z.tanh() + mix[:, 1] * z.sin() + mix[:, 2] * z
        if update_buffers:
            buffers += mixed.detach().mean(dim=0)
        return mixed @ second.view(self.hidden, self.classes)

    def image_unit(self, x: Tensor) -> Tensor:
        return x.new_ones(())

    def initial_weights(self, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        return 0.5 * torch.randn(self.size, generator=generator, dtype=dtype).to(device)

    def initial_alphas(self, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        return 1e-3 * torch.randn(3 * self.hidden, generator=generator, dtype=dtype).to(device)

    def initial_buffers(self) -> Tensor:
        return torch.zeros(self.hidden)
