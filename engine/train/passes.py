"""The passes of training steps in training mode. On a GPU, each is recorded as one CUDA graph with its backward pass.

A recorded pass changes the same tensors as an eager one: it adds to the parameters' gradients and updates BatchNorm's running
statistics in place. It draws the random numbers of drop path from torch's global generator of the device, whose state a replay
reads anew. The probability of drop path is a tensor that the recording reads, because it changes with each epoch.

The forward pass and its backward pass are one recording, so that no activations outlive it. All recordings can then share one
memory pool, and those of the attack reuse the memory of the training passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.graphs import Function, Graphs
from engine.space.part import Part, whole
from engine.train.average import copy_all

Poll = Callable[[], None]
# A function of `poll` and tensors. It calls `poll` before each of its forward passes, and returns the loss and measurements.
Loss = Callable[..., tuple[Tensor, ...]]


class TrainingPasses:
    """The passes of the training steps of one network.

    The first step runs eagerly, because it shows which parameters have gradients. Recordings add to these gradients in place.
    From then on, a step on a batch of a new size makes new recordings.
    """

    def __init__(self, network: nn.Module, graphs: Graphs, communicates: bool = False) -> None:
        """Prepare the passes of a network.

        Args:
            network: the network, with an attribute `drop_path`.
            graphs: recorder of the passes.
            communicates: True if BatchNorm sends statistics to other processes in each pass. The passes then run eagerly.
        """
        self._network, self._graphs, self._communicates = network, graphs, communicates
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._keeps_gradients = False
        self._drop_path, self._part, self._poll = 0.0, whole(0), _nothing
        self._before: list[Tensor] = []

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Restore the network's buffers, gradients, modes and drop path if the `with` block fails.

        Parameters need no restoring, because they change only after the block.
        """
        buffers = list(self._network.buffers())
        if not self._before:
            self._before = [torch.empty_like(buffer) for buffer in buffers]
        copy_all(self._before, buffers)
        modes = [(module, module.training) for module in self._network.modules()]
        dropped = getattr(self._network, "drop_path", 0.0)
        try:
            yield
        except BaseException:
            copy_all(buffers, self._before)
            for module, training in modes:
                module.training = training
            self._set_drop_path(dropped)
            self.clear_gradients()
            raise

    def begin_step(self, drop_path: float, part: Part, poll: Poll) -> None:
        """Switch the network to training mode, for the passes of one step.

        Args:
            drop_path: probability of drop path in this step.
            part: the part of a batch that the images of this step are.
            poll: function called before each forward pass. Before a recorded pass with several forward passes, it is called once
                for each of them.
        """
        self._drop_path, self._part, self._poll = drop_path, part, poll
        self._set_drop_path(drop_path)
        self._network.train()

    def end_step(self) -> None:
        """Clear the gradients after the update of the parameters."""
        self._keeps_gradients |= self._graphs.record and not self._communicates
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Clear the gradients, but keep their memory if recordings may use it."""
        if self._keeps_gradients:
            torch._foreach_zero_(self._gradients)
        else:
            for parameter in self._parameters:
                parameter.grad = None

    def add_gradients(self, kind: str, loss: Loss, *inputs: Tensor, forward_passes: int = 1) -> tuple[Tensor, ...]:
        """Add the gradients of a loss to those of the parameters. Return what `loss` returns, detached.

        The gradients are multiplied by the part's share of the batch. A loss without gradients only runs the forward passes.

        Args:
            kind: name of the pass. Calls with the same name must give the same function.
            loss: called with `poll` and the inputs; see `Loss`. Its other results are detached measurements.
            inputs: tensors.
            forward_passes: number of forward passes that `loss` makes.
        """
        share, recorded = self._part.share, self._recorded

        def both_passes(*given: Tensor) -> tuple[Tensor, ...]:
            value, *measured = loss(_nothing if recorded else self._poll, *given)
            if value.requires_grad:
                scaled = value if share == 1 else share * value
                _add_in_place(scaled, self._parameters) if recorded else scaled.backward()
            return (value.detach(), *measured)

        if recorded:
            for _ in range(forward_passes):
                self._poll()
        return self.run(kind, both_passes, *inputs)

    def run(self, kind: str, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return function(*inputs), which may run the network, update its buffers and add to its gradients.

        Args:
            kind: name of the pass. Calls with the same name must give the same function.
            function: a function from tensors to detached tensors, without calls of `poll`.
            inputs: tensors.
        """
        if not self._recorded:
            return function(*inputs)
        drops = self._drop_path > 0  # without drop path, the network runs other operations

        def with_drop_path(probability: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
            self._set_drop_path(probability if drops else 0.0)
            return function(*given)

        probability = torch.full((), self._drop_path, dtype=torch.float64, device=inputs[0].device)
        try:
            return self._graphs.update((kind, drops, self._part.images), with_drop_path, probability, *inputs,
                                       changed=[*self._network.buffers(), *self._gradients])
        finally:
            self._set_drop_path(self._drop_path)

    @property
    def _recorded(self) -> bool:
        return self._graphs.record and self._keeps_gradients

    @property
    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _set_drop_path(self, probability: float | Tensor) -> None:
        self._network.drop_path = probability  # type: ignore[assignment]


def _add_in_place(loss: Tensor, parameters: list[nn.Parameter]) -> None:
    """Add the gradients of the loss to those of the parameters.

    `Tensor.backward` would do this on the stream of whatever has first differentiated a parameter, which may not be captured.
    """
    with_sums = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    gradients = torch.autograd.grad(loss, [parameter for parameter, _ in with_sums], allow_unused=True)
    pairs = [(total, gradient) for (_, total), gradient in zip(with_sums, gradients, strict=True) if gradient is not None]
    torch._foreach_add_([total for total, _ in pairs], [gradient for _, gradient in pairs])


def _nothing() -> None:
    """Do nothing; `poll` of passes that must not be interrupted."""
