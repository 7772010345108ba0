"""Certified accuracy by interval bound propagation (Gowal et al. 2018, arXiv 1810.12715): a lower bound of robust accuracy.

The network's own forward pass runs on intervals instead of numbers. `Interval` is a subclass of Tensor that replaces each
operation by its interval form. A network is rejected if it has an operation without an interval form.

Each layer multiplies the width of the intervals by the sum of the layer's absolute weights. At the usual radii, the bounds are
therefore useless for deep convolutional networks, unless a network was trained for such bounds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import ConfigError

aten = torch.ops.aten
BATCH = 64  # images per pass


@dataclass(frozen=True)
class Certificate:
    """The bounds for a batch of images.

    Attributes:
        margin: float64 [B]. For each image, a lower bound of the margin (the logit of the label minus the largest other logit) at
            all points of the ball.
    """

    margin: Tensor

    @property
    def certified(self) -> Tensor:
        """A bool [B] that is True for images that certainly withstand every attack in the ball."""
        return self.margin > 0


@torch.no_grad()
def certify(network: nn.Module, x: Tensor, y: Tensor, *, epsilon: float,
            poll: Callable[[], None] = lambda: None) -> Certificate:
    """Bound the margins of images over the L-infinity ball, clipped to 0..1.

    The computation uses a copy of the network in float64 and evaluation mode. The bounds hold for exact arithmetic, up to float64
    rounding. They ignore the float32 rounding of the network.

    Args:
        network: network from pixels to logits. Any normalisation is part of the network.
        x: images [B, C, H, W], pixels in 0..1.
        y: labels, int64 [B].
        epsilon: radius in pixel space, 0..1.
        poll: function called before each module of the network. It may raise an exception to abandon the computation.

    Raises:
        ConfigError: the network has an operation without an interval form.
    """
    exact = copy.deepcopy(network).double().cpu().eval()
    for module in exact.modules():
        module.register_forward_pre_hook(lambda module, arguments: poll())
    margins = [_margins(exact(Interval(*box(images, epsilon))), labels)
               for images, labels in zip(x.cpu().split(BATCH), y.cpu().split(BATCH), strict=True)]
    return Certificate(torch.cat(margins) if margins else torch.zeros(0, dtype=torch.float64))


def box(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each pixel in the L-infinity balls around images x, as float64 in 0..1."""
    return (x.double() - epsilon).clamp(0, 1), (x.double() + epsilon).clamp(0, 1)


class Interval(Tensor):
    """A tensor of which only bounds are known. Operations on it return an `Interval` with bounds of the result.

    Attributes:
        lower, upper: bounds of every entry, float64.
        layer: (features, weight [outputs, inputs], bias) if the tensor is the output of a linear layer, otherwise None. The
            features are the input of the layer.
    """

    lower: Tensor
    upper: Tensor
    layer: tuple[Interval, Tensor, Tensor | None] | None

    @staticmethod
    def __new__(cls, lower: Tensor, upper: Tensor) -> Interval:
        interval: Interval = Tensor._make_wrapper_subclass(
            cls, lower.shape, strides=lower.stride(), dtype=lower.dtype, device=lower.device)
        interval.lower, interval.upper, interval.layer = lower, upper, None
        return interval

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Interval({self.lower}, {self.upper})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Sequence[type],  # type: ignore[override]
                           args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        rule = RULES.get(operation)
        if rule is None:
            raise ConfigError(f"Interval bounds have no form of the operation {operation}; certify a network without it, or add "
                              f"the form to engine/attack/certified.py.")
        return rule(operation, *args, **(kwargs or {}))


def _margins(logits: Tensor, y: Tensor) -> Tensor:
    """Return a lower bound of each image's margin (logit of the label minus the largest other logit), [B].

    If the last layer is linear, the difference of two logits is bounded directly from the inputs of this layer. That bound is
    tighter than the difference between bounds of the two logits.

    Args:
        logits: bounds of the logits [B, classes], as an `Interval`.
        y: labels, int64 [B].
    """
    assert isinstance(logits, Interval)
    if logits.layer is None:
        difference = logits.lower.gather(1, y[:, None]) - logits.upper
    else:
        features, weight, bias = logits.layer
        rows = weight[y, None] - weight  # [B, classes, inputs]
        difference = (rows.clamp(min=0) @ features.lower[..., None] + rows.clamp(max=0) @ features.upper[..., None]).squeeze(2)
        difference = difference if bias is None else difference + bias[y, None] - bias
    return difference.scatter(1, y[:, None], torch.inf).amin(1)


def _lowered(value: Any) -> Any:
    """Replace every interval in an argument, or in a list of arguments, by its lower bounds."""
    return [_lowered(one) for one in value] if isinstance(value, list) else value.lower if isinstance(value, Interval) else value


