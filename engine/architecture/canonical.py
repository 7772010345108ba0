"""The canonical form of a genotype, which is equal for genotypes that describe the same network. Does not import torch.

A node sums its two edges, so the order of the edges does not matter. The numbering of the nodes only determines the order of the
channels in the cell's output, which does not matter either, because all later layers are trained from scratch. `Genotype.hash`
depends on both orders, because the names in a state dict do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from engine.architecture.genotype import Cell, Genotype

MOST_NODES = 7  # larger cells have too many orders of their nodes; only the order of their edges is made canonical


@lru_cache(maxsize=2000)
def canonical(genotype: Genotype) -> Genotype:
    """Return the genotype in its canonical form: of all equivalent forms, the form whose list of edges sorts first.

    In a cell with more than `MOST_NODES` nodes, the nodes keep their numbers, and only the order of the edges is made canonical.

    Example:
        canonical(one).hash == canonical(other).hash  # one and other are the same network
    """
    return Genotype(tuple((kind, _canonical_cell(cell)) for kind, cell in genotype.cells))


def _canonical_cell(cell: Cell) -> Cell:
    nodes = range(2, 2 + cell.nodes)
    orders = _orders(cell, ()) if cell.nodes <= MOST_NODES else iter([tuple(nodes)])
    return min((_renumbered(cell, order) for order in orders), key=lambda one: (one.edges, one.concat))


def _orders(cell: Cell, begun: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield every order of the nodes that begins with `begun` and has each node after its inputs."""
    if len(begun) == cell.nodes:
        yield begun
    for node in range(2, 2 + cell.nodes):
        inputs = (cell.edges[2 * node - 4][1], cell.edges[2 * node - 3][1])
        if node not in begun and all(state < 2 or state in begun for state in inputs):
            yield from _orders(cell, (*begun, node))


def _renumbered(cell: Cell, order: tuple[int, ...]) -> Cell:
    """Return the cell with its nodes in another order, and with the two edges of each node sorted."""
    number = {0: 0, 1: 1, **{node: place for place, node in enumerate(order, start=2)}}
    edges: list[tuple[str, int]] = []
    for node in order:
        edges += sorted((operation, number[state]) for operation, state in cell.edges[2 * node - 4:2 * node - 2])
    return Cell(tuple(edges), tuple(sorted(number[state] for state in cell.concat)))
