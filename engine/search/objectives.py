"""Objectives of a search: scalar functions of the flat weights and the flat alphas, always minimised."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from engine.config import SearchConfig


class FunctionalNetwork(Protocol):
    """What an objective needs of a supernet."""

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
        """Logits [B, classes] of images x [B, C, H, W]; differentiable in all three, with `twice` two times; batch
        statistics; no side effect, hence callable from two threads at a time."""
        ...

    def image_unit(self, x: Tensor) -> Tensor:
        """What the network counts as 1 in each channel of images like x, in pixels 0..1: [C, 1, 1] or a scalar."""
        ...


class Value(NamedTuple):
    """One evaluation of an objective.

    Attributes:
        loss: scalar, differentiable.
        accuracy: scalar in 0..1, detached; None for an objective that classifies nothing.
    """

    loss: Tensor
    accuracy: Tensor | None


class Objective(Protocol):
    """A scalar function of weights and alphas, and of tensors that it brings.

    Attributes:
        name: as reports print it.
        coefficient: what the loss is multiplied by before objectives are weighed.
        inputs: the tensors it reads beside weights and alphas, such as a batch.
        kind: equal for objectives that compute the same from the same inputs, so that they can share a recorded pass.
        passes: forward passes of one evaluation; one that has no such attribute makes one.
    """

    name: str
    coefficient: float

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def kind(self) -> Hashable: ...

    def on(self, *inputs: Tensor) -> Objective:
        """The same objective on other inputs of the same shapes."""

    def __call__(self, weights: Tensor, alphas: Tensor) -> Value:
        """The loss without its coefficient, at flat weights [n] and flat alphas [k]; one forward pass, or `passes`."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy of a batch; natural or adversarial is a matter of which images it is given.

    Attributes:
        network: the supernet.
        x: images [B, C, H, W].
        y: labels [B], int64.
    """

    name: str
    network: FunctionalNetwork
    x: Tensor
    y: Tensor
    coefficient: float = 1.0

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """x and y."""
        return self.x, self.y

    @property
    def kind(self) -> Hashable:
        """The network is the only thing, beside the batch, that its value depends on."""
        return CrossEntropy, self.network

    def on(self, *inputs: Tensor) -> CrossEntropy:
        """See `Objective.on`."""
        return replace(self, x=inputs[0], y=inputs[1])

    def __call__(self, weights: Tensor, alphas: Tensor) -> Value:
        logits = self.network.logits(self.x, weights, alphas)
        return Value(F.cross_entropy(logits, self.y), accuracy(logits, self.y))


@dataclass(frozen=True)
class KullbackLeibler:
    """The robust term of TRADES (Zhang et al. 2019, arXiv 1901.08573): KL(p(x) || p(x_adv)), mean over the batch.

    Both predictions are differentiated, as in the released code; each has the statistics of its own batch.

    Attributes:
        network: the supernet.
        x: natural images [B, C, H, W].
        x_adv: adversarial images, like x.
        y: labels [B], int64; for the accuracy on x_adv only.
    """

    name: str
    network: FunctionalNetwork
    x: Tensor
    x_adv: Tensor
    y: Tensor
    coefficient: float = 1.0
    passes = 2  # no annotation: a constant of the class, not a field

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """x, x_adv and y."""
        return self.x, self.x_adv, self.y

    @property
    def kind(self) -> Hashable:
        """See `CrossEntropy.kind`."""
        return KullbackLeibler, self.network

    def on(self, *inputs: Tensor) -> KullbackLeibler:
        """See `Objective.on`."""
        return replace(self, x=inputs[0], x_adv=inputs[1], y=inputs[2])

    def __call__(self, weights: Tensor, alphas: Tensor) -> Value:
        natural = F.log_softmax(self.network.logits(self.x, weights, alphas), dim=1)
        logits = self.network.logits(self.x_adv, weights, alphas)
        loss = F.kl_div(F.log_softmax(logits, dim=1), natural, reduction="batchmean", log_target=True)
        return Value(loss, accuracy(logits, self.y))


@dataclass(frozen=True)
class Uniformity:
    """KL(uniform || p(x)), mean over the batch, in nats: how far the network is from claiming no class for images of none.

    E2RNAS of 2021 (released code of 2021-03, where it is divided by the number of classes too). 0 at equal logits; the logits
    have the statistics of this batch alone.

    Attributes:
        network: the supernet.
        x: out-of-distribution images [B, C, H, W].
    """

    name: str
    network: FunctionalNetwork
    x: Tensor
    coefficient: float = 1.0

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """x."""
        return (self.x,)

    @property
    def kind(self) -> Hashable:
        """See `CrossEntropy.kind`."""
        return Uniformity, self.network

    def on(self, *inputs: Tensor) -> Uniformity:
        """See `Objective.on`."""
        return replace(self, x=inputs[0])

    def __call__(self, weights: Tensor, alphas: Tensor) -> Value:
        predicted = F.log_softmax(self.network.logits(self.x, weights, alphas), dim=1)
        return Value(-predicted.mean() - log(predicted.shape[1]), None)


@dataclass(frozen=True)
class StepImages:
    """The images of one step for its objectives, on one device; those that no objective of the step reads are None.

    Attributes:
        x: natural images [B, C, H, W] of the alphas batch.
        y: their labels [B], int64.
        x_adv: adversarial images of x, by the attack of the method.
        x_one_step: adversarial images of x, by one step from a random start.
        out_of_distribution: images [B, C, H, W] of another dataset.
    """

    x: Tensor
    y: Tensor
    x_adv: Tensor | None = None
    x_one_step: Tensor | None = None
    out_of_distribution: Tensor | None = None


def natural(network: FunctionalNetwork, images: StepImages, config: SearchConfig, coefficient: float) -> Objective:
    """`engine.search.registries.OBJECTIVES`: cross-entropy of the natural images."""
    return CrossEntropy("natural", network, images.x, images.y, coefficient)


def adversarial(network: FunctionalNetwork, images: StepImages, config: SearchConfig, coefficient: float) -> Objective:
    """`engine.search.registries.OBJECTIVES`: cross-entropy of the adversarial images."""
    return CrossEntropy("adversarial", network, images.x_adv, images.y, coefficient)


def trades(network: FunctionalNetwork, images: StepImages, config: SearchConfig, coefficient: float) -> Objective:
    """`engine.search.registries.OBJECTIVES`: the robust term of TRADES."""
    return KullbackLeibler("trades", network, images.x, images.x_adv, images.y, coefficient)


def one_step(network: FunctionalNetwork, images: StepImages, config: SearchConfig, coefficient: float) -> Objective:
    """`engine.search.registries.OBJECTIVES`: cross-entropy of the images attacked in one step."""
    return CrossEntropy("one_step", network, images.x_one_step, images.y, coefficient)


def out_of_distribution(network: FunctionalNetwork, images: StepImages, config: SearchConfig, coefficient: float) -> Objective:
    """`engine.search.registries.OBJECTIVES`: divergence of the prediction from the uniform one."""
    return Uniformity("out_of_distribution", network, images.out_of_distribution, coefficient)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Fraction in 0..1 of logits [B, classes] whose largest is at label y [B]; a float64 scalar tensor."""
    return (logits.detach().argmax(dim=1) == y).double().mean()