def _raised(value: Any) -> Any:
    """Replace every interval in an argument, or in a list of arguments, by its upper bounds."""
    return [_raised(one) for one in value] if isinstance(value, list) else value.upper if isinstance(value, Interval) else value


def _monotone(operation: Any, *args: Any, **kwargs: Any) -> Interval:
    """Apply a monotonically non-decreasing operation, once to the lower and once to the upper bounds."""
    return Interval(operation(*map(_lowered, args), **kwargs), operation(*map(_raised, args), **kwargs))


def _pooled(operation: Any, *args: Any) -> tuple[Interval, None]:
    """Apply max pooling to an interval.

    Returns:
        The interval after pooling.
        None in place of the indices of the maxima, which are not known for an interval.
    """
    lower, upper = (operation(*map(bounds, args))[0] for bounds in (_lowered, _raised))
    return Interval(lower, upper), None


def _sum(operation: Any, first: Any, second: Any) -> Interval:
    return _monotone(operation, first, second)  # without a factor `alpha`, which might be negative


def _difference(operation: Any, first: Any, second: Any) -> Interval:
    """Subtract `second` from `first` with the torch function `operation`. At least one of the two is an interval."""
    return Interval(operation(_lowered(first), _raised(second)), operation(_raised(first), _lowered(second)))


def _scaled(operation: Any, first: Any, second: Any) -> Interval:
    """Multiply an interval by constants, or divide it by constants, with the torch function `operation`.

    The constants may have any sign.

    Raises:
        ConfigError: both factors are intervals, or the divisor is an interval.
    """
    if isinstance(second, Interval) and (isinstance(first, Interval) or operation is aten.div.Tensor):
        raise ConfigError("Interval bounds have no form of a product of two activations or of a division by one; certify a "
                          "network without it.")
    ends = operation(_lowered(first), _lowered(second)), operation(_raised(first), _raised(second))
    return Interval(torch.minimum(*ends), torch.maximum(*ends))


def _affine(x: Interval, apply: Callable[[Tensor], Tensor], spread: Callable[[Tensor], Tensor]) -> Interval:
    """Apply an affine function to the centres of an interval, and `spread` to its radii.

    Args:
        x: the interval.
        apply: the affine function.
        spread: linear function whose weights are the absolute values of the weights of `apply`.
    """
    centre, radius = apply((x.upper + x.lower) / 2), spread((x.upper - x.lower) / 2)
    return Interval(centre - radius, centre + radius)


def _convolution(operation: Any, x: Interval, weight: Tensor, bias: Tensor | None, *shape: Any) -> Interval:
    return _affine(x, lambda centre: operation(centre, weight, bias, *shape),
                   lambda radius: operation(radius, weight.abs(), None, *shape))


def _linear(operation: Any, bias: Tensor, x: Interval, columns: Tensor) -> Interval:
    logits = _affine(x, lambda centre: operation(bias, centre, columns), lambda radius: radius @ columns.abs())
    logits.layer = x, columns.T, bias
    return logits


def _linear_without_bias(operation: Any, x: Interval, columns: Tensor) -> Interval:
    logits = _affine(x, lambda centre: operation(centre, columns), lambda radius: operation(radius, columns.abs()))
    logits.layer = x, columns.T, None
    return logits


def _batch_norm(operation: Any, x: Interval, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor,
                training: bool, momentum: float, eps: float) -> tuple[Interval, None, None]:
    """Apply batch normalisation with running statistics, which is an affine function.

    Returns:
        The normalised interval.
        None twice, in place of the statistics of the batch.
    """
    if training:
        raise ConfigError("Interval bounds need BatchNorm with running statistics, got one that uses those of the batch; build "
                          "it with track_running_stats=True.")
    ones, zeros = torch.ones_like(mean), torch.zeros_like(mean)
    scale = ones if weight is None else weight.abs()
    return _affine(x, lambda centre: operation(centre, weight, bias, mean, variance, False, momentum, eps)[0],
                   lambda radius: operation(radius, scale, zeros, zeros, variance, False, momentum, eps)[0]), None, None


MONOTONE = (
    aten.relu.default, aten.clamp.default, aten.mean.dim, aten.avg_pool2d.default, aten._adaptive_avg_pool2d.default,
    aten.cat.default, aten.constant_pad_nd.default, aten.slice.Tensor, aten.select.int, aten.view.default,
    aten._unsafe_view.default, aten.permute.default, aten.clone.default, aten.alias.default, aten.detach.default)
RULES: dict[Any, Callable[..., Any]] = dict.fromkeys(MONOTONE, _monotone) | {
    aten.max_pool2d_with_indices.default: _pooled,
    aten.add.Tensor: _sum,
    aten.sub.Tensor: _difference,
    aten.mul.Tensor: _scaled,
    aten.div.Tensor: _scaled,
    aten.convolution.default: _convolution,
    aten.addmm.default: _linear,
    aten.mm.default: _linear_without_bias,
    aten.native_batch_norm.default: _batch_norm,
}
