"""The vote map: counts by hand, bounds of the agreement, and chance against random architectures of the space."""

from __future__ import annotations

import pytest
import torch

from engine.architecture.genotype import EDGES, KINDS_OF_ARNAS, KINDS_OF_DARTS, Cell, Genotype
from engine.search.methods.random_search.sampling import random_genotype
from engine.study.votes import vote_map


def tiny(first: tuple[tuple[str, int], ...], second: tuple[tuple[str, int], ...]) -> Genotype:
    """Return a genotype with one node in the normal cell and one in the reduction cell."""
    return Genotype((("normal", Cell(first, (2,))), ("reduce", Cell(second, (2,)))))


def test_votes_by_hand() -> None:
    """Three genotypes: two agree on one edge, all agree on the other, and an input used twice leaves the other edge empty."""
    skip, pool = ("skip_connect", 0), ("max_pool_3x3", 1)
    genotypes = [tiny((skip, pool), (skip, pool)), tiny((skip, pool), (skip, pool)),
                 tiny((("sep_conv_3x3", 0), pool), (skip, ("sep_conv_3x3", 0)))]
    normal, reduce = vote_map(genotypes)["normal"], vote_map(genotypes)["reduce"]
    assert normal.votes == {(0, 2): {"skip_connect": 2, "sep_conv_3x3": 1}, (1, 2): {"max_pool_3x3": 3}}
    assert normal.agreement == pytest.approx((1 / 3 + 1) / 2)
    assert reduce.votes == {(0, 2): {"skip_connect": 3, "sep_conv_3x3": 1}, (1, 2): {"max_pool_3x3": 2, "none": 1}}
    assert reduce.agreement == pytest.approx(1 / 3)


def test_equal_genotypes_agree_fully() -> None:
    """Copies of one genotype agree on every edge, whatever the order of their edges; one genotype alone has no agreement."""
    genotype = random_genotype(KINDS_OF_ARNAS, torch.Generator().manual_seed(1))
    turned = Genotype(tuple((kind, Cell((cell.edges[1], cell.edges[0], *cell.edges[2:]), cell.concat))
                            for kind, cell in genotype.cells))
    for cell in vote_map([genotype, turned, genotype]).values():
        assert cell.agreement == cell.beyond_chance == 1 and set(cell.votes) == set(EDGES)
        assert all(sum(on_edge.values()) == 3 for on_edge in cell.votes.values())
    assert all(cell.agreement is None and cell.beyond_chance is None for cell in vote_map([genotype]).values())


def test_random_architectures_agree_by_chance() -> None:
    """The agreement of 300 random architectures is the stated chance."""
    generator = torch.Generator().manual_seed(2)
    for cell in vote_map([random_genotype(KINDS_OF_DARTS, generator) for _ in range(300)]).values():
        assert cell.agreement == pytest.approx(cell.chance, abs=0.005)
        assert cell.beyond_chance == pytest.approx(0, abs=0.01)


def test_votes_need_one_space() -> None:
    """Genotypes of different spaces, or none, are refused."""
    generator = torch.Generator().manual_seed(3)
    with pytest.raises(ValueError, match="same cell kinds"):
        vote_map([random_genotype(KINDS_OF_ARNAS, generator), random_genotype(KINDS_OF_DARTS, generator)])
    with pytest.raises(ValueError, match="no genotype"):
        vote_map([])
