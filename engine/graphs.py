"""Recording of passes as CUDA graphs: the first pass of each kind is captured, and later ones are replayed with one launch.

A pass of a network consists of thousands of small kernels. On a GPU, launching them one by one takes longer than computing them.
The tensor shapes of a search are static, and so are those of an attack on batches of one size, so the launches can be recorded. A
recorded pass runs the same kernels in the same order as an eager pass of the same batch, and therefore gives the same numbers. A
batch that is filled up gives the same numbers up to rounding.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence
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
            pool: memory pool that all graphs of one `Graphs` share. Only one graph may run at a time, and its outputs must be
                copied before the next graph runs.
            stream: stream of all captures. Captures on different streams would not reuse each other's memory in the pool.
        """
        with torch.cuda.device(inputs[0].device):
            before = torch.cuda.current_stream()
            stream.wait_stream(before)
            with torch.cuda.stream(stream):
                try:
                    for _ in range(WARM_UP_CALLS):
                        function(*inputs)
                    gc.collect()  # garbage with memory on the device would break the capture if it were freed inside it
                    torch.cuda.synchronize()
                    torch.cuda.empty_cache()
                    self._graph = torch.cuda.CUDAGraph()
                    self.outputs = capture(self._graph, pool, lambda: function(*inputs))
                except BaseException:
                    _leave_capture_mode(inputs[0].device)
                    raise
                finally:  # the caller may restore what the warm-up calls have changed
                    before.wait_stream(stream)

    def replay(self) -> None:
        self._graph.replay()


def _leave_capture_mode(device: torch.device) -> None:
    """Make torch's random generator of a device usable again after a capture that CUDA has broken.

    The generator stays in the mode of captures, and refuses to draw outside of one, until another capture succeeds.
    """
    with suppress(RuntimeError):
        graph = torch.cuda.CUDAGraph()
        capture(graph, None, lambda: torch.zeros(1, device=device))


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
                 record: Callable[[Function, tuple[Tensor, ...]], Recording], changed: Sequence[Tensor] = ()) -> None:
        """Record the function on copies of the inputs.

        Args:
            function: function to record.
            inputs: example inputs. Later calls must have the same shapes, dtypes and device.
            record: called with a function and its inputs; returns the recording.
            changed: tensors that the function changes in place. Recording restores their values and the global random state,
                because warm-up calls change them, and only a replay may.
        """
        self._inputs = tuple(given.detach().clone() for given in inputs)
        before = [tensor.clone() for tensor in changed]
        device = inputs[0].device
        with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
            try:
                self._recording = record(function, self._inputs)
            finally:
                for tensor, value in zip(changed, before, strict=True):
                    tensor.copy_(value)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given)
        self._recording.replay()
        return tuple(output.clone() for output in self._recording.outputs)


class _Traced:
    """A differentiable function that keeps the result of its latest call, so that the backward pass can follow on its own."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self._function, self._x = function, x

    def forward(self, x: Tensor) -> tuple[Tensor]:
        with torch.enable_grad():
            self.result = self._function(x)
        return (self.result.detach(),)

    def backward(self, gradient: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.result, self._x, gradient, retain_graph=True)


class ReplayedPasses:
    """The recorded forward and backward pass of a differentiable function of one tensor.

    The backward pass reads what the forward pass has left in memory. Later recordings may reuse this memory, so that the pool is
    as large as the largest pair of passes and not as large as all of them together. A backward pass must therefore directly
    follow its own forward pass.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor,
                 record: Callable[[Function, tuple[Tensor, ...]], Recording]) -> None:
        """Record both passes on a copy of x. The arguments are those of `Replayed`, with x as the only input."""
        self._function = function  # keeps the constants alive whose memory the recordings read
        self._x = x.detach().clone().requires_grad_()
        traced = _Traced(function, self._x)  # dropped after the captures, so that later recordings can reuse the memory
        self._forward = record(traced.forward, (self._x,))
        self._forward.replay()  # a capture computes nothing, and a backward pass may use results of the forward pass as indices
        self._gradient = torch.zeros_like(self._forward.outputs[0])
        self._backward = record(traced.backward, (self._gradient,))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the function of x."""
        self._x.copy_(x)
        self._forward.replay()
        return self._forward.outputs[0].clone()

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient with respect to the x of the last forward pass, given the gradient of its result."""
        self._gradient.copy_(gradient)
        self._backward.replay()
        return self._backward.outputs[0].clone()


