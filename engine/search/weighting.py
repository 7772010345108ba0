"""Weights of objectives from the Gramian of their gradients. Knows no network.

MGDA (Desideri 2012; Sener and Koltun 2018, arXiv 1810.04650): the weights c on the simplex that minimise
|sum_i c_i g_i|^2 = c' M c, with M_ij = g_i . g_j. The combined gradient then decreases every objective, or is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.search.minimum_norm import minimum_norm_point, of_two
from engine.search.registries import OBJECTIVES, Normalisation


def gramian_of(gradients: Tensor) -> Tensor:
    """Return the inner products [m, m] of gradients [m, n], in float64: the closed form subtracts numbers of equal size."""
    rows = gradients.double()
    return rows @ rows.T


def normalised(gramian: Tensor, losses: Tensor, how: Normalisation, floor: float = 0.0) -> Tensor:
    """Return the Gramian of the gradients divided by their norm (l2), their loss (loss) or both (loss+).

    Only the solver sees normalised gradients; its weights multiply the original gradients, as in the released E2RNAS code.
    A gradient whose divisor is zero stays unchanged.

    Args:
        gramian: [m, m].
        losses: [m], values of the objectives with their coefficients.
        how: one of the names above, or "none".
        floor: added to each divisor (E2RNAS, code of 2021: 1e-7).
    """
    norms = gramian.diagonal().sqrt()
    losses = losses.to(norms)
    divisor = {"none": torch.ones_like(norms), "l2": norms, "loss": losses, "loss+": losses * norms}[how] + floor
    divisor = torch.where(divisor == 0, torch.ones_like(divisor), divisor)
    return gramian / torch.outer(divisor, divisor)


def mgda(gramian: Tensor) -> Tensor:
    """Return the weights of the smallest combination of the gradients.

    One and two objectives stay on the Gramian's device without waiting for it; three or more are solved on the CPU.

    Args:
        gramian: [m, m], symmetric and positive semi-definite; float64 recommended.

    Returns:
        [m], non-negative, sum 1, dtype and device of the Gramian. Where the gradients are linearly dependent, the smallest
        combination is unique but its weights need not be; any minimiser may be returned. A Gramian with a NaN gives NaN.
    """
    m = gramian.shape[0]
    if m == 1:
        return torch.ones_like(gramian[0])
    if m == 2:
        return of_two(gramian)
    products = gramian.detach().cpu().double().numpy()
    if not np.isfinite(products).all():
        return torch.full_like(gramian[0], float("nan"))
    return torch.from_numpy(minimum_norm_point(products)).to(gramian)


def by_mgda(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return the weights of `mgda`; a function of `engine.search.registries.WEIGHTINGS`, like those below."""
    return mgda(gramian)


def equal(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return 1 / m for each."""
    return torch.full_like(gramian[0], 1 / len(names))


def fixed(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return `natural_weight` for the natural objective; the others share the rest equally.

    A single objective, or several without a natural one, share everything.
    """
    count = len(names)
    if count == 1 or "natural" not in names:
        return equal(gramian, names, natural_weight)
    weights = torch.full_like(gramian[0], (1 - natural_weight) / (count - 1))
    weights[names.index("natural")] = natural_weight
    return weights


def plain_sum(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return 1 for each."""
    return torch.ones_like(gramian[0])


def adversarial_only(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Share the weight 1 equally among the objectives that read adversarial images; among all where none does."""
    adversarial = [i for i, name in enumerate(names) if OBJECTIVES[name].adversarial]
    if not adversarial:
        return equal(gramian, names, natural_weight)
    weights = torch.zeros_like(gramian[0])
    for i in adversarial:
        weights[i] = 1 / len(adversarial)
    return weights
