"""Weights of several objectives as torchjd computes them from a Gramian. Imported only when one of them is chosen.

torchjd: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2406.16232; MIT licence. UPGrad is theirs.
DualProj: Lopez-Paz and Ranzato 2017, equation 11. IMTL-G: Liu et al., ICLR 2021. Aligned-MTL: Senushkin et al., CVPR 2023.
PCGrad: Yu et al. 2020, arXiv 2001.06782. FairGrad: Ban and Ji 2024, arXiv 2402.15638.

None has a state, and each gives the same weights for the same Gramian, so that a resumed search equals an uninterrupted one.
torchjd's weightings with a memory (GradVac, PCD, ExcessMTL, ...) are left out for that reason, CAGrad and Nash-MTL for their
solvers.

Differs: torchjd's own projector needs a solver under the GPL and treats gradients as zero when their squared norms sum to less
than 1e-4, which architecture gradients can. `projected` has no such threshold. Gradients are scaled to a common length first
wherever the weights do not depend on scale.
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


def upgrad(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Weigh by the mean of the gradients, each projected so that it raises no loss."""
    return _weighed(gramian, UPGradWeighting(projector=_Projector()))


def dualproj(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Weigh by the mean gradient, projected so that it raises no loss."""
    return _weighed(gramian, DualProjWeighting(projector=_Projector()))


def imtl_g(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Weigh such that the sum has the same projection onto every gradient; 0 if no weights do."""
    return _weighed(_of_common_scale(gramian), IMTLGWeighting())


def aligned_mtl(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Weigh by the mean of the gradients, with every principal component shortened to the length of the smallest."""
    return _weighed(_of_common_scale(gramian), AlignedMTLWeighting())


def pcgrad(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Weigh by the sum of the gradients, each without the parts that conflict with another.

    From three gradients on, the order in which one meets the others matters. It is random, drawn from a seed made of the
    Gramian, so that a repeated step draws the same.
    """

    def from_its_own_seed(products: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(crc32(products.numpy().tobytes()))
            return PCGradWeighting()(products)

    return _weighed(gramian, from_its_own_seed)


def fairgrad(gramian: Tensor, names: Sequence[str], natural_weight: float) -> Tensor:
    """Return w > 0 with G w = 1 / w (alpha 1, the Nash bargaining solution).

    Solved for gradients of length 1, then divided by the lengths; a gradient of zero gets 0.
    """

    def of_unit_gradients(products: Tensor) -> Tensor:
        norms = products.diagonal().sqrt()
        lengths = torch.where(norms > 0, norms, torch.ones_like(norms))
        weights = FairGradWeighting(alpha=1.0)(products / torch.outer(lengths, lengths))
        return torch.where(norms > 0, weights / lengths, torch.zeros_like(norms))

    return _weighed(gramian, of_unit_gradients)


def projected(weights: np.ndarray, gramian: np.ndarray) -> np.ndarray:
    """Return the weights v >= w that minimise v' G v.

    They project sum_i w_i g_i onto the directions that have no negative inner product with any g_i (proposition 1 of arXiv
    2406.16232).

    Args:
        weights: w [m], gramian: G [m, m], both float64.
    """
    norms = np.sqrt(gramian.diagonal())
    lengths = np.where(norms > 0, norms, 1.0)
    values, vectors = np.linalg.eigh(gramian / np.outer(lengths, lengths))
    factor = np.sqrt(values.clip(min=0))[:, None] * vectors.T  # factor' factor is the Gramian of the unit gradients
    surplus, _ = nnls(factor, -factor @ (weights * lengths))
    nearest: np.ndarray = weights + surplus / lengths
    return nearest


class _Projector(DualConeProjector):
    """`projected` with the interface of torchjd's projectors."""

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803  (torchjd's names)
        rows = U.numpy().reshape(-1, len(G))
        return torch.from_numpy(np.stack([projected(row, G.numpy()) for row in rows]).reshape(U.shape))


def _of_common_scale(gramian: Tensor) -> Tensor:
    """Scale the Gramian such that the longest gradient has length 1, unless all are zero."""
    largest = gramian.diagonal().max()
    return gramian / torch.where(largest > 0, largest, torch.ones_like(largest))


def _weighed(gramian: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
    """Solve on the CPU in float64; return 1 for one objective and NaN where the Gramian is not finite."""
    if len(gramian) == 1:
        return torch.ones_like(gramian[0])
    products = gramian.detach().cpu().double()
    if not products.isfinite().all():
        return torch.full_like(gramian[0], float("nan"))
    return solve(products).to(gramian)
