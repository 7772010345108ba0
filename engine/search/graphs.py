"""Passes as CUDA graphs: captured when a kind of pass is first used, then replayed with one launch.

A pass of the supernet is thousands of small kernels, and on a GPU launching them one by one takes longer than computing
them. All shapes of a search are static, so the launches can be recorded. The kernels and their order are those of the
eager pass, and so are the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import torch
from torch import Tensor

# Before a capture everything lazy must have happened: cuBLAS and cuDNN handles, cached tables on the device.
WARM_UP_CALLS = 3

Function = Callable[..., tuple[Tensor, ...]]


class Recording(Protocol):
    """A captured function. outputs: tensors that `replay` fills from the present content of the inputs."""

    outputs: tuple[Tensor, ...]

    def replay(self) -> None:
        """Compute the outputs again."""


class CudaRecording:
    """A function as one CUDA graph."""

    def __init__(self, function: Function, inputs: tuple[Tensor, ...], pool: torch.cuda._POOL_HANDLE) -> None:
        """
        Args:
            function: makes no copy from or to the host.
            inputs: on one CUDA device; the graph reads their memory.
            pool: private memory shared with the other graphs of the search. Sharing is safe while one graph runs at a time and
                its outputs are copied before the next, since no graph needs the memory after it has ended.
        """
        with torch.cuda.device(inputs[0].device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_CALLS):
                    function(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, stream=stream):
                self.outputs = function(*inputs)

    def replay(self) -> None:
        self._graph.replay()


class Replayed:
    """A function of tensors on fixed memory: copies the inputs in, replays a recording, copies the outputs out."""

    def __init__(self, function: Function, inputs: tuple[Tensor, ...],
                 record: Callable[[Function, tuple[Tensor, ...]], Recording]) -> None:
        """inputs: an example; later calls must have the same shapes, dtypes and device."""
        self._inputs = tuple(given.detach().clone() for given in inputs)
        self._recording = record(function, self._inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given)
        self._recording.replay()
        return tuple(output.clone() for output in self._recording.outputs)


class Graphs:
    """The recordings of one search, one per kind of pass and input shapes. Without a recorder everything runs eagerly.

    Attributes:
        refusal: sentence on why recording has stopped; empty while it works.
    """

    def __init__(self, record: Callable[[Function, tuple[Tensor, ...]], Recording] | None = None) -> None:
        self._record = record
        self._replayed: dict[Hashable, Replayed] = {}
        self.refusal = ""

    @classmethod
    def on(cls, device: torch.device) -> Graphs:
        """Return CUDA graphs on a CUDA device and eager passes elsewhere."""
        if device.type != "cuda":
            return cls()
        pool = torch.cuda.graph_pool_handle()
        return cls(lambda function, inputs: CudaRecording(function, inputs, pool))

    @property
    def record(self) -> bool:
        """True if functions are recorded; otherwise they are called."""
        return self._record is not None

    def run(self, kind: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return function(*inputs), computed by a recording where there is one.

        Args:
            kind: equal for functions that compute the same from equal inputs; only the first of them is recorded.
            function: of tensors only, without randomness, side effect or a wait for the device; returns tensors that are
                detached. All back ends and settings that it uses are part of `kind` or never change.
            inputs: tensors; each combination of shapes and dtypes has its own recording.
        """
        if self._record is None:
            return function(*inputs)
        key = (kind, tuple((given.shape, given.dtype) for given in inputs))
        if key not in self._replayed:
            try:
                self._replayed[key] = Replayed(function, inputs, self._record)
            except RuntimeError as problem:  # torch's class for every CUDA error, out of memory included
                self.refusal = ("Passes run without CUDA graphs, several times slower but with the same numbers: a capture "
                                f"failed ({str(problem).splitlines()[0][:200]}).")
                self._record = None
                self._replayed.clear()
                return function(*inputs)
        return self._replayed[key](*inputs)
