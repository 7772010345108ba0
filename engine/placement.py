"""Where in a network the cells of each kind stand and how wide they are. Shared by cost, supernet and derived network.

Two rules: ARNAS (Ou, Feng and Sun 2024; released code) with accurate cells before and robust cells behind the second
reduction, widths 1 : 2 : 2; and DARTS (Liu, Simonyan and Yang 2018) with normal cells, widths 1 : 2 : 4. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.genotype import KIND_SETS, KINDS_OF_ARNAS

STEM_MULTIPLIER = 3  # the stem has 3 C channels (DARTS)
MINIMUM_LAYERS = 3  # below, the two reductions would fall on one cell


@dataclass(frozen=True)
class CellPosition:
    """One cell of the network.

    Attributes:
        kind: which cell of the genotype stands here.
        reduction: whether it halves height and width.
        channels_multiplier: width of its nodes in units of the network's C.
        after_reduction: whether the cell before it is a reduction, so that its first input is one resolution larger.
    """

    kind: str
    reduction: bool
    channels_multiplier: int
    after_reduction: bool


def reductions(layers: int) -> tuple[int, int]:
    """Indices of the two reduction cells; the auxiliary head stands behind the second."""
    return layers // 3, 2 * layers // 3


def placement(kinds: Sequence[str], layers: int) -> list[CellPosition]:
    """The cells of a network from input to output.

    Args:
        kinds: cell kinds of the genotype in any order: accurate, reduce, robust (ARNAS) or normal, reduce (DARTS).
        layers: number of cells, at least 3.

    Raises:
        ConfigError: other kinds, or too few layers.
    """
    if tuple(sorted(kinds)) not in KIND_SETS:
        expected = " or ".join(", ".join(names) for names in KIND_SETS)
        raise ConfigError(f"Cell kinds must be {expected}, got {', '.join(kinds) or 'none'}; use one of the two families.")
    if layers < MINIMUM_LAYERS:
        raise ConfigError(f"layers must be at least {MINIMUM_LAYERS} (two reductions and what follows), got {layers}; "
                          f"take {MINIMUM_LAYERS} or more.")
    is_arnas = tuple(sorted(kinds)) == KINDS_OF_ARNAS
    first, second = reductions(layers)
    positions = []
    for i in range(layers):
        reduction = i in (first, second)
        if reduction:
            kind = "reduce"
        elif is_arnas:
            kind = "accurate" if i < second else "robust"
        else:
            kind = "normal"
        width = 1 if i < first else 2 if i < second or is_arnas else 4
        positions.append(CellPosition(kind, reduction, width, i - 1 in (first, second)))
    return positions
