"""Random genotypes for the tests of cost and network."""

from __future__ import annotations

import random

from engine.architecture.genotype import KINDS_OF_ARNAS, OPERATIONS, Cell, Genotype


def random_genotype(seed: int, kinds: tuple[str, ...] = KINDS_OF_ARNAS, nodes: int = 4) -> Genotype:
    """Return a genotype with any operations (including none, 7x7 and 7x1-1x7), inputs and concatenation."""
    rng = random.Random(seed)
    cells = []
    for kind in kinds:
        edges = tuple((rng.choice(OPERATIONS), rng.randrange(node)) for node in range(2, 2 + nodes) for _ in range(2))
        concat = tuple(sorted(rng.sample(range(2, 2 + nodes), rng.randint(1, nodes))))
        cells.append((kind, Cell(edges, concat)))
    return Genotype(tuple(cells))
