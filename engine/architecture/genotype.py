"""Genotypes: which operation and which input every node of every cell kind keeps, as frozen data without torch.

The search space is the one of DARTS (Liu, Simonyan and Yang 2018, arXiv 1806.09055): a cell has two inputs (states 0 and 1)
and intermediate nodes (states 2, 3, ...), each fed by two edges. ARNAS has three cell kinds, the DARTS family two. A
genotype is read from and written to JSON; it is never source code. RobNet's format (all edges kept) is left out.
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

# In the order of the columns of alpha. ARNAS, released code.
PRIMITIVES = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
DERIVED = "derived"  # the value of the setting `network` for a network built from a genotype
NONE = "none"
# What a derived network can be made of: published genotypes also use these three.
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
    """What the field calls a state: "c_{k-2}" and "c_{k-1}" for the two inputs, then "0", "1", ... for the nodes."""
    return _STATE_NAMES[state] if state < 2 else str(state - 2)


@dataclass(frozen=True)
class Cell:
    """One cell of a genotype.

    Attributes:
        edges: (operation, input state), two per node in the order of the nodes; the two of a node are summed.
        concat: states whose channels are concatenated to the cell's output.
    """

    edges: tuple[tuple[str, int], ...]
    concat: tuple[int, ...]

    @property
    def nodes(self) -> int:
        """Number of intermediate nodes."""
        return len(self.edges) // 2

    def incoming(self) -> list[tuple[str, int, int]]:
        """Every edge as (operation, from_state, to_state), in genotype order."""
        return [(operation, state, 2 + i // 2) for i, (operation, state) in enumerate(self.edges)]


@dataclass(frozen=True)
class Genotype:
    """A complete architecture: one cell per kind. Checked when it is made, so one that exists is valid.

    Attributes:
        cells: (kind, cell) pairs, kept in alphabetical order of the kinds, so that equality does not depend on the order
            in which they came.

    Raises:
        GenotypeError: wrong kinds, unknown operation, odd number of edges, an input that is no earlier state, bad concat.
    """

    cells: tuple[tuple[str, Cell], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(sorted(self.cells, key=lambda pair: pair[0])))
        _check_kinds(self.kinds)
        for kind, cell in self.cells:
            _check_cell(kind, cell)

    @property
    def kinds(self) -> tuple[str, ...]:
        """("accurate", "reduce", "robust") or ("normal", "reduce")."""
        return tuple(kind for kind, _ in self.cells)

    def cell(self, kind: str) -> Cell:
        """The cell of a kind.

        Raises:
            GenotypeError: the genotype has no such kind.
        """
        for name, cell in self.cells:
            if name == kind:
                return cell
        raise GenotypeError(unknown_name("cell kind", kind, self.kinds))

    def to_dict(self) -> dict[str, list[Any]]:
        """{"accurate": [["skip_connect", 0], ...], "accurate_concat": [2, 3, 4, 5], ...}; the inverse of `from_dict`."""
        record: dict[str, list[Any]] = {}
        for kind, cell in self.cells:
            record[kind] = [[operation, state] for operation, state in cell.edges]
            record[kind + _CONCAT] = list(cell.concat)
        return record

    @classmethod
    def from_dict(cls, record: Any) -> Genotype:
        """Reads the format of `to_dict`, the one published genotypes are written in.

        Raises:
            GenotypeError: anything that is not such a record, as one sentence.
        """
        if not isinstance(record, Mapping):
            raise GenotypeError(f"A genotype must be an object like {_EXAMPLE}, got {shortened(record)}; write one object.")
        kinds = [name for name in record if isinstance(name, str) and not name.endswith(_CONCAT)]
        _check_kinds(kinds)
        _check_fields(record, kinds)
        return cls(tuple((kind, Cell(_read_edges(kind, record[kind]), _read_concat(kind, record[kind + _CONCAT])))
                         for kind in kinds))

    def to_json(self) -> str:
        """One line of JSON, keys in a fixed order."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Reads `to_json`'s text or any JSON of the same record.

        Raises:
            GenotypeError: text that is not JSON, or not a genotype.
        """
        try:
            record = json.loads(text)
        except (ValueError, TypeError, RecursionError) as fault:
            raise GenotypeError(f"A genotype must be JSON like {_EXAMPLE}, got {shortened(text)} ({fault}); "
                                f"correct the text or choose one from the catalogue.") from None
        return cls.from_dict(record)

    @property
    def hash(self) -> str:
        """12 hexadecimal digits that name this record everywhere; independent of the order of kinds, stable for ever.

        The order of the edges counts: it is the order of the operations' names in a state dict.
        """
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


def derive(weights: Sequence[Sequence[float]], primitives: Sequence[str] = PRIMITIVES) -> Cell:
    """Discretisation of one cell (DARTS, section 2.4): two strongest incoming edges per node, strongest operation on each.

    Args:
        weights: one row per edge in the order of `EDGES` (14 for four nodes), one softmaxed weight per primitive.
        primitives: names of the columns. "none" may be among them and is never chosen.

    Returns:
        A cell whose two edges per node are sorted by falling weight; equal weights keep the order of the edges, and
        of two equal operations the first is taken. All nodes are concatenated.

    Raises:
        GenotypeError: not a whole number of nodes, rows of the wrong length, or weights that are not finite numbers.
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
    """`derive` for every cell kind: {kind: softmaxed rows [14][7]} -> genotype.

    Raises:
        GenotypeError: as `derive`, or wrong cell kinds.
    """
    return Genotype(tuple((kind, derive(rows, primitives)) for kind, rows in weights.items()))


_EXAMPLE = '{"normal": [["sep_conv_3x3", 0], ...], "normal_concat": [2, 3, 4, 5], "reduce": ..., "reduce_concat": ...}'


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _nodes_of(edges: int) -> int:
    """Number of nodes n with 2 + 3 + ... + (n + 1) edges."""
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
        raise GenotypeError(f"{kind}{_CONCAT} must be different nodes among 2..{last}, got {list(cell.concat)}; "
                            f"write for example {list(range(2, last + 1))}.")
