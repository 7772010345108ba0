"""Curvature of the loss in the space of images, as an objective that a search minimises over alpha.

    Lambda = 4 mean_i | grad l_i(x_i + z_i) - grad l_i(x_i) |_2,    z_i = h sign(grad l_i(x_i)) / |sign(grad l_i(x_i))|_2

- x_i is image i after the network's normalisation, or with pixels in 0..1 if the network does not normalise.
- l_i is the cross-entropy of this image. Its gradients are with respect to x_i.
- z_i is a displacement of length h. It is treated as a constant when Lambda is differentiated.

Lambda approximates the largest eigenvalue of the Hessian by a finite difference (Moosavi-Dezfooli et al., Robustness via
Curvature Regularization, and Vice Versa, CVPR 2019, arXiv 1811.09716). AdvRush (Mok et al., ICCV 2021, arXiv 2108.01289) adds
Lambda, times a coefficient, to the loss that the search minimises over alpha.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.search.objectives import FunctionalNetwork
from engine.search.registries import Value

STRENGTH = 4.0  # AdvRush's factor of the norm


def curvature(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor, y: Tensor, radius: Tensor) -> Value:
    """Compute the curvature Lambda around natural images, in two forward passes.

    As published, the displaced images x + z are not clipped and may leave 0..1.

    Args:
        network: the network whose loss is measured.
        weights: flat weights.
        alphas: flat alphas.
        x: natural images [B, C, H, W] in 0..1.
        y: labels [B].
        radius: h, the length of z, as a scalar tensor, so that one CUDA graph serves every h.
    """
    unit = network.image_unit(x)
    here = _input_gradients(network, x, y, weights, alphas)
    ahead = _input_gradients(network, x + unit * radius * _directions(here), y, weights, alphas)
    norms = (unit * (ahead - here)).flatten(1).norm(dim=1)
    return Value(STRENGTH * norms.mean(), None)


def _input_gradients(network: FunctionalNetwork, images: Tensor, y: Tensor, weights: Tensor, alphas: Tensor) -> Tensor:
    """Return the gradient of each image's loss with respect to the image.

    The result has the shape of `images` and is differentiable.
    """
    images = images.detach().requires_grad_(True)
    # The sum instead of the mean, so that the gradient of an image is not divided by the size of the batch.
    losses = F.cross_entropy(network.logits(images, weights, alphas, twice=True), y, reduction="sum")
    return torch.autograd.grad(losses, images, create_graph=True)[0]


def _directions(gradients: Tensor) -> Tensor:
    """Return sign(g) / |sign(g)| for each image's gradient g, with the shape of `gradients`. g = 0 gives 0."""
    signs = gradients.detach().sign()
    lengths: Tensor = signs.flatten(1).norm(dim=1).clamp(min=1)
    return signs / lengths[:, None, None, None]
