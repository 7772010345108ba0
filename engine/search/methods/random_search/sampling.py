"""Random architectures, drawn uniformly from the search space of DARTS (Liu, Simonyan and Yang 2019, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.architecture.genotype import NODES, PRIMITIVES, Cell, Genotype


def random_genotype(kinds: Sequence[str], generator: torch.Generator) -> Genotype:
    """Draw one of the (1 x 3 x 6 x 10 x 7^8)^k architectures with k cell kinds, all equally likely.

    Every node gets two different inputs, and for each input an operation of `PRIMITIVES` other than "none". The edges of a node
    are sorted by input, so that each architecture has only one representation.

    Args:
        kinds: cell kinds, in the order in which their cells are drawn.
        generator: random number generator on the CPU.
    """
    return Genotype(tuple((kind, _random_cell(generator)) for kind in kinds))


def _random_cell(generator: torch.Generator) -> Cell:
    edges: list[tuple[str, int]] = []
    for node in range(2, 2 + NODES):
        inputs = sorted(torch.randperm(node, generator=generator)[:2].tolist())
        operations = torch.randint(len(PRIMITIVES), (2,), generator=generator).tolist()
        edges += [(PRIMITIVES[operation], state) for operation, state in zip(operations, inputs, strict=True)]
    return Cell(tuple(edges), tuple(range(2, 2 + NODES)))
