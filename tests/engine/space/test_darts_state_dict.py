"""State dicts with the names of the public DARTS family load into and export from the supernet; wrong ones are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.errors import CheckpointError
from engine.space.supernet import Supernet
from tests.darts_state import darts_state_dict
from tests.reference_supernet import ReferenceSupernet

State = dict[str, Tensor]


@pytest.fixture
def supernet() -> Supernet:
    return Supernet(channels=2, layers=5, classes=10, image_shape=(3, 8, 8))


@pytest.fixture(scope="module")
def trained() -> State:
    """State dict of a trained reference, whose running statistics are no longer the initial values."""
    torch.manual_seed(0)
    reference = ReferenceSupernet(2, 5, 10, (3, 8, 8)).double()
    reference(torch.rand(4, 3, 8, 8, dtype=torch.float64))
    return {name: value.detach() for name, value in reference.state_dict().items()}


@pytest.fixture
def state(trained: State) -> State:
    """A copy of the trained state for a test to change."""
    return {name: value.clone() for name, value in trained.items()}


def test_round_trip_with_the_reference(supernet: Supernet, state: State) -> None:
    weights, buffers, alphas = supernet.load_darts_state_dict(state)
    back = darts_state_dict(supernet, weights, buffers, alphas)
    expected = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert set(back) == set(expected)
    for name, value in expected.items():
        assert torch.equal(back[name], value), name
    reference = ReferenceSupernet(2, 5, 10, (3, 8, 8)).double()
    problems = reference.load_state_dict(back, strict=False)
    assert not problems.unexpected_keys and all(name.endswith("num_batches_tracked") for name in problems.missing_keys)


def test_names_of_the_family(supernet: Supernet) -> None:
    generator = torch.Generator().manual_seed(0)
    names = set(darts_state_dict(supernet, supernet.initial_weights(generator), supernet.initial_buffers(),
                                             supernet.initial_alphas(generator)))
    assert {"stem.0.weight", "cells.3.preprocess1.op.1.weight", "cells.2.preprocess0.conv_1.weight",
            "cells.3._ops.5._ops.4.op.1.weight", "cells.0._ops.0._ops.0.1.running_mean", "cells.1._ops.0._ops.2.bn.running_var",
            "classifier.weight", "alphas_robust", "alphas_reduce", "alphas_accurate"} <= names


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": state, "epoch": 50},
    lambda state: {f"module.{name}": value for name, value in state.items()},
    lambda state: state | {"mean": torch.zeros(1, 3, 1, 1), "std": torch.ones(1, 3, 1, 1)},
    lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
], ids=["checkpoint", "data parallel", "identity normalisation", "without counters"])
def test_what_is_tolerated(supernet: Supernet, state: State, wrap: Callable[[State], State]) -> None:
    expected, found = supernet.load_darts_state_dict(state), supernet.load_darts_state_dict(wrap(state))
    for ours, theirs in zip(found, expected):
        assert ours is not None and theirs is not None and torch.equal(ours, theirs)


def test_alphas_may_be_absent(supernet: Supernet, state: State) -> None:
    without = {name: value for name, value in state.items() if not name.startswith("alphas_")}
    weights, _, alphas = supernet.load_darts_state_dict(without, dtype=torch.float32)
    assert alphas is None and weights.dtype == torch.float32


def _without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


POOL = "cells.0._ops.2._ops.0.1.running_mean"


@pytest.mark.parametrize(("spoil", "sentence"), [
    (lambda state: state | {POOL: state[POOL] + 1}, "both pools see the same state"),
    (lambda state: _without(state, POOL), f"missing {POOL}"),
    (lambda state: _without(state, "classifier.bias"), "missing classifier.bias"),
    (lambda state: _without(state, "alphas_reduce"), "missing alphas_reduce"),
    (lambda state: state | {"auxiliary_head.classifier.weight": torch.zeros(1)}, "got also auxiliary_head"),
    (lambda state: state | {"stem.0.weight": torch.zeros(6, 1, 3, 3)}, r"must have the shape \[6, 3, 3, 3\], got \[6, 1, 3, 3\]"),
    (lambda state: state | {"alphas_robust": torch.zeros(14, 8)}, r"must have the shape \[14, 7\]"),
    (lambda state: state | {"classifier.bias": torch.full((10,), torch.nan)}, "finite"),
    (lambda state: state | {"mean": torch.full((3,), 0.5)}, "without normalisation"),
    (lambda state: state | {"epoch": 3}, "got int for 'epoch'"),
    (lambda state: [1, 2], "must map names to tensors, got list"),
    (lambda state: {}, "must map names to tensors"),
    (lambda state: state | {"stem.0.weight": state["stem.0.weight"].int()}, "must hold floating-point numbers, got torch.int32"),
], ids=["copies differ", "missing pool", "missing", "one alpha missing", "unexpected", "ill-shaped", "alphas ill-shaped", "nan",
        "normalisation", "no tensor", "no mapping", "empty", "whole numbers"])
def test_what_is_refused(supernet: Supernet, state: State, spoil: Callable[[State], object], sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        supernet.load_darts_state_dict(spoil(state))


def test_a_file_of_another_depth(supernet: Supernet) -> None:
    other = ReferenceSupernet(2, 4, 10, (3, 8, 8)).state_dict()
    with pytest.raises(CheckpointError, match=r"missing cells\.\S+, .* and \d+ more"):
        supernet.load_darts_state_dict(other)
