"""Guards around a network under attack: it comes back as it was found, and it can be stopped between forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.errors import CheckpointError


class Watched(nn.Module):
    """A network that polls before each forward pass and counts the passes.

    Libraries run long loops out of our sight; this is where a stop reaches into them.

    Attributes:
        network: as given.
        passes: forward passes so far.
    """

    def __init__(self, network: nn.Module, poll: Callable[[], None] = lambda: None,
                 on_pass: Callable[[int], None] = lambda passes: None,
                 logits: Callable[[Tensor], Tensor] | None = None) -> None:
        """Args:
            network: whose device and mode libraries ask for.
            poll: may raise StopRequested.
            on_pass: hears the number of finished passes after each one.
            logits: computes them instead of the network itself, for example its frozen form.
        """
        super().__init__()
        self.network = network
        # Or torchattacks would find this module training and put the network into training mode after an attack.
        self.training = network.training
        self.passes = 0
        self._poll, self._on_pass, self._logits = poll, on_pass, logits or network

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]. Returns the network's logits [B, classes]."""
        self._poll()
        logits = self._logits(x)
        self.passes += 1
        self._on_pass(self.passes)
        return logits


@contextmanager
def under_attack(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, frozen parameters, full float32 products; all of it, and the global random state, put back after.

    Attacks need input gradients only: with frozen parameters autograd computes no others, and no `.grad` is filled.
    `attacked` gives the function to attack inside.
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


def attacked(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """What an attack differentiates, inside `under_attack`: x [B, C, H, W] -> logits [B, classes].

    The network's frozen form where it has one (`engine.space.network.Network.frozen`: the same function up to rounding, many
    times faster), else the network. What counts as right or wrong is decided by the network itself (`predictions`).
    """
    frozen = getattr(network, "frozen", None)
    return frozen() if frozen else network


def predictions(network: nn.Module, x: Tensor) -> Tensor:
    """Predicted classes int64 [B] in the network's present mode, without gradients.

    Raises:
        CheckpointError: logits that are not finite; they would be scored at random.
    """
    with torch.no_grad():
        logits = network(x)
    if not torch.isfinite(logits).all():
        raise CheckpointError("The network must return finite logits, got NaN or infinity; its training has diverged: "
                              "take another checkpoint or retrain with a smaller learning rate.")
    return logits.argmax(1)
