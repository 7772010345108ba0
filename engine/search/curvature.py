"""Curvature of the loss in the space of images, as an objective of the architecture.

    Lambda = 4 mean_i | grad l_i(x_i + z_i) - grad l_i(x_i) |_2,    z_i = h sign(grad l_i(x_i)) / |sign(grad l_i(x_i))|_2

with l_i the cross-entropy of image i, x_i as the network sees it (in pixels 0..1, or in standard deviations where it normalises
images) and gradients with respect to that. It is a finite difference for the largest eigenvalue of the Hessian (Moosavi-Dezfooli
et al., Robustness via Curvature Regularization, and Vice Versa, CVPR 2019, arXiv 1811.09716), which AdvRush (Mok et al., ICCV
2021, arXiv 2108.01289) adds to the loss of the architecture. The gradient of Lambda goes through those two gradients; z is a
constant.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.search.objectives import FunctionalNetwork
from engine.search.registries import Value

STRENGTH = 4.0  # factor of the norm in AdvRush


def curvature(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor, y: Tensor, radius: Tensor) -> Value:
    """Compute Lambda around natural images x [B, C, H, W] in 0..1 with labels y [B], in two passes.

    x + z may leave 0..1, as published. radius is h, the length of z. It is a scalar tensor, so that one recording serves every h.
    """
    unit = network.image_unit(x)
    here = _input_gradients(network, x, y, weights, alphas)
    ahead = _input_gradients(network, x + unit * radius * _directions(here), y, weights, alphas)
    norms = (unit * (ahead - here)).flatten(1).norm(dim=1)
    return Value(STRENGTH * norms.mean(), None)


def _input_gradients(network: FunctionalNetwork, images: Tensor, y: Tensor, weights: Tensor, alphas: Tensor) -> Tensor:
    """Compute the gradient of each image's own loss, like images; differentiable."""
    images = images.detach().requires_grad_(True)
    # The sum, so that the gradient of an image is not divided by the size of the batch.
    losses = F.cross_entropy(network.logits(images, weights, alphas, twice=True), y, reduction="sum")
    return torch.autograd.grad(losses, images, create_graph=True)[0]


def _directions(gradients: Tensor) -> Tensor:
    """Return sign(g) / |sign(g)| of each image's gradient g, like gradients; zero where g is."""
    signs = gradients.detach().sign()
    lengths: Tensor = signs.flatten(1).norm(dim=1).clamp(min=1)
    return signs / lengths[:, None, None, None]
