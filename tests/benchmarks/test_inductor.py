"""Compiled states: the states' values and gradients, shared among cells. Traced here without generating code, which takes
minutes."""

from __future__ import annotations

import pytest
import torch

from benchmarks.inductor import CompiledStates
from engine.space.convolutional import Merged
from engine.space.normalisation import Normalisation
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return Supernet(channels=2, layers=3, classes=3, image_shape=(1, 8, 8), backend="merged")


@pytest.mark.parametrize("wanted", ["h", "w", "rows"])
def test_values_and_gradients_are_those_of_the_states(supernet: Supernet, wanted: str) -> None:
    generator = torch.Generator().manual_seed(0)
    compiled, plain = CompiledStates(Merged(), backend="aot_eager"), Merged()
    shape = supernet.cells[0].states[1]
    flat = supernet.initial_weights(generator, torch.float64, DEVICE).requires_grad_(wanted == "w")
    h = torch.randn(3, 2, 8, 8, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_(wanted == "h")
    rows = torch.rand(len(shape.edges), 7, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_(wanted == "rows")
    of = {"h": h, "w": flat, "rows": rows}[wanted]
    found = []
    for states in (compiled, plain):
        out = states.state(h, supernet.layout.views(flat), rows, shape, Normalisation(None, running=False))
        found.append((out, torch.autograd.grad(out.square().sum(), of)[0]))
    for left, right in zip(*found, strict=True):
        assert torch.allclose(left, right, rtol=1e-10, atol=1e-12)


def test_equal_states_of_two_cells_share_their_code() -> None:
    supernet = Supernet(channels=2, layers=6, classes=3, image_shape=(1, 8, 8))  # its first two cells are alike
    compiled, plain = CompiledStates(Merged(), backend="eager"), Merged()
    flat = supernet.initial_weights(torch.Generator().manual_seed(0), torch.float64, DEVICE)
    for cell in supernet.cells[:2]:
        for shape in cell.states[3:]:
            h = torch.rand(3, 2, 8, 8, dtype=torch.float64).to(DEVICE)
            rows = torch.rand(len(shape.edges), 7, dtype=torch.float64).to(DEVICE)
            found = [states.state(h, supernet.layout.views(flat), rows, shape, Normalisation(None, running=False))
                     for states in (compiled, plain)]
            assert torch.allclose(*found, rtol=1e-12)
    assert len(compiled._compiled) == 2
