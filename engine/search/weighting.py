"""From the Gramian of the objectives' gradients to their weights. Knows no network.

MGDA (Desideri 2012; Sener and Koltun 2018, arXiv 1810.04650): the weights c on the simplex that minimise
|sum_i c_i g_i|^2 = c' M c, with M_ij = g_i . g_j. The combined gradient then decreases every objective, or is zero.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Normalisation = Literal["none", "l2", "loss", "loss+"]
ITERATIONS_PER_OBJECTIVE = 20
EPSILON = float(np.finfo(np.float64).eps)


def gramian_of(gradients: Tensor) -> Tensor:
    """Inner products [m, m] of gradients [m, n], in float64: the closed form subtracts numbers of equal size."""
    rows = gradients.double()
    return rows @ rows.T


def normalised(gramian: Tensor, losses: Tensor, how: Normalisation) -> Tensor:
    """The Gramian of the gradients divided by their norm (l2), their loss (loss) or both (loss+).

    Only the solver sees normalised gradients; its weights are applied to the gradients as they were, as in the
    released E2RNAS code. A gradient whose divisor is zero is left as it is.

    Args:
        gramian: [m, m].
        losses: [m], values of the objectives with their coefficients.
        how: one of the names above, or "none".
    """
    norms = gramian.diagonal().sqrt()
    divisor = {"none": torch.ones_like(norms), "l2": norms, "loss": losses.to(norms), "loss+": losses.to(norms) * norms}[how]
    divisor = torch.where(divisor == 0, torch.ones_like(divisor), divisor)
    return gramian / torch.outer(divisor, divisor)


def mgda(gramian: Tensor) -> Tensor:
    """Weights of the smallest combination of the gradients.

    One and two objectives stay on the Gramian's device and wait for nothing; three or more are solved on the CPU.

    Args:
        gramian: [m, m], symmetric and positive semi-definite; float64 recommended.

    Returns:
        [m], non-negative, sum 1, dtype and device of the Gramian. Where the gradients are linearly dependent the
        smallest combination is still unique but its weights need not be; any minimiser may come. A Gramian with
        a NaN gives NaN.
    """
    m = gramian.shape[0]
    if m == 1:
        return torch.ones_like(gramian[0])
    if m == 2:
        return _two(gramian)
    weights = frank_wolfe(gramian.detach().cpu().double().numpy())
    return torch.from_numpy(weights).to(gramian)


def _two(gramian: Tensor) -> Tensor:
    """Closed form of two objectives: gamma = clip((g2 - g1) . g2 / |g2 - g1|^2, 0, 1) on the first.

    Equal gradients make this 0/0 (in the published code: NaN alphas). Every gamma gives the same combination then,
    and one half is returned. "Equal" means a squared distance below the rounding error of the Gramian. The second
    weight has its own quotient: 1 - gamma loses a weight that is tiny because its gradient is huge.
    """
    first, mixed, second = gramian[0, 0], gramian[0, 1], gramian[1, 1]
    distance = first + second - 2 * mixed
    weights = (torch.stack([second - mixed, first - mixed]) / distance).clamp(0, 1)
    rounding = 4 * torch.finfo(gramian.dtype).eps * (first + second)
    return torch.where(distance <= rounding, torch.full_like(weights, 0.5), weights)


def frank_wolfe(gramian: np.ndarray) -> np.ndarray:
    """The same problem for any number of objectives, by Frank-Wolfe with fully corrective steps.

    Each round adds the objective that the current combination serves worst (the Frank-Wolfe vertex) and then moves to
    the smallest combination of the objectives in use, which is Wolfe's minimum-norm-point algorithm (Wolfe 1976;
    Lacoste-Julien and Jaggi 2015, arXiv 1511.05932): the exact answer after a few rounds, where plain Frank-Wolfe
    needs thousands. It always returns: rounds are bounded and the best combination so far is kept.

    Args:
        gramian: [m, m] float64. Gradients may differ in scale by many orders of magnitude.

    Returns:
        [m] weights on the simplex.
    """
    m = len(gramian)
    if not np.isfinite(gramian).all():
        return np.full(m, np.nan)
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    if (norms == 0).any():  # a zero gradient is the smallest combination there can be
        return (norms == 0) / np.count_nonzero(norms == 0)
    weights = np.zeros(m)
    weights[norms.argmin()] = 1.0
    for _ in range(ITERATIONS_PER_OBJECTIVE * m):
        products = gramian @ weights
        size = weights @ norms
        # Violation of the optimality condition M c >= c'Mc, beyond what rounding alone produces.
        violation = weights @ products - products - 8 * m * EPSILON * (norms + size) * size
        worst = int(violation.argmax())
        if violation[worst] <= 0:
            break
        better = _corrected(gramian, norms, weights, worst)
        if better @ gramian @ better >= weights @ products:
            break
        weights = better
    return weights


def _corrected(gramian: np.ndarray, norms: np.ndarray, weights: np.ndarray, added: int) -> np.ndarray:
    """Smallest combination of the objectives in use plus `added`: goes to the affine minimiser, and wherever a weight
    would turn negative on the way stops there, drops that objective and aims anew (Wolfe's minor cycle)."""
    weights = weights.copy()
    active = sorted({*np.flatnonzero(weights), added})
    while True:
        target = np.zeros_like(weights)
        target[active] = _affine_minimiser(gramian[np.ix_(active, active)], norms[active])
        negative = [i for i in active if target[i] <= 0]
        if not negative:
            return target
        way = {i: weights[i] / (weights[i] - target[i]) if weights[i] > target[i] else 0.0 for i in negative}
        blocking = min(way, key=lambda i: way[i])
        weights = np.maximum(weights + way[blocking] * (target - weights), 0.0)
        weights[blocking] = 0.0
        weights /= weights.sum()
        active.remove(blocking)


def _affine_minimiser(gramian: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Minimises c'Mc with sum c = 1, signs free. Solved for c_i |g_i|, so that scales of gradients do not matter."""
    k = len(norms)
    inverse = norms.min() / norms
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = gramian / np.outer(norms, norms)
    system[:k, k] = system[k, :k] = inverse
    right = np.zeros(k + 1)
    right[k] = 1.0
    solution = np.linalg.lstsq(system, right, rcond=None)[0][:k] * inverse
    return solution / solution.sum()
