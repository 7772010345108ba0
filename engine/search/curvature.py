"""Curvature of the loss in the space of images, as an objective of the architecture.

    Lambda = strength * mean_i | grad l_i(x_i + z_i) - grad l_i(x_i) |_2,    z_i = h sign(grad l_i(x_i)) / |sign(grad l_i(x_i))|_2

with l_i the cross-entropy of image i, x_i as the network sees it (in pixels 0..1, or in standard deviations where it normalises
images) and gradients with respect to that. It is a finite difference for the largest eigenvalue of the Hessian (Moosavi-Dezfooli
et al., Robustness via Curvature Regularization, and Vice Versa, CVPR 2019, arXiv 1811.09716), which AdvRush (Mok et al., ICCV
2021, arXiv 2108.01289) adds to the loss of the architecture. Its own gradient goes through those two gradients; z is a constant.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.search.objectives import FunctionalNetwork, Objective, StepImages, Value

if TYPE_CHECKING:
    from engine.search.config import CurvatureConfig


@dataclass(frozen=True)
class Curvature:
    """See the module for the formula.

    Attributes:
        network: the supernet.
        x: natural images [B, C, H, W] in 0..1; x + z may leave that range, as published.
        y: labels [B], int64.
        radius: h, the length of z, a scalar tensor: it may change from step to step without another recording.
        strength: what the norm is multiplied by; AdvRush's is 4.
    """

    name: str
    network: FunctionalNetwork
    x: Tensor
    y: Tensor
    radius: Tensor
    strength: float = 4.0
    coefficient: float = 1.0
    passes = 2  # no annotation: a constant of the class, not a field

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """x, y and h."""
        return self.x, self.y, self.radius

    @property
    def kind(self) -> Hashable:
        """See `engine.search.objectives.CrossEntropy.kind`."""
        return Curvature, self.network, self.strength

    def on(self, *inputs: Tensor) -> Curvature:
        """See `Objective.on`."""
        return replace(self, x=inputs[0], y=inputs[1], radius=inputs[2])

    def __call__(self, weights: Tensor, alphas: Tensor) -> Value:
        unit = self.network.image_unit(self.x)
        here = self._input_gradients(self.x, weights, alphas)
        ahead = self._input_gradients(self.x + unit * self.radius * _directions(here), weights, alphas)
        norms = (unit * (ahead - here)).flatten(1).norm(dim=1)
        return Value(self.strength * norms.mean(), None)

    def _input_gradients(self, images: Tensor, weights: Tensor, alphas: Tensor) -> Tensor:
        """Gradient of each image's own loss, like images; differentiable."""
        images = images.detach().requires_grad_(True)
        # The sum, so that the gradient of an image is not divided by the size of the batch.
        losses = F.cross_entropy(self.network.logits(images, weights, alphas, twice=True), self.y, reduction="sum")
        return torch.autograd.grad(losses, images, create_graph=True)[0]


def curvature(network: FunctionalNetwork, images: StepImages, config: CurvatureConfig, coefficient: float) -> Objective:
    """`engine.search.registries.OBJECTIVES`: curvature around the natural images at a radius that stays as it is."""
    radius = images.x.new_full((), config.curvature_radius)
    return Curvature("curvature", network, images.x, images.y, radius, coefficient=coefficient)


def _directions(gradients: Tensor) -> Tensor:
    """sign(g) / |sign(g)| of each image's gradient g, like gradients; zero where g is."""
    signs = gradients.detach().sign()
    lengths = signs.flatten(1).norm(dim=1).clamp(min=1)
    return signs / lengths[:, None, None, None]
