"""A recording that works on any device, for tests of the code around CUDA graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.search.graphs import Function


class Rerun:
    """An `engine.search.graphs.Recording` without a graph: `replay` calls the function again."""

    def __init__(self, function: Function, inputs: tuple[Tensor, ...]) -> None:
        self._function, self._inputs = function, inputs
        self.outputs = tuple(torch.empty_like(output) for output in function(*inputs))

    def replay(self) -> None:
        """Fill the outputs with the function's results for the current inputs."""
        for output, value in zip(self.outputs, self._function(*self._inputs), strict=True):
            output.copy_(value)
