"""Votes of genotypes: how many search seeds chose each operation on each edge, and how much the search seeds agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from engine.architecture.genotype import NONE, PRIMITIVES, Cell, Genotype

Edge = tuple[int, int]  # (from_state, to_node)


@dataclass(frozen=True)
class CellVotes:
    """The votes on the edges of one cell kind.

    Attributes:
        votes: {edge: {operation: number of genotypes with this operation on the edge}} for all possible edges. "none" counts
            genotypes without the edge. Operations without a vote are left out.
        agreement: fraction of edges on which two genotypes have the same operation or both have none, as the mean over all pairs
            of genotypes, in 0..1. None for fewer than two genotypes.
        chance: expected agreement of two random architectures of the search space.
    """

    votes: dict[Edge, dict[str, int]]
    agreement: float | None
    chance: float

    @property
    def beyond_chance(self) -> float | None:
        """The agreement, rescaled: 0 for random architectures and 1 for identical ones. None if `agreement` is None."""
        return None if self.agreement is None else (self.agreement - self.chance) / (1 - self.chance)


def vote_map(genotypes: Sequence[Genotype], operations: int = len(PRIMITIVES)) -> dict[str, CellVotes]:
    """Return {cell kind: votes} for genotypes of the same search space.

    `CellVotes.beyond_chance` is (agreement - chance) / (1 - chance), like Fleiss' kappa. The chance, however, is the agreement of
    random architectures of the space, as in the coefficient of Bennett, Alpert and Goldstein (1954): a random node has two
    different inputs and equally likely operations. Fleiss' kappa would compute the chance from the votes themselves. It would be
    near 0 for seeds that all choose the same operation nearly everywhere, although they agree far more than random architectures.

    Args:
        genotypes: at least one genotype.
        operations: number of operations from which the search chose.

    Raises:
        ValueError: there is no genotype, or the genotypes have different cell kinds or numbers of nodes.
    """
    shapes = {tuple((kind, cell.nodes) for kind, cell in genotype.cells) for genotype in genotypes}
    if len(shapes) != 1:
        raise ValueError(f"Votes need genotypes with the same cell kinds and nodes, got {sorted(shapes) or 'no genotype'}")
    return {kind: _cell_votes([genotype.cell(kind) for genotype in genotypes], operations) for kind, _ in shapes.pop()}


def _cell_votes(cells: Sequence[Cell], operations: int) -> CellVotes:
    edges = [(state, node) for node in range(2, 2 + cells[0].nodes) for state in range(node)]
    outcomes = [[_outcome(cell, edge) for cell in cells] for edge in edges]
    votes = {edge: dict(Counter(name for outcome in on_edge for name in outcome or (NONE,)).most_common())
             for edge, on_edge in zip(edges, outcomes, strict=True)}
    equal = [one == other for on_edge in outcomes for one, other in combinations(on_edge, 2)]
    chance = fmean((1 - 2 / node) ** 2 + (2 / node) ** 2 / operations for _, node in edges)
    return CellVotes(votes, fmean(equal) if equal else None, chance)


def _outcome(cell: Cell, edge: Edge) -> tuple[str, ...]:
    """Return the sorted operations of a cell on an edge: usually one or none, and two if a node uses an input twice."""
    return tuple(sorted(operation for operation, *ends in cell.incoming() if tuple(ends) == edge))
