"""Recording of passes as CUDA graphs: the first pass of each kind is captured, and later ones are replayed with one launch.

A pass of the supernet consists of thousands of small kernels. On a GPU, launching them one by one takes longer than computing
them. All tensor shapes of a search are static, so the launches can be recorded. A recorded pass runs the same kernels in the same
order as an eager pass, and therefore gives the same numbers.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

# These calls before a capture trigger all lazy work: creating cuBLAS and cuDNN handles, and caching tables on the device.
WARM_UP_CALLS = 3

Function = Callable[..., tuple[Tensor, ...]]
Outputs = TypeVar("Outputs")


class Recording(Protocol):
    """The interface of a function that was captured with fixed input tensors, for example as a CUDA graph.

    Attributes:
        outputs: tensors that `replay` fills with the results for the current content of the input tensors.
    """

    outputs: tuple[Tensor, ...]

    def replay(self) -> None:
        """Run the captured function again on the current content of its input tensors, and overwrite `outputs`."""


class CudaRecording:
    """A function captured as one CUDA graph."""

    def __init__(self, function: Function, inputs: tuple[Tensor, ...], pool: torch.cuda._POOL_HANDLE,
                 stream: torch.cuda.Stream) -> None:
        """Capture a function after a few warm-up calls.

        Args:
            function: the function to capture. It must not copy between host and device.
            inputs: tensors on one CUDA device, from whose memory the graph reads.
            pool: memory pool that all graphs of the search share. Only one graph may run at a time, and its outputs must be
                copied before the next graph runs.
            stream: stream of all captures. Captures on different streams would not reuse each other's memory in the pool.
        """
        with torch.cuda.device(inputs[0].device):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_CALLS):
                    function(*inputs)
                gc.collect()  # garbage with memory on the device would break the capture if it were freed inside it
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
                self._graph = torch.cuda.CUDAGraph()
                self.outputs = capture(self._graph, pool, lambda: function(*inputs))
            torch.cuda.current_stream().wait_stream(stream)

    def replay(self) -> None:
        self._graph.replay()


class Capturable(Protocol):
    """The methods of `torch.cuda.CUDAGraph` that `capture` needs."""

    def capture_begin(self, pool: Any) -> None: ...
    def capture_end(self) -> None: ...


def capture(graph: Capturable, pool: Any, function: Callable[[], Outputs]) -> Outputs:
    """Capture a call of a function on the current stream, and return its outputs.

    If the call fails, its own error is raised. `torch.cuda.graph` would instead raise the error of the broken capture, and would
    leave its own stream as the current stream.
    """
    graph.capture_begin(pool)
    try:
        outputs = function()
    except BaseException:
        with suppress(RuntimeError):
            graph.capture_end()  # ends the capture, and then reports that it is broken
        raise
    graph.capture_end()
    return outputs


class Replayed:
    """A recorded function, which is called like the original one.

    The recording reads its inputs from fixed memory and writes its outputs to fixed memory. A call copies the arguments into the
    memory of the inputs, replays the recording and returns copies of the outputs.
    """

    def __init__(self, function: Function, inputs: tuple[Tensor, ...],
                 record: Callable[[Function, tuple[Tensor, ...]], Recording]) -> None:
        """Record the function on copies of the inputs.

        Args:
            function: function to record.
            inputs: example inputs. Later calls must have the same shapes, dtypes and device.
            record: called with a function and its inputs; returns the recording.
        """
        self._inputs = tuple(given.detach().clone() for given in inputs)
        self._recording = record(function, self._inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given)
        self._recording.replay()
        return tuple(output.clone() for output in self._recording.outputs)


class Graphs:
    """The recordings (CUDA graphs) of the forward and backward passes of one search.

    There is one recording for each kind of pass and each combination of input shapes and dtypes. Without the argument `record`,
    nothing is recorded and all passes run eagerly.

    Attributes:
        refusal: sentence that explains why recording has stopped; empty if recording has not stopped.
    """

    def __init__(self, record: Callable[[Function, tuple[Tensor, ...]], Recording] | None = None) -> None:
        self._record = record
        self._replayed: dict[Hashable, Replayed] = {}
        self.refusal = ""

    @classmethod
    def on(cls, device: torch.device) -> Graphs:
        """Return an instance that records CUDA graphs on a CUDA device and runs passes eagerly on any other device."""
        if device.type != "cuda":
            return cls()
        pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)
        return cls(lambda function, inputs: CudaRecording(function, inputs, pool, stream))

    @property
    def record(self) -> bool:
        """True if `run` records functions as CUDA graphs and replays them, False if it calls them directly."""
        return self._record is not None

    def run(self, kind: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return function(*inputs), computed by replaying a recording if recording is on.

        The first call with a new kind, shape or dtype makes a recording. If recording fails, this call and all later calls run
        eagerly.

        Raises:
            OutOfMemoryError: the device has no memory for the recording.

        Args:
            kind: key of the recording. Only the first function with a key is recorded, so all functions with this key must
                compute the same.
            function: a function from tensors to detached tensors. It must not draw random numbers, have side effects or wait for
                the device. Everything else on which its result depends, such as a setting, must be constant or part of `kind`.
            inputs: tensors. Each combination of shapes and dtypes has its own recording.
        """
        if self._record is None:
            return function(*inputs)
        key = (kind, tuple((given.shape, given.dtype) for given in inputs))
        if key not in self._replayed:
            try:
                self._replayed[key] = Replayed(function, inputs, self._record)
            except torch.OutOfMemoryError:
                raise  # eager passes would need as much memory
            except RuntimeError as problem:  # torch's class for every other CUDA error
                self.refusal = ("Passes run without CUDA graphs, several times slower but with the same numbers: a capture "
                                f"failed ({str(problem).splitlines()[0][:200]}).")
                self._record = None
                self._replayed.clear()
                return function(*inputs)
        return self._replayed[key](*inputs)
