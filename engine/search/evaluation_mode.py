"""Objectives of a network in evaluation mode, which is a function of BatchNorm's running statistics."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from engine.search.objectives import Value

if TYPE_CHECKING:
    from engine.space.supernet import Supernet


@dataclass(frozen=True)
class _Evaluated:
    """`engine.search.objectives.FunctionalNetwork` of a supernet with its running statistics."""

    supernet: Supernet
    buffers: Tensor

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
        return self.supernet.logits(x, weights, alphas, buffers=self.buffers, running_statistics=True, twice=twice)

    def image_unit(self, x: Tensor) -> Tensor:
        return self.supernet.image_unit(x)


@dataclass(frozen=True)
class InEvaluationMode:
    """An objective whose network normalises by running statistics instead of those of the batch.

    Attributes:
        objective: one with a field `network`, a supernet.
        buffers: flat BatchNorm buffers; not differentiated.
    """

    objective: Any
    buffers: Tensor

    @property
    def name(self) -> str:
        """The objective's."""
        return self.objective.name

    @property
    def coefficient(self) -> float:
        """The objective's."""
        return self.objective.coefficient

    @property
    def passes(self) -> int:
        """The objective's."""
        return getattr(self.objective, "passes", 1)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The objective's, and the buffers."""
        return (*self.objective.inputs, self.buffers)

    @property
    def kind(self) -> Hashable:
        """See `Objective.kind`."""
        return InEvaluationMode, self.objective.kind

    def on(self, *inputs: Tensor) -> InEvaluationMode:
        """See `Objective.on`."""
        return InEvaluationMode(self.objective.on(*inputs[:-1]), inputs[-1])

    def __call__(self, weights: Tensor, alphas: Tensor) -> Value:
        return replace(self.objective, network=_Evaluated(self.objective.network, self.buffers))(weights, alphas)
