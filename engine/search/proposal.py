"""The state of a bilevel method before and after a step, and what the step computes in between, as values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.search.registries import Objective, Value

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class State:
    """Everything that a step reads and replaces; its tensors are never changed in place.

    Attributes:
        weights, velocity: [n] weights and momentum buffer of SGD.
        alphas, mean, square: [k] alphas and moments of Adam.
        buffers: running statistics of BatchNorm.
        steps: completed steps.
        warmup_steps: completed steps in which alphas and Adam rested.
    """

    weights: Tensor
    velocity: Tensor
    alphas: Tensor
    mean: Tensor
    square: Tensor
    buffers: Tensor
    steps: int
    warmup_steps: int = 0


@dataclass(frozen=True)
class ArchitectureGradients:
    """The gradients of m objectives on the alphas batch; m is 0 in a warm-up.

    Attributes:
        raw: [m, k] architecture gradients before their coefficients, implicit terms included.
        gradients: [m, k] the same with coefficients.
        gramian: [m, m] float64, input of the solver.
        weights: [m] of the objectives.
        combined: [k] gradient that Adam descends.
        values: losses and accuracies.
    """

    raw: Tensor
    gradients: Tensor
    gramian: Tensor
    weights: Tensor
    combined: Tensor
    values: tuple[Value, ...]

    @classmethod
    def none(cls, alphas: Tensor) -> ArchitectureGradients:
        """Return the gradients of no objective."""
        rows, gramian = alphas.new_zeros(0, len(alphas)), alphas.new_zeros(0, 0, dtype=torch.float64)
        return cls(rows, rows, gramian, gramian.diagonal(), torch.zeros_like(alphas), ())


@dataclass(frozen=True)
class Proposal:
    """A computed step that has not been taken yet: the next state and how it was computed.

    Attributes:
        x_adv, xs_adv: adversarial weights and alphas batch; None where the method does not attack it.
        objectives: those that were weighed, as registered.
        training: loss and accuracy of the weight step.
        natural_accuracy: on the weights batch.
    """

    state: State
    x_adv: Tensor | None
    xs_adv: Tensor | None
    objectives: tuple[Objective, ...]
    architecture: ArchitectureGradients
    training: Value
    natural_accuracy: Tensor
    passes: int

    def accuracies(self) -> dict[str, Tensor]:
        """Return "natural" and "adversarial" -> accuracy on the alphas batch, by the first objective that measured it."""
        accuracies: dict[str, Tensor] = {}
        for objective, value in zip(self.objectives, self.architecture.values, strict=True):
            if value.accuracy is not None:
                accuracies.setdefault("adversarial" if objective.adversarial else "natural", value.accuracy)
        return accuracies
