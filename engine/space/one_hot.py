"""Operation weights with which a supernet computes one discrete architecture with its own weights."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.architecture.genotype import EDGES, NODES, NONE, Cell, Genotype
from engine.errors import GenotypeError
from engine.space.supernet import Supernet


def one_hot(supernet: Supernet, genotype: Genotype) -> Tensor:
    """Return the operation weights [kinds, 14, primitives] of a genotype, for `Supernet.weighted_logits`.

    Each operation of the genotype has the weight 1 on its edge, and all other weights are 0. The two edges of a node are thus
    added without a factor, as in the network derived from the genotype. If a node uses the same operation of the same input
    twice, the weight is 2.

    Returns:
        A float32 tensor on the CPU.

    Raises:
        GenotypeError: the cell kinds or the number of nodes differ from the supernet's, the supernet lacks an operation of the
            genotype, or the output of a cell does not consist of all nodes.
    """
    if sorted(genotype.kinds) != sorted(supernet.kinds):
        raise GenotypeError(f"The genotype must have the supernet's cell kinds {', '.join(sorted(supernet.kinds))}, got "
                            f"{', '.join(genotype.kinds)}; take a supernet with these kinds.")
    weights = torch.zeros(len(supernet.kinds), len(EDGES), len(supernet.primitives))
    for rows, kind in zip(weights, supernet.kinds, strict=True):
        cell = genotype.cell(kind)
        _check(supernet, kind, cell)
        for operation, source, target in cell.incoming():
            if operation != NONE:
                rows[EDGES.index((source, target)), supernet.primitives.index(operation)] += 1
    return weights


def _check(supernet: Supernet, kind: str, cell: Cell) -> None:
    others = {operation for operation, _ in cell.edges} - {*supernet.primitives, NONE}
    if cell.nodes != NODES or len(cell.concat) != NODES or others:
        raise GenotypeError(f"A {kind} cell of a supernet must have {NODES} nodes, all in its output, and operations of "
                            f"{', '.join(supernet.primitives)}; got {cell.nodes} nodes, {len(cell.concat)} in its output, "
                            f"and {', '.join(sorted(others)) or 'no other operation'}; train this genotype as a network instead.")
