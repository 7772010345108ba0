"""The state of a bilevel method before and after a step, and the values that the step computes in between."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from engine.errors import RunError
from engine.search.method import StepReport
from engine.search.registries import Objective, Value
from engine.search.weighting import gramian_of

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class State:
    """The state of a bilevel method: everything that a step reads and replaces. Its tensors are never changed in place.

    Attributes:
        weights, velocity: [n] flat weights and SGD's momentum buffer.
        alphas, mean, square: [k] flat alphas and Adam's running moments.
        buffers: flat running statistics of BatchNorm.
        steps: number of completed steps.
        warmup_steps: number of completed warm-up steps, which leave the alphas and Adam's state unchanged.
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
    """The architecture gradients of m objectives on the alphas batch. In a warm-up, m is 0.

    Attributes:
        raw: [m, k] gradients without coefficients. They include the implicit terms (the effect of the alphas through the unrolled
            weights), except in a method that adds one implicit term to `combined`.
        gradients: [m, k] gradients multiplied by their coefficients. In E2RNAS of 2020, the gradients that the solver sees.
        gramian: [m, m] float64 inner products of `gradients`, or of the normalised gradients if the method normalises them.
        weights: [m] weights of the objectives, computed by the solver from `gramian`.
        combined: [k] gradient that Adam descends.
        values: loss and accuracy of each objective.
    """

    raw: Tensor
    gradients: Tensor
    gramian: Tensor
    weights: Tensor
    combined: Tensor
    values: tuple[Value, ...]

    @classmethod
    def none(cls, alphas: Tensor) -> ArchitectureGradients:
        """Return an instance without objectives, for a step that leaves the alphas unchanged."""
        rows, gramian = alphas.new_zeros(0, len(alphas)), alphas.new_zeros(0, 0, dtype=torch.float64)
        return cls(rows, rows, gramian, gramian.diagonal(), torch.zeros_like(alphas), ())


@dataclass(frozen=True)
class Proposal:
    """A computed step that is not taken yet: the next state and the values computed on the way.

    Attributes:
        state: state of the method after the step.
        x_adv: adversarial images of the weights batch; None if the method does not attack this batch.
        xs_adv: adversarial images of the alphas batch; None if the method does not attack this batch.
        objectives: objectives of the step. They hold no references to the supernet or to images.
        architecture: architecture gradients of these objectives.
        training: loss and accuracy of the weight step.
        natural_accuracy: accuracy on the natural images of the weights batch.
        passes: number of forward passes made.
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
        """Return the accuracies on the alphas batch under the keys "natural" and "adversarial".

        Each accuracy comes from the first objective that measured it. If no objective measured an accuracy, the key of this
        accuracy is missing.
        """
        accuracies: dict[str, Tensor] = {}
        for objective, value in zip(self.objectives, self.architecture.values, strict=True):
            if value.accuracy is not None:
                accuracies.setdefault("adversarial" if objective.adversarial else "natural", value.accuracy)
        return accuracies

    def report(self, trains_on_adversarial: bool, stage: str) -> StepReport:
        """Return the report of the step, after fetching all numbers from the device at once.

        Args:
            trains_on_adversarial: True if the weight step used adversarial images.
            stage: description of the stage of the search; empty if the search has a single stage.

        Raises:
            RunError: a number in the report, the sum of the new weights, or the sum of the new alphas is not finite.
        """
        gradients, state, names = self.architecture, self.state, [objective.name for objective in self.objectives]
        norms = gradients.gramian.diagonal().sqrt()
        sizes = torch.where(norms > 0, norms, torch.ones_like(norms))
        cosines = (gradients.gramian / torch.outer(sizes, sizes)).clamp(-1, 1)
        named: dict[str, Any] = {f"{name} loss": value.loss for name, value in zip(names, gradients.values, strict=True)} | {
            "training loss": self.training.loss, "train": self.natural_accuracy,
            "train adversarial": self.training.accuracy, "weights": state.weights.sum(), "alphas": state.alphas.sum(),
            **self.accuracies()}
        measured = torch.cat([
            torch.stack([scalar.double() for scalar in named.values()]), gradients.weights, norms,
            gramian_of(gradients.raw).diagonal().sqrt(), cosines.flatten()]).tolist()
        numbers = dict(zip(named, measured, strict=False))
        if not all(map(isfinite, measured)):
            losses = [f"a {name} of {numbers[name]:.4g}" for name in ("training loss", *(f"{name} loss" for name in names))]
            got = ", ".join(losses[:-1]) + " and " * (len(losses) > 1) + losses[-1]
            raise RunError(f"Step {state.steps} of the search must give finite numbers, got {got}; lower weights_learning_rate "
                           "or gradient_clip. The state before the step is kept.")
        rows, m = measured[len(named):], len(names)
        weights, norms_of, raw_norms, *matrix = (tuple(rows[i * m:(i + 1) * m]) for i in range(3 + m))
        return StepReport(
            names=tuple(names), losses=tuple(numbers[f"{name} loss"] for name in names),
            coefficients=tuple(objective.coefficient for objective in self.objectives), weights=weights, norms=norms_of,
            raw_norms=raw_norms, cosines=tuple(matrix), natural_accuracy=numbers.get("natural"),
            adversarial_accuracy=numbers.get("adversarial"), train_loss=numbers["training loss"],
            train_accuracy=numbers["train"],
            train_adversarial_accuracy=numbers["train adversarial"] if trains_on_adversarial else None,
            passes=self.passes, stage=stage)