class _Replay(torch.autograd.Function):
    """A call of recorded passes, as an operation that autograd can differentiate with respect to x."""

    @staticmethod
    def forward(context: Any, x: Tensor, passes: ReplayedPasses, graphs: Graphs) -> Tensor:
        graphs.replays += 1
        context.passes, context.graphs, context.number = passes, graphs, graphs.replays
        return passes.forward(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if context.graphs.replays != context.number:
            raise RuntimeError("A recorded backward pass must follow its own forward pass, but another recorded pass has run "
                               "since; take the gradient before the next pass.")
        return context.passes.backward(gradient), None, None


class Graphs:
    """The recordings (CUDA graphs) of the passes of one search, training or evaluation.

    There is one recording for each kind of pass and each combination of input shapes and dtypes. Without the argument `record`,
    nothing is recorded and all passes run eagerly.

    Attributes:
        refusal: sentence that explains why recording has stopped; empty if recording has not stopped.
        replays: number of recordings and of replayed forward passes so far.
    """

    def __init__(self, record: Callable[[Function, tuple[Tensor, ...]], Recording] | None = None) -> None:
        self._record = record
        self._recorded: dict[Hashable, Any] = {}
        self.refusal, self.replays = "", 0

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
        replayed = self._recording_of(_key(kind, inputs), lambda record: Replayed(function, inputs, record))
        return self._replay(replayed, function, inputs)

    def update(self, kind: Hashable, function: Function, *inputs: Tensor, changed: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return function(*inputs) as `run` does, for a function that also changes tensors and draws random numbers.

        If the device has no memory for the recording, this call and all later calls run eagerly.

        Args:
            kind, inputs: see `run`.
            function: as in `run`, but it may change the tensors in `changed`, and draw from torch's global generators. The
                random numbers of a replay are those that the function would draw at that time.
            changed: all tensors that the function changes in place. The recording keeps using their memory, so later calls must
                give the same tensors.
        """
        replayed = self._if_memory_suffices(_key(kind, inputs), lambda record: Replayed(function, inputs, record, changed))
        return self._replay(replayed, function, inputs)

    def differentiable(self, kind: Hashable, function: Callable[[Tensor], Tensor],
                       batch: int | None = None) -> Callable[[Tensor], Tensor]:
        """Return a version of a function whose passes are recorded: forward, and backward to the argument alone.

        Take the gradient of a call before the next call. If recording is off or fails, calls run eagerly.

        Args:
            kind: key of the recordings, as in `run`.
            function: a function from images [B, ...] to [B, ...] in which the images do not affect each other. The rules of `run`
                hold, except that the result is not detached.
            batch: number of images of every recorded pass. A smaller batch is filled up with black images if it has more than
                half of this number; all other batches run eagerly. None to record each number of images that occurs.

        The memory of recordings comes on top of what the rest of a training needs. If it does not suffice, calls run eagerly.
        """
        if self._record is None:
            return function

        def call(x: Tensor) -> Tensor:
            """Return function(x), replayed where the number of images allows it."""
            most = len(x) if batch is None else batch
            if not most / 2 < len(x) <= most:
                return function(x)
            filled = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])]) if len(x) < most else x
            key = (kind, "both passes", filled.shape, filled.dtype)
            passes: ReplayedPasses | None = self._if_memory_suffices(
                key, lambda record: ReplayedPasses(function, filled, record))
            if passes is None:
                return function(x)
            result: Tensor = _Replay.apply(filled, passes, self)  # type: ignore[no-untyped-call]
            return result[:len(x)]

        return call

    def _replay(self, replayed: Replayed | None, function: Function, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if replayed is None:
            return function(*inputs)
        self.replays += 1
        return replayed(*inputs)

    def _if_memory_suffices(self, key: Hashable, make: Callable[[Callable[..., Recording]], Any]) -> Any:
        """Do what `_recording_of` does, but stop recording if the device lacks the memory."""
        try:
            return self._recording_of(key, make)
        except torch.OutOfMemoryError as problem:
            self._refuse(problem)
        torch.cuda.empty_cache()
        return None

    def _recording_of(self, key: Hashable, make: Callable[[Callable[..., Recording]], Any]) -> Any:
        """Return the recording with a key, made by `make` if there is none yet. Return None if passes run eagerly."""
        if self._record is not None and key not in self._recorded:
            self.replays += 1  # a capture may overwrite what an earlier forward pass has left for its backward pass
            try:
                self._recorded[key] = make(self._record)
            except torch.OutOfMemoryError:
                raise  # eager passes of a search would need as much memory
            except RuntimeError as problem:  # torch's class for every other CUDA error
                self._refuse(problem)
        return self._recorded.get(key)

    def _refuse(self, problem: RuntimeError) -> None:
        """Stop recording after a capture that failed."""
        self.refusal = ("Passes run without CUDA graphs, several times slower but with the same numbers up to rounding: a "
                        f"capture failed ({str(problem).splitlines()[0][:200]}).")
        self._record = None
        self._recorded.clear()


def _key(kind: Hashable, inputs: tuple[Tensor, ...]) -> Hashable:
    return kind, tuple((given.shape, given.dtype) for given in inputs)
