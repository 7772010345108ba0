"""The genotypes of a search by epoch: the edges that changed since the epoch before, and how long each cell has been stable.

Two cells count as equal if every node has the same two edges, in any order. The order changes the hash of a genotype, but not the
network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from engine.architecture.genotype import Cell, Genotype
from engine.log import RunLog

Edge = tuple[str, int]


@dataclass(frozen=True)
class NodeChange:
    """A change of one node of a cell from one epoch to the next.

    Attributes:
        cell: the cell kind, such as "robust".
        node: number of the node, from 0.
        before: (operation, input state) of each edge that the node has lost.
        after: (operation, input state) of each edge that the node has gained.
    """

    cell: str
    node: int
    before: tuple[Edge, ...]
    after: tuple[Edge, ...]


@dataclass(frozen=True)
class Moment:
    """The genotype at the end of one epoch.

    Attributes:
        epoch: the epoch, from 1; 0 before the first step.
        step: number of completed steps.
        genotype: the genotype.
        changes: nodes that have changed since the previous recorded epoch, ordered by cell and node; empty for the first recorded
            epoch.
        stable_for: {cell kind: number of epochs for which the cell has not changed}; 0 if it changed in this epoch.
    """

    epoch: int
    step: int
    genotype: Genotype
    changes: tuple[NodeChange, ...]
    stable_for: Mapping[str, int]

    @property
    def all_stable_for(self) -> int:
        """Number of epochs for which no cell has changed."""
        return min(self.stable_for.values())

    def changed_edges(self, cell: str) -> list[int]:
        """Return the positions, in `genotype.cell(cell).edges`, of the edges that are new since the previous recorded epoch."""
        new = Counter((change.node, edge) for change in self.changes if change.cell == cell for edge in change.after)
        positions = []
        for position, edge in enumerate(self.genotype.cell(cell).edges):
            if new[position // 2, edge] > 0:
                new[position // 2, edge] -= 1
                positions.append(position)
        return positions


def moments(log: RunLog, run: str) -> list[Moment]:
    """Return the genotype of a search at the end of each epoch, oldest first. The list is empty for a run without genotypes."""
    return list(log.shared(("moments", run), ("folder", "genotype", "resumed"), run, lambda: _moments(log, run)))


def _moments(log: RunLog, run: str) -> list[Moment]:
    parsed: dict[str, Genotype] = {}
    found: list[Moment] = []
    for row in log.genotypes(run).itertuples():
        text = str(row.genotype)
        genotype = parsed.setdefault(text, parsed.get(text) or Genotype.from_json(text))
        found.append(_moment(int(row.epoch), int(row.step), genotype, found[-1] if found else None))
    return found


def _moment(epoch: int, step: int, genotype: Genotype, before: Moment | None) -> Moment:
    if before is None:
        return Moment(epoch, step, genotype, (), dict.fromkeys(genotype.kinds, 0))
    changes = changes_between(before.genotype, genotype)
    changed = {change.cell for change in changes}
    passed = epoch - before.epoch
    stable_for = {kind: 0 if kind in changed else before.stable_for.get(kind, 0) + passed for kind in genotype.kinds}
    return Moment(epoch, step, genotype, changes, stable_for)


def changes_between(first: Genotype, second: Genotype) -> tuple[NodeChange, ...]:
    """Return the nodes that differ between two genotypes, in the cell kinds that both have. `first` is the older genotype."""
    return tuple(change for kind, cell in second.cells if kind in first.kinds
                 for change in _changed_nodes(kind, first.cell(kind), cell))


def _changed_nodes(kind: str, first: Cell, second: Cell) -> list[NodeChange]:
    changes = []
    for node in range(max(first.nodes, second.nodes)):
        old, new = (Counter(cell.edges[2 * node:2 * node + 2]) for cell in (first, second))
        if old != new:
            changes.append(NodeChange(kind, node, tuple((old - new).elements()), tuple((new - old).elements())))
    return changes
