"""Genotypes: the operations and inputs of every node of every cell kind, as frozen data. Does not import torch.

The search space is from DARTS (Liu, Simonyan and Yang 2018, arXiv 1806.09055): a cell has two inputs (states 0 and 1) and
intermediate nodes (states 2, 3, ...). Each node has two incoming edges. ARNAS has three cell kinds, and the methods of the DARTS
family have two. A genotype is stored as JSON, never as source code to execute. RobNet's format, which keeps all edges, is not
supported.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import GenotypeError, shortened
from engine.registry import unknown_name

# The operations of a search, in the order of the columns of alpha (ARNAS, released code).
PRIMITIVES = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
DERIVED = "derived"  # the value of the setting `network` for a network built from a genotype
NONE = "none"
PARAMETER_FREE = frozenset({"max_pool_3x3", "avg_pool_3x3", "skip_connect", NONE})
# The operations of derived networks. Published genotypes also use the last three.
OPERATIONS = PRIMITIVES + ("sep_conv_7x7", "conv_7x1_1x7", NONE)

NODES = 4  # intermediate nodes of a searched cell (DARTS)
# (from_state, to_node) of every edge of a searched cell; nodes are states 2..5.
EDGES: tuple[tuple[int, int], ...] = tuple((state, node) for node in range(2, 2 + NODES) for state in range(node))
# The families of cell kinds. `reduce` halves the resolution; the others keep it.
KINDS_OF_ARNAS = ("accurate", "reduce", "robust")
KINDS_OF_DARTS = ("normal", "reduce")
KIND_SETS = (KINDS_OF_ARNAS, KINDS_OF_DARTS)

_STATE_NAMES = ("c_{k-2}", "c_{k-1}")
_CONCAT = "_concat"


def state_name(state: int) -> str:
    """Return the usual name of a state: "c_{k-2}" and "c_{k-1}" for the two inputs, then "0", "1", ... for the nodes."""
    return _STATE_NAMES[state] if state < 2 else str(state - 2)


@dataclass(frozen=True)
class Cell:
    """One cell of a genotype.

    Attributes:
        edges: (operation, input state) of each edge, two edges per node, in the order of the nodes. A node sums its two edges.
        concat: states whose channels are concatenated as the cell's output.
    """

    edges: tuple[tuple[str, int], ...]
    concat: tuple[int, ...]

    @property
    def nodes(self) -> int:
        """Number of intermediate nodes."""
        return len(self.edges) // 2

    @property
    def parameter_free(self) -> int:
        """Number of edges whose operation has no parameters: pooling, skip connection or none."""
        return sum(operation in PARAMETER_FREE for operation, _ in self.edges)

    def incoming(self) -> list[tuple[str, int, int]]:
        """Return every edge as (operation, from_state, to_state), in genotype order."""
        return [(operation, state, 2 + i // 2) for i, (operation, state) in enumerate(self.edges)]


@dataclass(frozen=True)
class Genotype:
    """A complete architecture: one cell for each cell kind. It is validated on creation.

    Attributes:
        cells: (kind, cell) pairs, sorted by kind, so that equality does not depend on the order of the arguments.

    Raises:
        GenotypeError: the kinds are wrong, an operation is unknown, the number of edges is odd, an input is not an earlier state,
            or a concat is invalid.
    """

    cells: tuple[tuple[str, Cell], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(sorted(self.cells, key=lambda pair: pair[0])))
        _check_kinds(self.kinds)
        for kind, cell in self.cells:
            _check_cell(kind, cell)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The cell kinds: ("accurate", "reduce", "robust") or ("normal", "reduce")."""
        return tuple(kind for kind, _ in self.cells)

    @property
    def parameter_free(self) -> tuple[int, int]:
        """The pair (number of operations without parameters, number of all operations). See `Cell.parameter_free`."""
        return sum(cell.parameter_free for _, cell in self.cells), sum(len(cell.edges) for _, cell in self.cells)

    def cell(self, kind: str) -> Cell:
        """Return the cell of the given kind, for example "normal".

        Raises:
            GenotypeError: the genotype has no such kind.
        """
        for name, cell in self.cells:
            if name == kind:
                return cell
        raise GenotypeError(unknown_name("cell kind", kind, self.kinds))

    def with_operation(self, kind: str, edge: int, operation: str) -> Genotype:
        """Return a copy of the genotype with another operation on one edge.

        Args:
            kind: kind of the cell.
            edge: index of the edge, in the order of `Cell.incoming`.
            operation: name of the new operation.

        Raises:
            GenotypeError: there is no such cell, edge or operation.
        """
        cell = self.cell(kind)
        if not 0 <= edge < len(cell.edges):
            raise GenotypeError(f"An edge of cell {kind!r} must be a number from 0 to {len(cell.edges) - 1}, got {edge}; choose "
                                "one of these.")
        edges = tuple((operation if index == edge else name, state) for index, (name, state) in enumerate(cell.edges))
        return Genotype(tuple((name, Cell(edges, one.concat) if name == kind else one) for name, one in self.cells))

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the genotype as a dict of lists. This is the inverse of `from_dict`.

        The dict has the form {"accurate": [["skip_connect", 0], ...], "accurate_concat": [2, 3, 4, 5], ...}.
        """
        record: dict[str, list[Any]] = {}
        for kind, cell in self.cells:
            record[kind] = [[operation, state] for operation, state in cell.edges]
            record[kind + _CONCAT] = list(cell.concat)
        return record

    @classmethod
    def from_dict(cls, record: Any) -> Genotype:
        """Return the genotype that a record in the format of `to_dict` describes. Published genotypes use this format.

        Raises:
            GenotypeError: the record is not a valid genotype.
        """
        if not isinstance(record, Mapping):
            raise GenotypeError(f"A genotype must be an object like {_EXAMPLE}, got {shortened(record)}; write one object.")
        kinds = [name for name in record if isinstance(name, str) and not name.endswith(_CONCAT)]
        _check_kinds(kinds)
        _check_fields(record, kinds)
        return cls(tuple((kind, Cell(_read_edges(kind, record[kind]), _read_concat(kind, record[kind + _CONCAT])))
                         for kind in kinds))

    def to_json(self) -> str:
        """Return the genotype as one line of JSON with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Return the genotype that a JSON text describes.

        Raises:
            GenotypeError: the text is not JSON, or not a genotype.
        """
        try:
            record = json.loads(text)
        except (ValueError, TypeError, RecursionError) as fault:
            raise GenotypeError(f"A genotype must be JSON like {_EXAMPLE}, got {shortened(text)} ({fault}); "
                                f"correct the text or choose one from the catalogue.") from None
        return cls.from_dict(record)

    @property
    def hash(self) -> str:
        """The genotype's permanent identifier: 12 hex digits, independent of the order of the cell kinds.

        The identifier does depend on the order of the edges, because the names in a state dict depend on that order, too.
        """
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


def derive(weights: Sequence[Sequence[float]], primitives: Sequence[str] = PRIMITIVES) -> Cell:
    """Discretise one cell (DARTS, section 2.4): keep the two strongest edges into each node, with their strongest operations.

    Args:
        weights: one row per edge in the order of `EDGES` (14 for four nodes), with one softmaxed weight per primitive.
        primitives: names of the columns. "none" may be among them and is never chosen.

    Returns:
        A cell with two edges per node. The edges of each node are sorted by descending weight, and edges of equal weight keep
        their order. Of equally strong operations, the first is chosen. The cell's output concatenates all nodes.

    Raises:
        GenotypeError: no cell has this number of edges (2, 5, 9, 14, ...), a row has the wrong length, or a weight is not finite.
    """
    rows = [[float(w) for w in row] for row in weights]
    nodes = _nodes_of(len(rows))
    if any(len(row) != len(primitives) or not all(math.isfinite(w) for w in row) for row in rows):
        raise GenotypeError(f"Architecture weights must be rows of {len(primitives)} finite numbers, one per operation, got "
                            f"{shortened(rows)}; was the search's alpha damaged?")
    columns = [k for k, name in enumerate(primitives) if name != NONE]
    edges: list[tuple[str, int]] = []
    first = 0
    for node in range(2, 2 + nodes):
        incoming = rows[first:first + node]
        strongest = sorted(range(node), key=lambda state: -max(incoming[state][k] for k in columns))[:2]
        for state in strongest:
            edges.append((primitives[max(columns, key=lambda k: incoming[state][k])], state))
        first += node
    return Cell(tuple(edges), tuple(range(2, 2 + nodes)))


def derive_genotype(weights: Mapping[str, Sequence[Sequence[float]]], primitives: Sequence[str] = PRIMITIVES) -> Genotype:
    """Discretise every cell kind with `derive`.

    Args:
        weights: {cell kind: softmaxed weights [14][7]}, with one row per edge and one column per primitive.
        primitives: names of the columns.

    Raises:
        GenotypeError: the cell kinds are wrong, or `derive` rejects the rows of a kind.
    """
    return Genotype(tuple((kind, derive(rows, primitives)) for kind, rows in weights.items()))


_EXAMPLE = '{"normal": [["sep_conv_3x3", 0], ...], "normal_concat": [2, 3, 4, 5], "reduce": ..., "reduce_concat": ...}'


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _nodes_of(edges: int) -> int:
    """Return the number of nodes n for which 2 + 3 + ... + (n + 1) equals the number of edges."""
    nodes = 0
    while edges > 0:
        edges -= 2 + nodes
        nodes += 1
    if edges or not nodes:
        raise GenotypeError(f"Architecture weights must have 2, 5, 9, 14, ... rows (14 for four nodes), got "
                            f"{edges + sum(range(2, 2 + nodes))}; give one row per edge.")
    return nodes


def _check_kinds(kinds: Sequence[str]) -> None:
    if tuple(sorted(kinds)) not in KIND_SETS:
        expected = " or ".join(", ".join(names) for names in KIND_SETS)
        raise GenotypeError(f"A genotype must have the cells {expected}, got {shortened(list(kinds))}; "
                            f"add what is missing and drop the rest.")


def _check_fields(record: Mapping[Any, Any], kinds: Sequence[str]) -> None:
    expected = {name for kind in kinds for name in (kind, kind + _CONCAT)}
    for name in sorted(expected - set(record)):
        raise GenotypeError(f"A genotype with cells {', '.join(kinds)} must have the field {name!r}, got none; add it, "
                            f"for example {name!r}: [2, 3, 4, 5].")
    for name in sorted(map(str, set(record) - expected)):
        raise GenotypeError(f"A genotype must have only the fields {', '.join(sorted(expected))}, got also {shortened(name)}; "
                            f"drop it.")


def _read_edges(kind: str, value: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, (list, tuple)):
        raise GenotypeError(f"Cell {kind!r} must be a list of [operation, input] pairs, got {shortened(value)}; "
                            f"write for example [[\"sep_conv_3x3\", 0], ...].")
    for edge in value:
        if not (isinstance(edge, (list, tuple)) and len(edge) == 2 and isinstance(edge[0], str) and _is_index(edge[1])):
            raise GenotypeError(f"An edge of cell {kind!r} must be a pair [operation, input], got {shortened(edge)}; "
                                f"write for example [\"sep_conv_3x3\", 0].")
    return tuple((edge[0], edge[1]) for edge in value)


def _read_concat(kind: str, value: Any) -> tuple[int, ...]:
    if not (isinstance(value, (list, tuple)) and all(_is_index(state) for state in value)):
        raise GenotypeError(f"{kind}{_CONCAT} must be a list of whole numbers, got {shortened(value)}; "
                            f"write for example [2, 3, 4, 5].")
    return tuple(value)


def _check_cell(kind: str, cell: Cell) -> None:
    if not cell.edges or len(cell.edges) % 2:
        raise GenotypeError(f"Cell {kind!r} must have two edges per node (8 for four nodes), got {len(cell.edges)}; "
                            f"add or drop edges.")
    for operation, state, node in cell.incoming():
        if operation not in OPERATIONS:
            raise GenotypeError(f"Cell {kind!r}: {unknown_name('operation', operation[:40], OPERATIONS)} Choose one of these.")
        if not 0 <= state < node:
            raise GenotypeError(f"Cell {kind!r} must not have a cycle: an input of node {node} must be an earlier state, "
                                f"0..{node - 1}, got {state}; choose one of those.")
    last = 1 + cell.nodes
    if not cell.concat or len(set(cell.concat)) != len(cell.concat) or not all(2 <= s <= last for s in cell.concat):
        raise GenotypeError(f"{kind}{_CONCAT} must be distinct nodes in 2..{last}, got {list(cell.concat)}; "
                            f"write for example {list(range(2, last + 1))}.")
