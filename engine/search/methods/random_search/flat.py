"""A derived network whose parameters and running statistics are read and written as flat vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.space.network import Network


class FlatNetwork:
    """A network whose state is read and written as two flat vectors.

    The weights [n] are the parameters, in the order of `network.parameters()`. The buffers [m] are the running mean and variance
    of every BatchNorm, in the order of the modules. BatchNorm's batch counters are left out.

    Attributes:
        network: the network itself.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._parameters = list(network.parameters())
        self._statistics = [buffer for name, buffer in network.named_buffers()
                            if name.endswith((".running_mean", ".running_var"))]

    def weights(self) -> Tensor:
        """Return a copy of the weights [n]."""
        return _flat(self._parameters)

    def buffers(self) -> Tensor:
        """Return a copy of the buffers [m]."""
        return _flat(self._statistics)

    def load(self, weights: Tensor, buffers: Tensor) -> None:
        """Write the flat weights [n] and buffers [m] into the network."""
        for flat, tensors in ((weights, self._parameters), (buffers, self._statistics)):
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def gradient(self, loss: Tensor) -> Tensor:
        """Return the gradient [n], with respect to the weights, of a scalar loss that was computed with the network."""
        return _flat(torch.autograd.grad(loss, self._parameters))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
