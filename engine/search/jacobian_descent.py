"""Weights of several objectives, computed by torchjd from the Gramian of the objectives' gradients.

Sources:

- torchjd and UPGrad: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2406.16232; MIT licence.
- DualProj: Lopez-Paz and Ranzato 2017, equation 11.
- IMTL-G: Liu et al., ICLR 2021.
- Aligned-MTL: Senushkin et al., CVPR 2023.
- PCGrad: Yu et al. 2020, arXiv 2001.06782.
- FairGrad: Ban and Ji 2024, arXiv 2402.15638.

The functions keep no state, so a resumed search equals an uninterrupted one. The weightings of torchjd that keep a state
(GradVac, PCD, ExcessMTL, ...) are left out. CAGrad and Nash-MTL are left out because of the solvers that they need. This module
is imported only if a search uses it.

Differs: `projected` replaces the projector of torchjd, which needs a solver under the GPL. That projector also treats all
gradients as zero if the sum of their squared norms is below 1e-4, and architecture gradients can be that small. For IMTL-G and
Aligned-MTL, all gradients are first divided by the length of the longest one. This does not change the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torchjd.aggregation import (
    AlignedMTLWeighting,
    DualProjWeighting,
    FairGradWeighting,
    IMTLGWeighting,
    PCGradWeighting,
    UPGradWeighting,
)
from torchjd.linalg import DualConeProjector, PSDMatrix

from engine.data.transfer import to_device


def upgrad(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return UPGrad's weights, which give the mean of the projected gradients.

    Each gradient is projected so that a small step against the projection raises no loss.
    """
    return _weighed(gramian, UPGradWeighting(projector=_Projector()))


def dualproj(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return DualProj's weights, which give the projection of the mean gradient.

    The mean is projected so that a small step against the projection raises no loss.
    """
    return _weighed(gramian, DualProjWeighting(projector=_Projector()))


def imtl_g(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return IMTL-G's weights, which give a combined gradient with equally long projections onto all gradients.

    If no weights have this property, all weights are 0.
    """
    return _weighed(_of_common_scale(gramian), IMTLGWeighting())


def aligned_mtl(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return Aligned-MTL's weights, which give the mean of the aligned gradients.

    The alignment shortens all principal components of the gradients to the length of the shortest one.
    """
    return _weighed(_of_common_scale(gramian), AlignedMTLWeighting())


def pcgrad(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return PCGrad's weights, which give the sum of the gradients after removal of their conflicts.

    From each gradient, PCGrad removes the components that point against other gradients. With three or more gradients, the order
    of the removals changes the result. This order is random, with a seed computed from the Gramian, so that a repeated step uses
    the same order.
    """

    def from_its_own_seed(products: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(crc32(products.numpy().tobytes()))
            return PCGradWeighting()(products)

    return _weighed(gramian, from_its_own_seed)


def fairgrad(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return FairGrad's weights: the w > 0 with G w = 1 / w (elementwise), where G is the Gramian.

    This is FairGrad with its own parameter alpha = 1, the Nash bargaining solution. A zero gradient gets the weight 0.
    """

    def of_unit_gradients(products: Tensor) -> Tensor:
        norms = products.diagonal().sqrt()
        lengths = torch.where(norms > 0, norms, torch.ones_like(norms))
        weights = FairGradWeighting(alpha=1.0)(products / torch.outer(lengths, lengths))
        return torch.where(norms > 0, weights / lengths, torch.zeros_like(norms))

    return _weighed(gramian, of_unit_gradients)


def projected(weights: np.ndarray, gramian: np.ndarray) -> np.ndarray:
    """Return the weights v >= w that minimise v' G v.

    sum_i v_i g_i is then the projection of sum_i w_i g_i onto the cone of all vectors whose inner products with all gradients g_i
    are non-negative (proposition 1 of arXiv 2406.16232).

    Args:
        weights: w [m], float64.
        gramian: G [m, m], float64.
    """
    norms = np.sqrt(gramian.diagonal())
    lengths = np.where(norms > 0, norms, 1.0)
    values, vectors = np.linalg.eigh(gramian / np.outer(lengths, lengths))
    factor = np.sqrt(values.clip(min=0))[:, None] * vectors.T  # factor' factor is the Gramian of the unit gradients
    surplus, _ = nnls(factor, -factor @ (weights * lengths))
    nearest: np.ndarray = weights + surplus / lengths
    return nearest


class _Projector(DualConeProjector):
    """An adapter that lets torchjd call `projected`."""

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803  (torchjd's names)
        rows = U.numpy().reshape(-1, len(G))
        return torch.from_numpy(np.stack([projected(row, G.numpy()) for row in rows]).reshape(U.shape))


def _of_common_scale(gramian: Tensor) -> Tensor:
    """Return a Gramian divided by its largest diagonal entry.

    The result is the Gramian of the gradients after all gradients are divided by the length of the longest one. If all gradients
    are zero, the Gramian is returned unchanged.
    """
    largest = gramian.diagonal().max()
    return gramian / torch.where(largest > 0, largest, torch.ones_like(largest))


def _weighed(gramian: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute weights on the CPU in float64, and return them with the dtype and on the device of the Gramian.

    A single objective gets the weight 1. A Gramian with NaN or infinity gives NaN weights.
    """
    if len(gramian) == 1:
        return torch.ones_like(gramian[0])
    products = gramian.detach().cpu().double()
    if not products.isfinite().all():
        return torch.full_like(gramian[0], float("nan"))
    return to_device(solve(products).to(gramian.dtype), gramian.device)
