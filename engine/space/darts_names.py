"""Conversion between packed tensors and state dicts of the public DARTS family (DARTS and the code derived from it).

In a state dict, the name `cells.3._ops.5._ops.4.op.1.weight` means cell 3, edge 5, primitive 4, module 1 of that primitive. Each
pool on each edge has its own BatchNorm there. In the packed tensors (`engine.space.layout`), all edges that leave a state (an
input or node of a cell) share one BatchNorm per pool. In every file trained with the published code, the BatchNorms of these
edges are equal, because they saw the same values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.errors import CheckpointError
from engine.space.layout import DILATED_KERNELS, SEPARABLE_KERNELS, CellShape, Layout, StateShape

ALPHAS, BETAS = "alphas_", "betas_"
BUFFERS = {"running_mean": "mean", "running_var": "variance"}
COUNTERS = r"(^|\.)num_batches_tracked$"


class Place(NamedTuple):
    """The location of one tensor, both in a state dict of the DARTS family and in the supernet's packed tensors.

    A packed tensor can stack several tensors of equal shape, for example the weights of one operation on all edges that leave a
    state.

    Attributes:
        name: name in the state dict.
        entry: name of the packed tensor that contains the tensor.
        at: index of the tensor in that packed tensor; () if it is the whole packed tensor.
    """

    name: str
    entry: str
    at: tuple[int, ...]


def weight_places(cells: Sequence[CellShape], primitives: Sequence[str]) -> Iterator[Place]:
    """Yield one `Place` for each weight tensor of the supernet.

    A `Place` is the tensor's name in a state dict of the DARTS family and its position in the packed tensors.

    Args:
        cells: shapes of the supernet's cells.
        primitives: names of the columns of the alphas.
    """
    yield Place("stem.0.weight", "stem.convolution", ())
    yield Place("stem.1.weight", "stem.scale", ())
    yield Place("stem.1.bias", "stem.shift", ())
    for cell in cells:
        if cell.after_reduction:
            for half in (0, 1):
                yield Place(f"{cell.prefix}preprocess0.conv_{half + 1}.weight", cell.prefix + "preprocess0", (half,))
        else:
            yield Place(f"{cell.prefix}preprocess0.op.1.weight", cell.prefix + "preprocess0", ())
        yield Place(f"{cell.prefix}preprocess1.op.1.weight", cell.prefix + "preprocess1", ())
        for state in cell.states:
            for position, edge in enumerate(state.edges):
                yield from _edge_weights(f"{cell.prefix}_ops.{edge}._ops.", state, position, primitives)
    yield Place("classifier.weight", "classifier.weight", ())
    yield Place("classifier.bias", "classifier.bias", ())


def _edge_weights(edge: str, state: StateShape, position: int, primitives: Sequence[str]) -> Iterator[Place]:
    for k, (name, _) in enumerate((*SEPARABLE_KERNELS, *DILATED_KERNELS)):
        op = f"{edge}{primitives.index(name)}.op."
        yield Place(op + "1.weight", f"{state.prefix}depthwise.{name}", (position,))
        yield Place(op + "2.weight", state.prefix + "pointwise", (k, position))
    for k, (name, _) in enumerate(SEPARABLE_KERNELS):
        op = f"{edge}{primitives.index(name)}.op."
        yield Place(op + "5.weight", f"{state.prefix}second.depthwise.{name}", (position,))
        yield Place(op + "6.weight", state.prefix + "second.pointwise", (k, position))
    if state.stride == 2:
        for half in (0, 1):
            yield Place(f"{edge}{primitives.index('skip_connect')}.conv_{half + 1}.weight", state.prefix + "reduce",
                        (half, position))


def buffer_places(cells: Sequence[CellShape], primitives: Sequence[str]) -> Iterator[Place]:
    """Yield one `Place` for each BatchNorm buffer in a state dict of the DARTS family.

    A `Place` is the buffer's name in the state dict and its position in the packed tensors. In DARTS, every edge has its own
    BatchNorm after each pool. For edges that leave the same state (an input or node of a cell), these BatchNorms are copies of
    each other, so they share one position in the packed tensors.

    Args:
        cells: shapes of the supernet's cells.
        primitives: names of the columns of the alphas.
    """
    for name, entry, index in _norms(cells, primitives):
        for darts_suffix, suffix in BUFFERS.items():
            yield Place(f"{name}.{darts_suffix}", f"{entry}.{suffix}", index)


def _norms(cells: Sequence[CellShape], primitives: Sequence[str]) -> Iterator[Place]:
    yield Place("stem.1", "stem", ())
    for cell in cells:
        before = "preprocess0.bn" if cell.after_reduction else "preprocess0.op.2"
        yield Place(cell.prefix + before, cell.prefix + "preprocess0", ())
        yield Place(cell.prefix + "preprocess1.op.2", cell.prefix + "preprocess1", ())
        for state in cell.states:
            for position, edge in enumerate(state.edges):
                yield from _edge_norms(f"{cell.prefix}_ops.{edge}._ops.", state, position, primitives)


def _edge_norms(edge: str, state: StateShape, position: int, primitives: Sequence[str]) -> Iterator[Place]:
    for k, pool in enumerate(("max_pool_3x3", "avg_pool_3x3")):
        yield Place(f"{edge}{primitives.index(pool)}.1", state.prefix + "pools", (k,))
    for k, (name, _) in enumerate(SEPARABLE_KERNELS):
        op = f"{edge}{primitives.index(name)}.op."
        yield Place(op + "3", state.prefix + "first", (k, position))
        yield Place(op + "7", state.prefix + "separable", (k, position))
    for k, (name, _) in enumerate(DILATED_KERNELS):
        yield Place(f"{edge}{primitives.index(name)}.op.3", state.prefix + "dilated", (k, position))
    if state.stride == 2:
        yield Place(f"{edge}{primitives.index('skip_connect')}.bn", state.prefix + "reduce", (0, position))


def family_shape(place: Place, views: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the shape that a tensor has in a state dict of the public DARTS family.

    In such a state dict, weights of convolutions always have four dimensions.

    Args:
        place: location of the tensor.
        views: packed tensors, keyed by name.
    """
    shape = tuple(views[place.entry][place.at].shape)
    if not place.name.endswith("weight") or place.name.startswith(("stem.1", "classifier")) or len(shape) == 4:
        return shape
    return (shape[0], 1, *shape[1:]) if "depthwise" in place.entry else (*shape, 1, 1)


