"""Training by several processes that share each batch, with the results of one process up to rounding.

Every process holds all images, the network and the optimiser, and takes the same steps. In a step, it computes its part of the
batch. The random numbers of augmentation, attack and drop path are drawn for the whole batch, so that an image gets the same
numbers as with one process. One all-reduce then gives all processes the gradient of the whole batch, together with the numbers
that a step reports. The update of the weights is the same everywhere, so that no weights are sent.

BatchNorm's statistics are those of the whole batch (`engine.space.part.SynchronisedNorm`), or each process uses those of its
part. The attack of a step computes only input gradients in evaluation mode, so it sends nothing. The attack of Fast-AT is in
training mode, so it synchronises statistics, but no parameter gradients.

Differs: with statistics of each process (`batch_norm` is "per_process"), BatchNorm normalises smaller batches than published.

`DistributedDataParallel` of PyTorch is not used: it would synchronise gradients at each backward pass, knows one forward pass for
each backward pass, and allows BatchNorm over processes only on GPUs. What it would hide, the time of one all-reduce, is short
against a step of adversarial training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor, nn

from engine.config import RetrainConfig
from engine.space.part import Part, part_of, whole, with_synchronised_norms

# A process that waits for another may wait as long as the other writes a checkpoint or waits for a busy machine.
PATIENCE = timedelta(hours=1)
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together, as one of them sees them.

    Attributes:
        number: number of this process, from 0.
        count: number of processes.
        is_synchronised: True if BatchNorm uses the statistics of the whole batch, False if each process uses those of its part.
    """

    number: int = 0
    count: int = 1
    is_synchronised: bool = True

    @classmethod
    def of(cls, config: RetrainConfig, number: int, count: int) -> Processes:
        """Return the processes of a run, as process `number` sees them."""
        return cls(number, count, config.batch_norm == "synchronised")

    @property
    def is_alone(self) -> bool:
        """True if there are no other processes, so that nothing is sent."""
        return self.count == 1

    def prepare(self, network: nn.Module) -> list[nn.Module]:
        """Prepare a network for training by these processes. Return its modules that need to know their part (`tell_part`)."""
        if self.is_alone:
            return []
        if self.is_synchronised:
            with_synchronised_norms(network)
        return [module for module in network.modules() if hasattr(module, "part")]

    def part(self, images: int) -> Part:
        """Return the part of a batch that this process computes."""
        return whole(images) if self.is_alone else part_of(images, self.number, self.count)

    def join(self, network: nn.Module, part: Part, means: Sequence[Tensor]) -> Sequence[Tensor]:
        """Replace the gradients of this part by those of the whole batch, with one all-reduce.

        If BatchNorm is not synchronised, its running statistics become the means over the processes.

        Args:
            network: the network, with the gradients of `part.share` times the loss.
            part: the part of the batch.
            means: means over the part, scalars.

        Returns:
            The means over the whole batch.
        """
        if self.is_alone:
            return means
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        running = [] if self.is_synchronised else list(_running_statistics(network))
        weighted = [part.share * value.to(gradients[0].dtype) for value in (*running, *means)]
        everything = torch.cat([value.flatten() for value in (*gradients, *weighted)])
        torch.distributed.all_reduce(everything)
        sums = _like(everything, [*gradients, *weighted])
        changed = [*gradients, *running]
        torch._foreach_copy_(changed, sums[:len(changed)])
        return sums[len(changed):]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes, in place, with one all-reduce."""
        if not self.is_alone:
            torch.distributed.all_reduce(values)
        return values


ALONE = Processes()


def connect(number: int, count: int, place: Path, device: str) -> None:
    """Connect this process with the others. Only the loopback interface is used.

    The function returns when all have come. Then `torch.distributed` uses gloo for tensors on the CPU and NCCL on GPUs.

    The processes meet in a file. A `TCPStore`, by which torchrun lets processes meet, listens on every interface.

    Args:
        number: number of this process, from 0.
        count: number of processes.
        place: path of the file, which must not exist when the first process comes.
        device: device of this process.
    """
    os.environ.update(LOOPBACK)
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(backend, init_method=place.as_uri(), rank=number, world_size=count, timeout=PATIENCE)


def send(content: bytes | memoryview) -> None:
    """Send bytes from process 0 to all others, which call `receive`."""
    torch.distributed.broadcast(torch.tensor([len(content)]), 0)
    torch.distributed.broadcast(torch.frombuffer(bytearray(content), dtype=torch.uint8), 0)


def receive() -> bytes:
    """Return the bytes that process 0 sends."""
    length = torch.zeros(1, dtype=torch.int64)
    torch.distributed.broadcast(length, 0)
    content = torch.empty(int(length), dtype=torch.uint8)
    torch.distributed.broadcast(content, 0)
    return content.numpy().tobytes()


def _running_statistics(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            yield from (module.running_mean, module.running_var)


def _like(flat: Tensor, shapes: Sequence[Tensor]) -> list[Tensor]:
    """Return the pieces of a flat vector, with the shapes of the given tensors."""
    return [piece.view(one.shape) for piece, one in zip(flat.split([one.numel() for one in shapes]), shapes, strict=True)]
