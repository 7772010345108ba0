"""The states of a plain back end compiled by torch.compile: fewer and larger kernels, the same function up to rounding.

A whole supernet takes too long to compile. A state does not, and a supernet has about fifteen different ones: each is
compiled when it is first met, once per combination of gradients that is asked for, before a CUDA graph records it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from engine.space.convolutional import Merged
from engine.space.layout import StateShape
from engine.space.normalisation import Normalisation
from engine.space.state import BACKENDS, StateBackend, StateByState
from engine.space.supernet import Supernet

NAME = "inductor"


class CompiledStates:
    """A `StateBackend` that computes another one's states by compiled code."""

    def __init__(self, states: StateBackend, **options: Any) -> None:
        """options: for torch.compile, such as backend="aot_eager"."""
        self.project, self.normalise = states.project, states.normalise
        self._states, self._options = states, options
        self._compiled: dict[Hashable, Callable[..., Tensor]] = {}

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """See `StateBackend.state`. Not compiled where running statistics take part: one pass in a step."""
        if normalisation.views is not None:
            return self._states.state(h, weights, rows, shape, normalisation)
        # Without its name a state of one cell is that of another, and the same code serves both.
        nameless = replace(shape, prefix="")
        own = {name.removeprefix(shape.prefix): view for name, view in weights.items() if name.startswith(shape.prefix)}
        key = (nameless, h.shape, h.dtype, h.device)
        if key not in self._compiled:
            self._compiled[key] = torch.compile(
                lambda h, weights, rows: self._states.state(h, weights, rows, nameless, normalisation),
                dynamic=False, **self._options)
        return self._compiled[key](h, own, rows)


def use_inductor(supernet: Supernet) -> None:
    """Computes all cells of a supernet by compiled states from now on; the first step takes minutes then."""
    if NAME not in BACKENDS:
        BACKENDS.add(NAME, StateByState(CompiledStates(Merged()), twice=False))
    supernet.use_backends([NAME] * len(supernet.cells))
