"""An observer of the operations of fake tensors, which counts those that make a GPU wait or copy."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations whose result has a size or a value that the host must know.
WAITING = frozenset({"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select",
                     "aten::unique_dim", "aten::_unique", "aten::_unique2"})
READ = 0.5  # the value of every number that is read from the device


class Observer(TorchDispatchMode):
    """Count waits and copies of everything that runs inside the block, by the line of `engine` that causes them.

    Attributes:
        seen: {"what at file:function": number of times}. "wait" means that the host waits for the device: it reads a number, or
            copies from the device. "blocking copy" means a copy to the device from memory that is not pinned, or without
            `non_blocking`. Inside a recording, both begin with "recorded".
        launched: number of operations on tensors of the device outside recordings, views among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.launched = self._recorded = 0
        self._pinned: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Mark what the block does as part of a CUDA graph."""
        self._recorded += 1
        try:
            yield
        finally:
            self._recorded -= 1

    def note(self, what: str) -> None:
        """Count one event at the innermost line of `engine`."""
        self.seen[f"{'recorded ' if self._recorded else ''}{what} at {_place()}"] += 1

    @property
    def read_all(self) -> Callable[[Tensor], Any]:
        """A function that counts one wait and returns the nested list of a tensor on the device, full of `READ`."""
        def tolist(tensor: Tensor) -> Any:
            self.note("wait")
            return _nested(tensor.shape, _value(tensor.dtype))

        return tolist

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = operation.name().split(".")[0]
        if name == "aten::_pin_memory":
            pinned = args[0].clone()
            self._pinned[id(pinned)] = pinned
            return pinned
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = any(tensor.device.type == "cuda" for tensor in tensors)
        self.launched += on_device and not self._recorded and name != "prim::device"  # this one reads an attribute
        if name == "aten::empty" and kwargs.get("pin_memory"):
            empty = operation(*args, **kwargs | {"pin_memory": False})
            self._pinned[id(empty)] = empty
            return empty
        if name in WAITING and on_device:
            self.note("wait")
        if name == "aten::_local_scalar_dense" and isinstance(args[0], FakeTensor):
            return _value(args[0].dtype)
        if name in ("aten::_to_copy", "aten::copy_"):
            self._copy(name, args, kwargs)
        elif on_device and any(tensor.device.type == "cpu" and tensor.dim() for tensor in tensors):
            self.note("blocking copy")  # for example an index that is a CPU tensor
        return operation(*args, **kwargs)

    def _copy(self, name: str, args: Any, kwargs: Mapping[str, Any]) -> None:
        if name == "aten::copy_":
            target, source = args[0].device, args[1]
            asynchronous = bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        else:
            target, source = torch.device(kwargs.get("device") or args[0].device), args[0]
            asynchronous = bool(kwargs.get("non_blocking"))
        if source.device.type == "cuda" and target.type == "cpu":
            self.note("wait")
        elif source.device.type == "cpu" and target.type == "cuda" and not (asynchronous and id(source) in self._pinned):
            self.note("blocking copy")


@contextmanager
def observed() -> Iterator[Observer]:
    """Run the block on fake tensors under an observer.

    `tolist` counts as one wait, as on a GPU, which copies all numbers at once. PyTorch's own version for fake tensors reads them
    one by one. `numpy` gives an array of `READ`.
    """
    observer = Observer()
    with FakeTensorMode(allow_non_fake_inputs=True), observer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeTensor, "tolist", observer.read_all)
        patch.setattr(FakeTensor, "numpy", lambda tensor: np.full(tensor.shape, READ))
        yield observer


class ObservedRecording:
    """A recording (`engine.graphs.Recording`) of fake passes, whose operations are counted as recorded."""

    def __init__(self, observer: Observer, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> None:
        function(*inputs)  # one warm-up call, which fills the caches of tables
        with observer.recording():
            self.outputs = function(*inputs)

    def replay(self) -> None:
        """Do nothing. Fake outputs have no values."""


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if "/engine/" in frame.filename]
    return f"{frames[-1].filename.split('/engine/')[-1]}:{frames[-1].name}" if frames else "outside engine"


def _value(dtype: torch.dtype) -> float | int | bool:
    return READ if dtype.is_floating_point else dtype != torch.bool and 1


def _nested(shape: tuple[int, ...], value: float) -> Any:
    return [_nested(shape[1:], value) for _ in range(shape[0])] if shape else value
