"""Placement of cells: the published networks, and the refusals."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError
from engine.genotype import KINDS_OF_ARNAS, KINDS_OF_DARTS
from engine.placement import auxiliary_map, check_size, halved, placement


def drawn(kinds: tuple[str, ...], layers: int) -> str:
    """One letter and the width per cell, for example "a1 r2"."""
    return " ".join(f"{cell.kind[0] if cell.kind != 'reduce' else 'R'}{cell.channels_multiplier}"
                    for cell in placement(kinds, layers))


def test_the_supernet_and_the_network_of_arnas() -> None:
    assert drawn(("robust", "reduce", "accurate"), 8) == "a1 a1 R2 a2 a2 R2 r2 r2"
    assert drawn(KINDS_OF_ARNAS, 20) == " ".join(["a1"] * 6 + ["R2"] + ["a2"] * 6 + ["R2"] + ["r2"] * 6)
    assert drawn(KINDS_OF_ARNAS, 14) == " ".join(["a1"] * 4 + ["R2"] + ["a2"] * 4 + ["R2"] + ["r2"] * 4)


def test_the_network_of_darts() -> None:
    assert drawn(KINDS_OF_DARTS, 8) == "n1 n1 R2 n2 n2 R4 n4 n4"


@pytest.mark.parametrize("layers", range(3, 24))
@pytest.mark.parametrize("kinds", [KINDS_OF_ARNAS, KINDS_OF_DARTS])
def test_two_reductions_and_what_follows_them(kinds: tuple[str, ...], layers: int) -> None:
    cells = placement(kinds, layers)
    assert len(cells) == layers
    assert [i for i, cell in enumerate(cells) if cell.reduction] == [layers // 3, 2 * layers // 3]
    assert all(cell.reduction == (cell.kind == "reduce") for cell in cells)
    assert [cell.after_reduction for cell in cells] == [False, *(cell.reduction for cell in cells[:-1])]


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        placement(KINDS_OF_DARTS, 2)
    with pytest.raises(ConfigError, match="accurate, reduce, robust"):
        placement(("normal",), 8)
    with pytest.raises(ConfigError, match="image_shape"):
        check_size(16, 10, (32, 32))
    with pytest.raises(ConfigError, match="channels"):
        check_size(0, 10, (3, 32, 32))
    with pytest.raises(ConfigError, match="classes"):
        check_size(16, 2.5, (3, 32, 32))  # type: ignore[arg-type]


def test_the_auxiliary_head_sees_the_published_maps() -> None:
    assert auxiliary_map((3, 32, 32)) == (2, 2)
    assert auxiliary_map((3, 64, 64)) == (4, 4)
    assert [halved(size) for size in (1, 2, 7, 8)] == [1, 1, 4, 4]
    with pytest.raises(ConfigError, match="auxiliary"):
        auxiliary_map((1, 8, 8))
