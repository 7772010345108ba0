"""Guards around a network under attack: it is left unchanged, and the attack can stop between forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.errors import CheckpointError


class Watched(nn.Module):
    """A network that polls before each forward pass and counts the passes.

    The loops of a library are out of our reach; this wrapper lets a stop request interrupt them.

    Attributes:
        network: the network itself.
        passes: number of forward passes so far.
    """

    def __init__(self, network: nn.Module, poll: Callable[[], None] = lambda: None,
                 on_pass: Callable[[int], None] = lambda passes: None,
                 logits: Callable[[Tensor], Tensor] | None = None) -> None:
        """Wrap a network.

        Args:
            network: the network, from which libraries read device and mode.
            poll: called before each forward pass; may raise StopRequested.
            on_pass: called after each forward pass with the number of passes so far.
            logits: computes the logits in place of the network, for example its frozen form.
        """
        super().__init__()
        self.network = network
        # Otherwise torchattacks would find this module in training mode and put the network into it after an attack.
        self.training = network.training
        self.passes = 0
        self._poll, self._on_pass, self._logits = poll, on_pass, logits or network

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits [B, classes] for images x [B, C, H, W]."""
        self._poll()
        logits = self._logits(x)
        self.passes += 1
        self._on_pass(self.passes)
        return logits


@contextmanager
def under_attack(network: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, frozen parameters and full float32 products; restore these and the random state at the end.

    Attacks need gradients of the input only: with frozen parameters autograd computes no others and fills no `.grad`. Inside,
    `attacked` returns the function to attack.
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
    """Return the function that an attack differentiates inside `under_attack`: x [B, C, H, W] -> logits [B, classes].

    It is the network's frozen form where there is one (`engine.space.network.Network.frozen`: the same function up to rounding,
    many times faster), else the network. The network itself decides which images are classified correctly (`predictions`).
    """
    frozen: Callable[[], Callable[[Tensor], Tensor]] | None = getattr(network, "frozen", None)
    return frozen() if frozen else network


def predictions(network: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted classes, int64 [B], of images x [B, C, H, W] in the network's present mode, without gradients.

    Raises:
        CheckpointError: logits that are not finite; they would be scored at random.
    """
    with torch.no_grad():
        logits: Tensor = network(x)
    if not torch.isfinite(logits).all():
        raise CheckpointError("The network must return finite logits, got NaN or infinity; its training has diverged: "
                              "take another checkpoint or retrain with a smaller learning rate.")
    return logits.argmax(1)
