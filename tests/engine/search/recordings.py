"""Recordings that work on any device, for tests of the code around CUDA graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from engine.graphs import WARM_UP_CALLS, CudaRecording, Function
from tests.engine.search.functional_networks import DEVICE


class Rerun:
    """An `engine.graphs.Recording` without a graph: `replay` calls the function again.

    As with a CUDA graph, a few warm-up calls come before the recording, and `outputs` has no values before the first replay.
    """

    def __init__(self, function: Function, inputs: tuple[Tensor, ...]) -> None:
        self._function, self._inputs = function, inputs
        for _ in range(WARM_UP_CALLS):
            outputs = function(*inputs)
        self.outputs = tuple(torch.empty_like(output) for output in outputs)

    def replay(self) -> None:
        """Fill the outputs with the function's results for the current inputs."""
        for output, value in zip(self.outputs, self._function(*self._inputs), strict=True):
            output.copy_(value)


on_gpu = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU: RAMPART_TEST_DEVICE=cuda")
RECORDINGS = [pytest.param(Rerun, id="rerun"), pytest.param("cuda", id="cuda graph", marks=on_gpu)]


class Counting:
    """A factory of recordings that counts them."""

    def __init__(self, record: Any) -> None:
        if record == "cuda":
            pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(DEVICE)
            self.record: Any = lambda function, inputs: CudaRecording(function, inputs, pool, stream)
        else:
            self.record = record
        self.made: list[Any] = []

    def __call__(self, function: Function, inputs: tuple[Tensor, ...]) -> Any:
        self.made.append(self.record(function, inputs))
        return self.made[-1]
