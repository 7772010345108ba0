"""The canonical form: equal for the same network under other names of edges and nodes, and for nothing else."""

from __future__ import annotations

import random

import pytest

from engine.architecture.canonical import canonical
from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.cost import cost
from engine.architecture.genotype import KINDS_OF_ARNAS, Cell, Genotype
from engine.architecture.swaps import Swap, read_swap, swapped
from engine.errors import ConfigError, GenotypeError
from tests.engine.architectures import random_genotype


def renamed(genotype: Genotype, rng: random.Random) -> Genotype:
    """Return the same network: the nodes numbered in another order that the inputs allow, and the edges of nodes exchanged."""
    cells = []
    for kind, cell in genotype.cells:
        number, order, left = {0: 0, 1: 1}, [], set(range(2, 2 + cell.nodes))
        while left:
            ready = [one for one in sorted(left) if all(state in number for _, state in cell.edges[2 * one - 4:2 * one - 2])]
            node = rng.choice(ready)
            number[node] = 2 + len(order)
            order.append(node)
            left.remove(node)
        edges = []
        for node in order:
            pair = [(operation, number[state]) for operation, state in cell.edges[2 * node - 4:2 * node - 2]]
            edges += rng.sample(pair, 2)
        concat = [number[state] for state in cell.concat]
        rng.shuffle(concat)
        cells.append((kind, Cell(tuple(edges), tuple(concat))))
    return Genotype(tuple(cells))


@pytest.mark.parametrize("seed", range(6))
def test_the_same_network_under_other_names_has_one_canonical_form(seed: int) -> None:
    rng, genotype = random.Random(seed), random_genotype(seed)
    forms = {canonical(renamed(genotype, rng)).hash for _ in range(10)}
    assert forms == {canonical(genotype).hash} and canonical(canonical(genotype)) == canonical(genotype)
    sizes = {"channels": 8, "layers": 5, "classes": 10, "image_shape": (3, 32, 32)}
    assert cost(canonical(genotype), **sizes) == cost(genotype, **sizes)


def test_other_networks_have_other_forms() -> None:
    forms = {canonical(random_genotype(seed)).hash for seed in range(200)}
    assert len(forms) == 200
    arnas = find_genotype("ARNAS")
    changed = [arnas.with_operation(kind, edge, "none") for kind in arnas.kinds for edge in range(8)]
    assert all(canonical(one) != canonical(arnas) for one in changed)


def test_published_genotypes_under_two_names_are_equal() -> None:
    assert canonical(find_genotype("DSARA")).hash == canonical(find_genotype("ARNAS")).hash
    genotypes = [entry.genotype for _, entry in CATALOG.items() if entry.genotype is not None]
    assert len({canonical(one).hash for one in genotypes}) == len(genotypes) - 2  # also E2RNAS_V2_CIFAR10 and E2RNAS_LRNASCOPY


def test_large_cells_take_no_time() -> None:
    edges = tuple(("skip_connect", state) for _ in range(14) for state in (1, 0))
    large = Genotype(tuple((kind, Cell(edges, (2,))) for kind in KINDS_OF_ARNAS))
    assert canonical(large).cell("robust").edges[:2] == (("skip_connect", 0), ("skip_connect", 1))


def test_a_swap_changes_one_operation() -> None:
    genotype = find_genotype("ARNAS")
    changed = swapped(genotype, [read_swap(" robust.3.skip_connect")])
    assert changed.cell("robust").edges[3] == ("skip_connect", genotype.cell("robust").edges[3][1])
    assert swapped(changed, [Swap("robust", 3, genotype.cell("robust").edges[3][0])]) == genotype
    assert str(read_swap("robust.3.skip_connect")) == "robust.3.skip_connect"


@pytest.mark.parametrize(("text", "words"), [
    ("robust.x.none", "must be CELL.EDGE.OPERATION"), ("robust.3", "count edges from 0"), ("robust.8.none", "from 0 to 7, got 8"),
    ("robst.3.none", "Did you mean 'robust'"), ("robust.3.sep_conv", "operation"), ("", "like robust.3.skip_connect")])
def test_swaps_that_do_not_fit_are_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises((ConfigError, GenotypeError), match=words):
        swapped(find_genotype("ARNAS"), [read_swap(text)])
