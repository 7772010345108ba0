"""Exact robust accuracy of small ReLU networks, by mixed-integer linear programming (Tjeng, Xiao and Tedrake 2019, 1711.07356).

The smallest margin over the ball is the solution of a mixed-integer linear program. It has one binary variable for each ReLU unit
that is active at some points of the ball and inactive at others. HiGHS, which ships with scipy, proves the optimum. The time
grows exponentially with the number of these units, so only networks with tens of units are feasible. The results are used to
check attacks.

Differs: the bounds of all units come from interval arithmetic. The paper solves linear programs for units of deeper layers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from engine.attack.certified import box
from engine.errors import ConfigError

Vector = NDArray[np.float64]
AFFINE = (nn.Linear, nn.Conv2d, nn.Flatten, nn.AvgPool2d, nn.BatchNorm2d, nn.Identity)


@dataclass(frozen=True)
class Affine:
    """The map x -> weight x + bias, with weight [outputs, inputs] and bias [outputs]."""

    weight: Vector
    bias: Vector

    def __call__(self, x: Vector) -> Vector:
        return self.weight @ x + self.bias

    def bounds(self, lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
        """Return the smallest and the largest value of every output, for inputs in the box between `lower` and `upper`."""
        positive, negative = self.weight.clip(min=0), self.weight.clip(max=0)
        return positive @ lower + negative @ upper + self.bias, positive @ upper + negative @ lower + self.bias


@dataclass(frozen=True)
class SmallestMargin:
    """Bounds for the smallest margin of one image over a ball.

    Attributes:
        lower: proven lower bound of the margin (the logit of the label minus the largest other logit) at all points of the ball,
            up to the solver's tolerance of 1e-6.
        margin: margin at `x_adv`. It equals `lower` up to the tolerance, unless the time limit was reached.
        x_adv: float64 [C, H, W], the image with the smallest margin that was found.
    """

    lower: float
    margin: float
    x_adv: Tensor

    @property
    def robust(self) -> bool | None:
        """True if provably no image in the ball is misclassified, False if `x_adv` is misclassified, None if neither holds."""
        return True if self.lower > 0 else False if self.margin <= 0 else None


def unroll(network: nn.Module, image_shape: Sequence[int]) -> list[Affine]:
    """Return the affine maps of a network, in float64 and evaluation mode. ReLU is applied between consecutive maps.

    Args:
        network: an nn.Sequential, possibly nested. All modules are ReLU or affine (listed in `AFFINE`). The last is affine.
        image_shape: (channels, height, width) of an image.

    Raises:
        ConfigError: the network has other modules.
    """
    groups: list[list[nn.Module]] = [[]]
    for module in _flat(copy.deepcopy(network).double().cpu().eval()):
        if isinstance(module, nn.ReLU):
            groups.append([])
        elif isinstance(module, AFFINE):
            groups[-1].append(module)
        else:
            known = ", ".join(one.__name__ for one in (nn.ReLU, *AFFINE))
            raise ConfigError(f"Exact robust accuracy needs an nn.Sequential of {known}, got {type(module).__name__}; take the "
                              f"certified bound instead.")
    maps, shape = [], tuple(image_shape)
    for group in groups:
        affine, shape = _matrix(nn.Sequential(*group), shape)
        maps.append(affine)
    return maps


def smallest_margin(maps: Sequence[Affine], x: Tensor, y: int, *, epsilon: float, limit_s: float = 60.0) -> SmallestMargin:
    """Return the smallest margin of one image over the L-infinity ball, clipped to 0..1.

    One mixed-integer program is solved for each wrong class. A class is skipped if interval arithmetic already proves that it
    cannot give a smaller margin than the classes solved so far.

    Args:
        maps: affine maps of the network, from `unroll`.
        x: image [C, H, W], pixels in 0..1.
        y: label of the image.
        epsilon: radius in pixel space, 0..1.
        limit_s: time limit per program in seconds.
    """
    encoding = _Encoding(maps, *(bound.numpy().ravel() for bound in box(x.cpu(), epsilon)))
    differences = Affine(maps[-1].weight[y] - maps[-1].weight, maps[-1].bias[y] - maps[-1].bias)
    interval = differences.bounds(encoding.lower, encoding.upper)[0]
    worst, margin, lower = encoding.pixels[0], math.inf, math.inf
    for other in sorted(set(range(len(interval))) - {y}, key=interval.__getitem__):
        if interval[other] >= margin:
            break
        proven, point = encoding.minimise(differences.weight[other], limit_s)
        lower = min(lower, max(interval[other], proven + differences.bias[other]))
        if (reached := _margin(maps, point, y)) < margin:
            worst, margin = point, reached
    return SmallestMargin(float(min(lower, margin)), margin, torch.from_numpy(worst).view(x.shape))


class _Encoding:
    """The constraints of a mixed-integer linear program that describe a ReLU network on a box of images.

    The variables are the pixels, followed by two groups per hidden layer: the outputs of the ReLUs, and one binary variable per
    ReLU, which is 1 if the ReLU is active.

    Attributes:
        pixels: bounds of the pixels.
        lower, upper: bounds of the inputs of the last affine map, which computes the logits.
    """

    def __init__(self, maps: Sequence[Affine], lower: Vector, upper: Vector) -> None:
        """Encode a ReLU network as constraints of a mixed-integer program.

        A ReLU follows each of the network's affine maps except the last. The inputs lie between `lower` and `upper`.
        """
        self.pixels = lower, upper
        self._variables = len(lower) + sum(2 * len(affine.bias) for affine in maps[:-1])
        self._rows: list[LinearConstraint] = []
        lows, highs, binary = [lower], [upper], [np.zeros_like(lower)]
        self._inputs, self._used = slice(0, len(lower)), len(lower)  # variables of the next map's inputs; variables so far
        for affine in maps[:-1]:
            low, high = affine.bounds(lower, upper)
            lower, upper = low.clip(min=0), high.clip(min=0)
            lows += [lower, (low >= 0).astype(float)]
            highs += [upper, (high > 0).astype(float)]
            binary += [np.zeros_like(low), np.ones_like(low)]
            self._add(affine, low.clip(max=0), upper)
        self.lower, self.upper = lower, upper
        self._bounds, self._binary = Bounds(np.concatenate(lows), np.concatenate(highs)), np.concatenate(binary)

    def minimise(self, weight: Vector, limit_s: float) -> tuple[float, Vector]:
        """Minimise the inner product of `weight` and the inputs of the network's last affine map, under the constraints.

        Returns:
            Proven lower bound of the minimum; -infinity if no bound was proven within the time limit.
            Pixels of the best solution; the lower bounds of the pixels if no solution was found.
        """
        objective = np.zeros(self._used)
        objective[self._inputs] = weight
        solution = milp(objective, integrality=self._binary, bounds=self._bounds, constraints=self._rows,
                        options={"mip_rel_gap": 0.0, "time_limit": limit_s})
        darkest, brightest = self.pixels
        point = darkest if solution.x is None else solution.x[:len(darkest)].clip(darkest, brightest)
        return -math.inf if solution.mip_dual_bound is None else solution.mip_dual_bound, point

    def _add(self, affine: Affine, low: Vector, high: Vector) -> None:
        """Add the constraints for h = max(0, z), where z = W inputs + b is in low..high and low <= 0 <= high.

        These are, with the binary variable a: h >= 0, h >= z, h <= z - low (1 - a), h <= high a (Tjeng et al. 2019, equation 6).
        """
        units = len(affine.bias)
        rectified, active = (slice(self._used + start, self._used + start + units) for start in (0, units))
        excess, off = np.zeros((2, units, self._variables))
        excess[:, self._inputs], excess[:, rectified], off[:, rectified] = -affine.weight, np.eye(units), np.eye(units)  # h - z
        at_most = excess.copy()
        at_most[:, active], off[:, active] = np.diag(-low), np.diag(-high)
        self._rows += [LinearConstraint(excess, affine.bias, np.inf), LinearConstraint(at_most, -np.inf, affine.bias - low),
                       LinearConstraint(off, -np.inf, 0.0)]
        self._inputs, self._used = rectified, active.stop


def _flat(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of nested nn.Sequentials in order."""
    for module in network if isinstance(network, nn.Sequential) else [network]:
        if isinstance(module, nn.Sequential):
            yield from _flat(module)
        else:
            yield module


@torch.no_grad()
def _matrix(affine: nn.Module, shape: tuple[int, ...]) -> tuple[Affine, tuple[int, ...]]:
    """Convert an affine module to an `Affine`, by evaluating it at 0 and at the unit vectors.

    Returns:
        The affine map.
        The shape of the module's output.
    """
    inputs = math.prod(shape)
    values = affine(torch.cat([torch.zeros(1, inputs), torch.eye(inputs)]).double().view(-1, *shape))
    at_zero, at_units = values[:1].flatten(1), values[1:].flatten(1)
    return Affine((at_units - at_zero).T.numpy(), at_zero[0].numpy()), tuple(values.shape[1:])


def _margin(maps: Sequence[Affine], point: Vector, y: int) -> float:
    """Return the margin of the network at one point: the logit of the label y minus the largest other logit."""
    for affine in maps[:-1]:
        point = affine(point).clip(min=0)
    logits = maps[-1](point)
    return float(logits[y] - np.delete(logits, y).max())
