"""Swaps of single operations in a genotype, written as text on the command line and in URLs. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.architecture.genotype import Genotype
from engine.errors import ConfigError


@dataclass(frozen=True)
class Swap:
    """The replacement of the operation on one edge of a cell.

    Attributes:
        kind: kind of the cell.
        edge: index of the edge, in the order of `Cell.incoming`.
        operation: name of the new operation.
    """

    kind: str
    edge: int
    operation: str

    def __str__(self) -> str:
        """Return the text from which `read_swap` makes this swap, for example "robust.3.skip_connect"."""
        return f"{self.kind}.{self.edge}.{self.operation}"


def read_swap(text: str) -> Swap:
    """Parse a swap, written as CELL.EDGE.OPERATION. Edges are counted from 0.

    Example:
        read_swap("robust.3.skip_connect")

    Raises:
        ConfigError: the text has another form.
    """
    kind, _, rest = text.strip().partition(".")
    edge, _, operation = rest.partition(".")
    if not (kind and edge.isascii() and edge.isdigit() and len(edge) < 5 and operation):
        raise ConfigError(f"A swap must be CELL.EDGE.OPERATION like robust.3.skip_connect, got {text.strip()[:60]!r}; count "
                          "edges from 0, in the order of the genotype.")
    return Swap(kind, int(edge), operation)


def swapped(genotype: Genotype, swaps: Iterable[Swap]) -> Genotype:
    """Return a copy of a genotype in which the given swaps have replaced operations.

    Raises:
        GenotypeError: there is no such cell, edge or operation.
    """
    for swap in swaps:
        genotype = genotype.with_operation(swap.kind, swap.edge, swap.operation)
    return genotype
