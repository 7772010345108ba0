"""Functions that compute the weights of objectives from the Gramian of their gradients.

MGDA (Desideri 2012; Sener and Koltun 2018, arXiv 1810.04650) chooses the weights c on the simplex that minimise
|sum_i c_i g_i|^2 = c' M c, with M_ij = g_i . g_j. A small step against the combined gradient then decreases every objective,
unless the combined gradient is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.data.transfer import to_device
from engine.search.minimum_norm import minimum_norm_point, of_two
from engine.search.registries import OBJECTIVES, Normalisation


def gramian_of(gradients: Tensor) -> Tensor:
    """Return the inner products [m, m] of gradients [m, n] in float64.

    The closed-form solution for two gradients subtracts nearly equal numbers and therefore needs this precision.
    """
    rows = gradients.double()
    return rows @ rows.T


def normalised(gramian: Tensor, losses: Tensor, how: Normalisation, floor: float = 0.0) -> Tensor:
    """Return the Gramian of the normalised gradients.

    Normalisation divides each gradient by its norm (l2), by its loss (loss), or by the product of norm and loss (loss+). A
    gradient whose divisor is zero stays unchanged. As in the released E2RNAS code, only the solver sees the normalised gradients.
    Its weights multiply the original gradients.

    Args:
        gramian: [m, m] inner products of the original gradients.
        losses: [m] values of the objectives, multiplied by their coefficients.
        how: "l2", "loss" or "loss+" as above, or "none".
        floor: constant added to each divisor. The 2021 version of E2RNAS uses 1e-7.
    """
    norms = gramian.diagonal().sqrt()
    losses = losses.to(norms)
    divisor = {"none": torch.ones_like(norms), "l2": norms, "loss": losses, "loss+": losses * norms}[how] + floor
    divisor = torch.where(divisor == 0, torch.ones_like(divisor), divisor)
    return gramian / torch.outer(divisor, divisor)


def mgda(gramian: Tensor) -> Tensor:
    """Return the weights of the minimum-norm convex combination of the gradients.

    For one or two objectives, the weights are computed on the Gramian's device without waiting for it. For three or more, they
    are computed on the CPU.

    Args:
        gramian: [m, m], symmetric and positive semi-definite; float64 recommended.

    Returns:
        [m] weights, non-negative with sum 1, with the dtype and on the device of the Gramian. If several choices of weights give
            the minimum norm, any of them may be returned. For two or more objectives, a NaN in the Gramian gives NaN weights.
    """
    m = gramian.shape[0]
    if m == 1:
        return torch.ones_like(gramian[0])
    if m == 2:
        return of_two(gramian)
    products = gramian.detach().cpu().double().numpy()
    if not np.isfinite(products).all():
        return torch.full_like(gramian[0], float("nan"))
    return to_device(torch.from_numpy(minimum_norm_point(products)).to(gramian.dtype), gramian.device)


def by_mgda(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return MGDA's weights [m], as computed by `mgda`.

    The arguments `names` and `natural_weight`, which all weighting rules have, are not used.
    """
    return mgda(gramian)


def equal(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return the weight 1 / m for each of the m objectives."""
    return torch.full_like(gramian[0], 1 / len(names))


def fixed(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return `natural_weight` for the natural objective, and equal weights for the others. The sum is 1.

    If there is a single objective or no natural one, all weights are equal.
    """
    count = len(names)
    if count == 1 or "natural" not in names:
        return equal(gramian, names, natural_weight)
    weights = torch.full_like(gramian[0], (1 - natural_weight) / (count - 1))
    weights[names.index("natural")] = natural_weight
    return weights


def plain_sum(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return the weight 1 for each objective."""
    return torch.ones_like(gramian[0])


def adversarial_only(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return equal weights for the objectives that read adversarial images, and 0 for the others. The sum is 1.

    If no objective reads adversarial images, all weights are equal.
    """
    adversarial = [i for i, name in enumerate(names) if OBJECTIVES[name].adversarial]
    if not adversarial:
        return equal(gramian, names, natural_weight)
    weights = torch.zeros_like(gramian[0])
    for i in adversarial:
        weights[i] = 1 / len(adversarial)
    return weights
