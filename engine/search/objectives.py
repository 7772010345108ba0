"""The functions behind objectives: losses of a supernet at flat weights and flat alphas, before their coefficients.

Whether a loss is natural or adversarial depends on the images alone. `engine.search.registries.OBJECTIVES` names the functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING, Protocol

from torch import Tensor
from torch.nn import functional as F

from engine.search.registries import OBJECTIVES, Objective, Value

if TYPE_CHECKING:
    from engine.config import SearchConfig


class FunctionalNetwork(Protocol):
    """The part of a supernet that objectives use."""

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
        """Compute logits [B, classes] of images x [B, C, H, W] with batch statistics.

        Differentiable in all three arguments, with `twice` two times. Has no side effect, so two threads can call it at a time.
        """
        ...

    def image_unit(self, x: Tensor) -> Tensor:
        """Return the network's unit in each channel of images like x, in pixels 0..1: [C, 1, 1] or a scalar."""
        ...


@dataclass(frozen=True)
class StepImages:
    """The images of one step on one device; None where no objective of the step reads them.

    Attributes:
        x: natural images [B, C, H, W] of the alphas batch.
        y: their labels [B], int64.
        x_adv: adversarial images of x, made by the method's attack.
        x_one_step: adversarial images of x, made by one step from a random start.
        out_of_distribution: images [B, C, H, W] of another dataset.
    """

    x: Tensor
    y: Tensor
    x_adv: Tensor | None = None
    x_one_step: Tensor | None = None
    out_of_distribution: Tensor | None = None


def bound(objective: Objective, network: FunctionalNetwork, images: StepImages, config: SearchConfig) -> Objective:
    """Return a registered objective on a supernet, with its inputs from the images of a step and from the settings."""
    inputs = tuple(getattr(images, name) if hasattr(images, name) else images.x.new_full((), getattr(config, name))
                   for name in objective.reads)
    return replace(objective, constants=(network,), inputs=inputs)


def cross_entropy_of(network: FunctionalNetwork, x: Tensor, y: Tensor, name: str = "natural") -> Objective:
    """Return the objective `cross_entropy` on a batch: x [B, C, H, W], y [B] int64."""
    return replace(OBJECTIVES["natural"], name=name, constants=(network,), inputs=(x, y))


def cross_entropy(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor, y: Tensor) -> Value:
    """Compute the mean cross-entropy of images x [B, C, H, W] with labels y [B], in nats."""
    logits = network.logits(x, weights, alphas)
    return Value(F.cross_entropy(logits, y), accuracy(logits, y))


def trades(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor, x_adv: Tensor, y: Tensor) -> Value:
    """Compute the robust term of TRADES (Zhang et al. 2019, arXiv 1901.08573): mean KL(p(x) || p(x_adv)), in nats.

    Both predictions are differentiated, as in the released code; each has the statistics of its own batch. y serves only the
    accuracy on x_adv.
    """
    natural = F.log_softmax(network.logits(x, weights, alphas), dim=1)
    logits = network.logits(x_adv, weights, alphas)
    loss = F.kl_div(F.log_softmax(logits, dim=1), natural, reduction="batchmean", log_target=True)
    return Value(loss, accuracy(logits, y))


def uniformity(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor) -> Value:
    """Compute the mean KL(uniform || p(x)) of out-of-distribution images x [B, C, H, W], in nats.

    It is 0 at equal logits and grows as the network claims a class for images of none. E2RNAS of 2021 (released code of 2021-03)
    also divides it by the number of classes. Only this batch enters the statistics.
    """
    predicted = F.log_softmax(network.logits(x, weights, alphas), dim=1)
    return Value(-predicted.mean() - log(predicted.shape[1]), None)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the fraction in 0..1 of logits [B, classes] whose largest is at label y [B]; a float64 scalar tensor."""
    return (logits.detach().argmax(dim=1) == y).double().mean()
