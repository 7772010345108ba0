"""A back end for supernets that compiles the computation of each node of a cell with torch.compile.

Compiled code runs fewer and larger kernels. Its results equal those without compilation up to rounding. Compiling a whole
supernet would take too long, but its nodes have only about fifteen different computations. Each is compiled at its first call,
once for every combination of gradients that is needed, and before a CUDA graph records it.
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
    """A back end that compiles the node computations of another back end."""

    def __init__(self, states: StateBackend, **options: Any) -> None:
        """Wrap another back end.

        Args:
            states: back end whose node computations are compiled.
            options: keyword arguments of torch.compile, such as backend="aot_eager".
        """
        self.project, self.normalise = states.project, states.normalise
        self._states, self._options = states, options
        self._compiled: dict[Hashable, Callable[..., Tensor]] = {}

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """Return the same result as `StateBackend.state`.

        The computation is not compiled if it involves BatchNorm's running statistics, as one pass of each search step does.
        """
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
    """Make a supernet compute all its cells with compiled code from now on. The next step then takes minutes."""
    if NAME not in BACKENDS:
        BACKENDS.add(NAME, StateByState(CompiledStates(Merged()), twice=False))
    supernet.use_backends([NAME] * len(supernet.cells))
