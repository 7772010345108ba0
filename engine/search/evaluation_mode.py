"""Objectives evaluated on a network in evaluation mode, in which BatchNorm normalises by its running statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from engine.search.registries import Objective, Value

if TYPE_CHECKING:
    from engine.space.supernet import Supernet


@dataclass(frozen=True)
class _Evaluated:
    """A supernet in evaluation mode, together with its running statistics.

    The class has the interface of `engine.search.objectives.FunctionalNetwork`.
    """

    supernet: Supernet
    buffers: Tensor

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
        return self.supernet.logits(x, weights, alphas, buffers=self.buffers, running_statistics=True, twice=twice)

    def image_unit(self, x: Tensor) -> Tensor:
        return self.supernet.image_unit(x)


def in_evaluation_mode(objective: Objective, buffers: Tensor) -> Objective:
    """Return the objective with its network in evaluation mode, where BatchNorm uses running statistics.

    Args:
        objective: an objective whose `constants` consist of a supernet alone.
        buffers: the flat running statistics. No gradient goes through them.
    """
    return replace(objective, function=_evaluated, constants=(objective.function, *objective.constants),
                   inputs=(*objective.inputs, buffers))


def _evaluated(function: Callable[..., Value], supernet: Supernet, weights: Tensor, alphas: Tensor, *inputs: Any) -> Value:
    *inputs_of_function, buffers = inputs
    return function(_Evaluated(supernet, buffers), weights, alphas, *inputs_of_function)