def tensors_of(state: Any, ignored: str) -> dict[str, Tensor]:
    """Return {name: tensor} for a loaded file. The prefix `module.`, which DataParallel adds, is removed from the names.

    Args:
        state: mapping from names to tensors, or a checkpoint that holds such a mapping under "state_dict".
        ignored: regular expression; entries whose name matches are skipped, whatever they hold.

    Raises:
        CheckpointError: the file has no mapping from names to tensors, or two names are equal once the prefix is removed.
    """
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"A state dict must map names to tensors, got {type(state).__name__}; load the file with "
                              f"torch.load(..., weights_only=True) and pass its content.")
    tensors: dict[str, Tensor] = {}
    for full_name, value in state.items():
        name = re.sub(r"^(module\.)+", "", full_name)
        if re.search(ignored, name):
            continue
        if not isinstance(value, Tensor):
            raise CheckpointError(f"A state dict must map names to tensors, got {type(value).__name__} for {name!r}; remove it.")
        if name in tensors:
            raise CheckpointError(f"Each entry of a state dict must be unique, got {name!r} with and without 'module.'; "
                                  f"save the state dict again.")
        tensors[name] = value.detach()
    return tensors


def read_state(state: Any) -> dict[str, Tensor]:
    """Return {name: tensor} for the loaded file of a supernet.

    BatchNorm's counters and the entries `mean` and `std` are left out.

    Raises:
        CheckpointError: the file has no mapping from names to tensors, the mapping has no tensors, a tensor is not
            floating-point, `mean` is not 0 or `std` is not 1.
    """
    tensors = tensors_of(state, COUNTERS)
    if not tensors:
        raise CheckpointError("A state dict must map names to tensors, got an empty one; pass the content of the file.")
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise CheckpointError(f"The tensors of a state dict must hold floating-point numbers, got {value.dtype} in {name!r}; "
                                  "load the weights as they were saved, before any quantisation.")
    for name in ("mean", "std"):
        if name in tensors:
            _check_identity(name, tensors.pop(name))
    return tensors


def _check_identity(name: str, value: Tensor) -> None:
    identity = 0.0 if name == "mean" else 1.0
    if not bool((value == identity).all()):
        raise CheckpointError(f"The supernet takes unnormalised pixels, so {name!r} must be {identity:g} everywhere, got "
                              f"{value.flatten()[:3].tolist()}; use a file without normalisation.")


def check_names(found: Mapping[str, Tensor], expected: set[str]) -> None:
    """Check that a state dict has exactly the expected names.

    Raises:
        CheckpointError: names are missing or unexpected; the message lists the first few.
    """
    missing, unexpected = sorted(expected - set(found)), sorted(set(found) - expected)
    if missing:
        raise CheckpointError(f"The state dict must have all tensors of this supernet, missing {first_few(missing)}; was it "
                              f"saved from another depth or search space?")
    if unexpected:
        raise CheckpointError(f"The state dict must have only tensors of this supernet, got also {first_few(unexpected)}; was it "
                              f"saved from another depth or search space?")


def first_few(names: Sequence[str], count: int = 3) -> str:
    """Return text for a message: the first `count` names, and the number of the remaining names."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def take(layout: Layout, found: Mapping[str, Tensor], places: Iterator[Place], dtype: torch.dtype) -> Tensor:
    """Pack the tensors at `places` into a flat vector on the CPU.

    Args:
        layout: packing of the flat vector.
        found: tensors of the state dict, keyed by their names in the DARTS family.
        places: location of each tensor in the state dict and in the flat vector.
        dtype: dtype of the flat vector.

    Raises:
        CheckpointError: a tensor has the wrong shape or numbers that are not finite, or copies of a shared buffer differ.
    """
    flat = torch.zeros(layout.size, dtype=dtype)
    views = layout.views(flat)
    owner: dict[tuple[str, tuple[int, ...]], str] = {}
    for place in places:
        value, target = found[place.name], views[place.entry][place.at]
        shape = family_shape(place, views)
        if tuple(value.shape) != shape:
            raise CheckpointError(f"{place.name!r} must have the shape {list(shape)}, got {list(value.shape)}; was the file "
                                  f"saved from another width or other images?")
        value = value.to(device="cpu", dtype=dtype).reshape(target.shape)
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{place.name!r} must hold finite numbers, got nan or inf; the file is damaged or its training "
                                  f"diverged.")
        key = (place.entry, place.at)
        if key not in owner:
            target.copy_(value)
            owner[key] = place.name
        elif not torch.equal(target, value):
            raise CheckpointError(f"{place.name!r} must equal {owner[key]!r}: both pools see the same state, so their BatchNorms "
                                  f"have the same statistics in any trained supernet, but they differ by up to "
                                  f"{float((target - value).abs().max()):.3g}; the file was edited or merged.")
    return flat
