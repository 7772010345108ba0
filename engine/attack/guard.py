"""Protection of a network while it is attacked: attacks leave it unchanged, and can be interrupted between forward passes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.errors import CheckpointError
from engine.graphs import Graphs
from engine.lanes import Lanes


class Watched(nn.Module):
    """A wrapper around a network. It counts the evaluated images, and can stop an attack before each forward pass.

    The loops of some attacks are inside torchattacks. The wrapper makes it possible to stop them.

    Attributes:
        network: the wrapped network.
        passes: number of images evaluated so far, over all forward passes.
        poll: function called before each forward pass; it may raise StopRequested.
        on_pass: function called after each forward pass with `passes`.
        lanes: lanes of the step in progress. Calls of `poll` never overlap, and neither do calls of `on_pass`.
    """

    def __init__(self, network: nn.Module, poll: Callable[[], None] = lambda: None,
                 on_pass: Callable[[int], None] = lambda passes: None,
                 logits: Callable[[Tensor], Tensor] | None = None) -> None:
        """Wrap a network.

        Args:
            network: network to wrap. Attack libraries can read the network's device and training mode from the wrapper.
            poll: function called before each forward pass; it may raise StopRequested.
            on_pass: function called after each forward pass with the number of images evaluated so far.
            logits: function that computes the logits instead of the network, for example a faster form of the network for
                inference. None to call the network itself.
        """
        super().__init__()
        self.network = network
        # A new module is in training mode. torchattacks restores the mode of the wrapper after an attack, which would switch the
        # network to training mode as well.
        self.training = network.training
        self.passes, self.lanes, self._counting = 0, Lanes(), threading.Lock()
        self.poll, self.on_pass, self._logits = poll, on_pass, logits or network

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits [B, classes] for images x [B, C, H, W]."""
        with self.lanes.turn():
            self.poll()
        logits = self._logits(x)
        with self._counting:  # not `turn`, which could raise Abandoned and leave a finished pass uncounted
            self.passes += len(x)
            self.on_pass(self.passes)
        return logits


@contextmanager
def under_attack(network: nn.Module) -> Iterator[None]:
    """Prepare a network for an attack. Restore the network's state and the global random state when the `with` block ends.

    Inside the block, the network is in evaluation mode, the parameters require no gradient and keep their `.grad`, and TF32 is
    off, so that matrix products have full float32 precision. Inside the block, call `attacked` to get the function for the
    attack.
    """
    modes = [(module, module.training) for module in network.modules()]
    trainable = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    devices = sorted({p.device.index or 0 for p, _ in trainable if p.device.type == "cuda"})
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with torch.random.fork_rng(devices=devices):
        try:
            network.eval()
            for parameter, _ in trainable:
                parameter.requires_grad_(False)
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, required in trainable:
                parameter.requires_grad_(required)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


def attacked(network: nn.Module, compiled: bool = True, graphs: Graphs | None = None,
             batch: int | None = None) -> Callable[[Tensor], Tensor]:
    """Return the function that an attack differentiates. It maps images [B, C, H, W] to logits [B, classes].

    Call this inside `under_attack`. The result is a faster form of the network if the network has a method `frozen`, otherwise
    the network. The faster form computes the same logits up to rounding. To decide whether an image is classified correctly,
    always use `predictions` with the network itself.

    Args:
        network: the network under attack.
        compiled: False if the function must respect autocast. Compiled kernels compute in float32.
        graphs: recorder of passes; None to run passes eagerly. The parameters must not change as long as the recorder is used. A
            network without a method `frozen` is never recorded, because its passes may wait for the device.
        batch: see `Graphs.differentiable`.
    """
    frozen: Callable[[bool], Callable[[Tensor], Tensor]] | None = getattr(network, "frozen", None)
    if frozen is None:
        return network
    return frozen(compiled) if graphs is None else graphs.differentiable(("logits", network), frozen(compiled), batch)


def predictions(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the predicted classes, int64 [B], of images x [B, C, H, W]. The network stays in its current mode.

    Raises:
        CheckpointError: the network returns NaN or infinite logits, for which a predicted class would be meaningless.
    """
    return finite_logits(network, x).argmax(1)


def finite_logits(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the logits [B, classes] of images x [B, C, H, W], detached from the graph. The network stays in its current mode.

    Raises:
        CheckpointError: a logit is NaN or infinite.
    """
    with torch.no_grad():
        logits = network(x)
    if not torch.isfinite(logits).all():
        raise CheckpointError("The network must return finite logits, got NaN or infinity; its training has diverged: "
                              "take another checkpoint or retrain with a smaller learning rate.")
    return logits
