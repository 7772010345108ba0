"""Packing: nothing overlaps, views are views, and a state's merged tensors lie next to each other."""

from __future__ import annotations

import hashlib
from math import prod

import pytest
import torch

from engine.architecture.genotype import EDGES
from engine.errors import CheckpointError
from engine.space.layout import LAYOUT_VERSION, Layout, buffer_layout, cell_shapes, edges_from, weight_layout
from tests.reference_supernet import ReferenceSupernet

ARNAS = ("robust", "reduce", "accurate")


def test_entries_fill_the_vector_without_gaps() -> None:
    layout = weight_layout(cell_shapes(ARNAS, 4, 5, (1, 8, 8)), 10, 1)
    offset = 0
    for entry in layout.entries:
        assert entry.offset == offset
        offset += prod(entry.shape)
    assert offset == layout.size
    assert len({entry.name for entry in layout.entries}) == len(layout.entries)


@pytest.mark.parametrize(("kinds", "channels", "layers", "shape"), [
    (ARNAS, 4, 5, (1, 8, 8)), (ARNAS, 2, 8, (3, 32, 32)), (("normal", "reduce"), 4, 6, (3, 16, 16))])
def test_as_many_numbers_as_the_unmerged_supernet(kinds: tuple[str, ...], channels: int, layers: int,
                                                  shape: tuple[int, int, int]) -> None:
    reference = ReferenceSupernet(channels, layers, 7, shape, kinds)
    layout = weight_layout(cell_shapes(kinds, channels, layers, shape), 7, shape[0])
    assert layout.size == sum(p.numel() for p in reference.weight_parameters().values())


@pytest.mark.parametrize(("kinds", "channels", "layers", "shape", "digest"), [
    (ARNAS, 24, 8, (3, 32, 32), "6c78c8bc7f6ad4e6"), (ARNAS, 8, 5, (1, 8, 8), "e2b6b54823fd4ad3"),
    (("normal", "reduce"), 16, 8, (3, 32, 32), "8be50290443ad008"), (("normal", "reduce"), 8, 5, (1, 8, 8), "cc636eaa9583d731")])
def test_published_supernets_have_the_layout_of_version_1(kinds: tuple[str, ...], channels: int, layers: int,
                                                          shape: tuple[int, int, int], digest: str) -> None:
    """The digests predate position rules and width ratios: old checkpoints fit today's supernets."""
    cells = cell_shapes(kinds, channels, layers, shape)
    text = repr([(c.kind, c.channels, c.inputs, c.map_size, c.reduction, c.after_reduction) for c in cells])
    text += "".join(repr([tuple(entry) for entry in layout.entries])
                    for layout in (weight_layout(cells, 10, shape[0]), buffer_layout(cells)))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("kinds", "channels", "layers", "shape", "partial"), [
    (ARNAS, 24, 8, (3, 32, 32), 1), (ARNAS, 8, 5, (1, 8, 8), 1), (ARNAS, 4, 4, (1, 8, 8), 1),
    (("normal", "reduce"), 16, 8, (3, 32, 32), 1), (("normal", "reduce"), 16, 8, (3, 32, 32), 4)])
def test_views_begin_at_multiples_of_16_bytes(kinds: tuple[str, ...], channels: int, layers: int, shape: tuple[int, int, int],
                                              partial: int) -> None:
    """A GPU loads four float32 numbers at once only from such addresses. It holds for channels / K that are multiples of 4."""
    cells = cell_shapes(kinds, channels, layers, shape, partial=partial)
    for layout in (weight_layout(cells, 10, shape[0]), buffer_layout(cells)):
        assert {entry.name: entry.offset % 4 for entry in layout.entries if entry.offset % 4} == {}


def test_views_write_through_and_gradients_come_back_flat() -> None:
    layout = Layout([("a", (2, 3)), ("b", (4,))])
    flat = torch.zeros(10, requires_grad=True)
    views = layout.views(flat)
    (gradient,) = torch.autograd.grad((views["a"] * 2).sum() + views["b"][0], flat)
    assert gradient.tolist() == [2.0] * 6 + [1.0, 0.0, 0.0, 0.0]
    plain = torch.zeros(10)
    layout.views(plain)["b"].fill_(3.0)
    assert plain.tolist() == [0.0] * 6 + [3.0] * 4


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(CheckpointError, match="must have 10 entries"):
        Layout([("a", (10,))]).views(torch.zeros(9))


def test_version_is_kept_with_the_layout() -> None:
    assert Layout([]).version == LAYOUT_VERSION == 1


def test_merged_tensors_of_a_state() -> None:
    shapes = {entry.name: entry.shape for entry in weight_layout(cell_shapes(ARNAS, 4, 5, (1, 8, 8)), 10, 1).entries}
    assert shapes["cells.0.states.2.pointwise"] == (4, 3, 4, 4)
    assert shapes["cells.0.states.2.depthwise.dil_conv_5x5"] == (3, 4, 5, 5)
    assert shapes["cells.0.states.2.second.pointwise"] == (2, 3, 4, 4)
    assert shapes["cells.1.states.0.reduce"] == (2, 4, 4, 8)
    assert "cells.1.states.2.reduce" not in shapes  # nodes of a reduction are already halved


def test_every_edge_leaves_exactly_one_state() -> None:
    assert sorted(e for state in range(5) for e in edges_from(state)) == list(range(len(EDGES)))


def test_pools_share_their_buffers() -> None:
    shapes = {entry.name: entry.shape for entry in buffer_layout(cell_shapes(ARNAS, 4, 5, (1, 8, 8))).entries}
    assert shapes["cells.0.states.0.pools.mean"] == (2, 4)
    assert shapes["cells.0.states.0.first.variance"] == (2, 4, 4)


def test_maps_halve_behind_reductions() -> None:
    cells = cell_shapes(ARNAS, 4, 5, (1, 8, 12))
    assert [cell.map_size for cell in cells] == [(8, 12), (8, 12), (4, 6), (4, 6), (2, 3)]
    assert [cell.channels for cell in cells] == [4, 8, 8, 8, 8]
