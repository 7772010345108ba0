"""Loss functions of the registered objectives, evaluated on a supernet at flat weights and flat alphas.

The functions do not apply the objectives' coefficients. The same function gives a natural or an adversarial loss, depending on
its images. `engine.search.registries.OBJECTIVES` maps the names of objectives to these functions.
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
    """The interface of a network that is evaluated at given weights and alphas, such as a supernet."""

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
        """Compute the logits [B, classes] of images x [B, C, H, W].

        BatchNorm uses the statistics of this batch, unless the network is in evaluation mode. The result is differentiable with
        respect to x, weights and alphas, and twice differentiable if `twice` is True. The method has no side effects, so two
        threads can call it at the same time.
        """
        ...

    def image_unit(self, x: Tensor) -> Tensor:
        """Return the pixel difference (in 0..1) that the network's normalisation maps to 1.

        There is one value per channel of x, in the shape [C, 1, 1]. A network that does not normalise gives a scalar 1.
        """
        ...


@dataclass(frozen=True)
class StepImages:
    """The images of one step, all on one device. A field is None if no objective of the step reads it.

    Attributes:
        x: natural images [B, C, H, W] of the alphas batch.
        y: labels [B] of x, int64.
        x_adv: adversarial images of x, made by the method's attack.
        x_one_step: adversarial images of x, made by one attack step from a random start.
        out_of_distribution: images [B, C, H, W] of another dataset.
    """

    x: Tensor
    y: Tensor
    x_adv: Tensor | None = None
    x_one_step: Tensor | None = None
    out_of_distribution: Tensor | None = None


def bound(objective: Objective, network: FunctionalNetwork, images: StepImages, config: SearchConfig) -> Objective:
    """Return a copy of a registered objective, with its network and its inputs filled in.

    `Objective.reads` names the inputs. A name is either a field of `images` or a setting of `config`.
    """
    inputs = tuple(getattr(images, name) if hasattr(images, name) else images.x.new_full((), getattr(config, name))
                   for name in objective.reads)
    return replace(objective, constants=(network,), inputs=inputs)


def cross_entropy_of(network: FunctionalNetwork, x: Tensor, y: Tensor, name: str = "natural") -> Objective:
    """Return the mean cross-entropy on a given batch as an objective.

    Args:
        network: the network whose loss is computed.
        x: images [B, C, H, W].
        y: labels [B], int64.
        name: name of the objective.
    """
    return replace(OBJECTIVES["natural"], name=name, constants=(network,), inputs=(x, y))


def cross_entropy(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor, y: Tensor) -> Value:
    """Compute the mean cross-entropy of images x [B, C, H, W] with labels y [B], in nats."""
    logits = network.logits(x, weights, alphas)
    return Value(F.cross_entropy(logits, y), accuracy(logits, y))


def trades(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor, x_adv: Tensor, y: Tensor) -> Value:
    """Compute the robust term of TRADES (Zhang et al. 2019, arXiv 1901.08573): mean KL(p(x) || p(x_adv)), in nats.

    The gradient goes through both predictions, as in the released code. BatchNorm normalises each of the batches x and x_adv by
    its own statistics. The labels y are used only for the accuracy on x_adv.
    """
    natural = F.log_softmax(network.logits(x, weights, alphas), dim=1)
    logits = network.logits(x_adv, weights, alphas)
    loss = F.kl_div(F.log_softmax(logits, dim=1), natural, reduction="batchmean", log_target=True)
    return Value(loss, accuracy(logits, y))


def uniformity(network: FunctionalNetwork, weights: Tensor, alphas: Tensor, x: Tensor) -> Value:
    """Compute the mean KL(uniform || p(x)) of out-of-distribution images x [B, C, H, W], in nats.

    The divergence is 0 for equal logits and grows with the confidence in one class. The 2021 version of E2RNAS (code of 2021-03)
    also divides it by the number of classes. BatchNorm uses the statistics of x alone.
    """
    predicted = F.log_softmax(network.logits(x, weights, alphas), dim=1)
    return Value(-predicted.mean() - log(predicted.shape[1]), None)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the fraction of images that are classified correctly, in 0..1, as a float64 scalar tensor.

    Args:
        logits: [B, classes].
        y: labels [B].
    """
    return (logits.detach().argmax(dim=1) == y).double().mean()
