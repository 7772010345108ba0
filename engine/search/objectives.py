"""Objectives of a search: scalar functions of the flat weights and the flat alphas, always minimised."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from torch import Tensor
from torch.nn import functional as F


class FunctionalNetwork(Protocol):
    """The one thing an objective needs of a supernet."""

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor) -> Tensor:
        """Logits [B, classes] of images x [B, C, H, W]; differentiable in all three; batch statistics; no side
        effect, hence callable from two threads at a time."""
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
        """The loss without its coefficient, at flat weights [n] and flat alphas [k]; one forward pass."""
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


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Fraction in 0..1 of logits [B, classes] whose largest is at label y [B]; a float64 scalar tensor."""
    return (logits.detach().argmax(dim=1) == y).double().mean()
