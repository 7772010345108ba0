"""A derived network with constant parameters ("frozen"), computed by the compiled kernels (kernels/frozen.c).

The backward pass computes the gradient with respect to the images only. It runs the steps of the forward pass from the last to
the first.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.space.compiled.build import library, unavailable
from engine.space.compiled.memory import DTYPES, Memory, address
from engine.space.compiled.once import OFF, refuse_second_derivative
from engine.space.compiled.steps import INPUT, OUTPUT, Program, placed
from engine.space.derived_layouts import Size

if TYPE_CHECKING:
    from engine.space.cell_network import CellNetwork, NetworkCell


class _Network(ctypes.Structure):
    """The struct `Network` of kernels/frozen.c."""

    _fields_ = [("steps", ctypes.c_void_p), ("count", ctypes.c_long)]
    _fields_ += [(name, ctypes.c_void_p) for name in ("weights", "mean", "deviation")]
    _fields_ += [(name, ctypes.c_long) for name in (
        "channels", "height", "width", "classes", "image", "logits", "image_gradient", "logits_gradient", "values")]


def serves(network: CellNetwork, size: Size) -> bool:
    """Return True if the kernels can compute a network for images whose (height, width) is `size`.

    The kernels need float32 or float64 on a CPU, a height and width that are multiples of 4, and a network without 7x1
    convolutions.
    """
    weight = network.classifier.weight
    plain = not any(isinstance(op, nn.Sequential) for cell in network.cells for op in cast("NetworkCell", cell)._ops)
    return (plain and size[0] % 4 == size[1] % 4 == 0 and weight.device.type == "cpu" and weight.dtype in DTYPES
            and unavailable(DTYPES[weight.dtype]) is None)


class Frozen:
    """A derived network in evaluation mode as a function of images. The network's current parameters become constants.

    The logits of an image do not depend on the other images in the batch, nor on the number of threads. The logits can be
    differentiated once, with respect to the images.
    """

    def __init__(self, network: CellNetwork, size: Size) -> None:
        """Copy the parameters of `network`, and prepare the kernels for images whose (height, width) is `size`.

        The kernels must support the network and the size (see `serves`).
        """
        self._program = Program(network, size)
        self._weights = torch.cat([weight.flatten() for weight in self._program.weights])
        self._mean, self._deviation = network.mean.clone(), network.std.clone()
        self.image_shape, self.classes = (len(self._mean), *size), network.classifier.out_features
        self._kernels = library(DTYPES[self._weights.dtype])
        self._lanes = int(self._kernels.frozen_lanes())
        # Queries and backward passes reuse the memory of maps no longer needed; a forward pass before a backward pass does not.
        lifetimes = self._program.lifetimes()
        self._scratch = self._program.scratch
        self._reused = placed(self._program.buffers, lifetimes)
        self._separate = placed(self._program.buffers, [(0, len(self._program.steps))] * len(lifetimes))
        self._tables = [self._program.table(values[0], self._reused[0]) for values in (self._reused, self._separate)]
        self._query, self._kept = self._network(self._tables[0], *self._reused), self._network(self._tables[1], *self._separate)
        self._free: list[Tensor] = []
        # Several attacks may call the network at once. The executor starts a thread only when all others are busy.
        self._threads = ThreadPoolExecutor(max(os.cpu_count() or 1, torch.get_num_threads()), "frozen")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] of images x [B, *image_shape], pixels in 0..1.

        Raises:
            ConfigError: the images have another shape, dtype or device than the network takes.
        """
        if x.shape[1:] != self.image_shape or x.dtype != self._weights.dtype or x.device.type != "cpu":
            raise ConfigError(f"The network takes images {self.image_shape} of {self._weights.dtype} on the CPU, got "
                              f"{tuple(x.shape[1:])} of {x.dtype} on {x.device}; convert them.")
        if torch.is_grad_enabled() and x.requires_grad:
            logits: Tensor = _Logits.apply(x, self)  # type: ignore[no-untyped-call]
            return logits
        return self.forward(x, None)

    def forward(self, x: Tensor, values: Memory | None) -> Tensor:
        """Return the logits [B, classes].

        Args:
            x: images [B, *image_shape], pixels in 0..1.
            values: memory from `memory_for`, in which all feature maps are kept for a later call of `backward`; None to keep
                nothing.
        """
        x, logits = x.detach().contiguous(), x.new_empty(len(x), self.classes)
        network = self._query if values is None else self._kept

        def run(first: int, last: int) -> None:
            maps, scratch = values or self._memory(network.values), self._memory(self._scratch)
            block = map(ctypes.c_long, (len(x), first, last))
            self._kernels.frozen_forward(ctypes.byref(network), address(x), address(logits), *block, address(maps.tensor),
                                         int(values is not None), address(scratch.tensor))

        self._side_by_side(run, len(x))
        return logits

    def backward(self, g: Tensor, values: Memory) -> Tensor:
        """Return the gradient with respect to the images, [B, *image_shape].

        Args:
            g: gradient with respect to the logits, [B, classes].
            values: the memory in which `forward` has kept the maps of these images.
        """
        g, g_x = g.contiguous(), g.new_empty(len(g), *self.image_shape)

        def run(first: int, last: int) -> None:
            maps, scratch = self._memory(self._reused[1]), self._memory(self._scratch)
            block = map(ctypes.c_long, (len(g), first, last))
            self._kernels.frozen_backward(ctypes.byref(self._kept), address(g), address(g_x), *block,
                                          *map(address, (values.tensor, maps.tensor, scratch.tensor)))

        self._side_by_side(run, len(g))
        return g_x

    def _side_by_side(self, run: Callable[[int, int], None], images: int) -> None:
        """Call run(first, last) in parallel for ranges of blocks of images. Together, the ranges cover all blocks.

        There is one range for each of torch's threads, or one for each block if there are fewer blocks than threads. The calling
        thread computes the first range.
        """
        blocks = -(-images // self._lanes)
        threads = max(min(torch.get_num_threads(), blocks), 1)
        bounds = [blocks * number // threads for number in range(threads + 1)]
        others = [self._threads.submit(run, *between) for between in zip(bounds[1:], bounds[2:], strict=False)]
        try:
            run(*bounds[:2])
        finally:
            wait(others)
        for other in others:
            other.result()

    def memory_for(self, images: int) -> Memory:
        """Return memory for all feature maps of a batch of `images` images."""
        return self._memory(self._separate[1] * -(-images // self._lanes))

    def _memory(self, vectors: int) -> Memory:
        return Memory(self._free, vectors * self._lanes, self._weights.dtype)

    def _network(self, table: Tensor, values: list[int], size: int) -> _Network:
        gradients = self._reused[0]
        return _Network(table.data_ptr(), len(table), *(each.data_ptr() for each in (self._weights, self._mean, self._deviation)),
                        *self.image_shape, self.classes, values[INPUT], values[OUTPUT], gradients[INPUT], gradients[OUTPUT], size)


class _Logits(torch.autograd.Function):
    """The autograd function that computes the logits of a frozen network."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen) -> Tensor:
        ctx.frozen, ctx.values = frozen, frozen.memory_for(len(x))
        ctx.save_for_backward(x)
        return frozen.forward(x, ctx.values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient with respect to the images, and None for the second argument of `forward`."""
        gradient: Tensor = _Gradient.apply(gradients[0], *ctx.saved_tensors, ctx)  # type: ignore[no-untyped-call]
        return gradient, None


class _Gradient(torch.autograd.Function):
    """The backward pass of a frozen network. It is an autograd function so that a second derivative raises an error."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, logits: Any) -> Tensor:
        """Compute the gradient with respect to the images x from the gradient g of the logits.

        `logits` is the autograd context of `_Logits`. It holds the frozen network and the maps of the forward pass.
        """
        gradient: Tensor = logits.frozen.backward(g, logits.values)
        return gradient

    backward = staticmethod(refuse_second_derivative("frozen network", OFF))
