"""Genotypes by epoch: planted changes are found in their cell, node and epoch, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import PRIMITIVES, Cell, Genotype
from engine.insight.genotype import NodeChange, changes_between, moments
from engine.log import RunLog
from tests.engine.insight.planted import SEARCH, alphas_of, write_search
from tests.sample_runs import write_resumed_retrain


def test_a_planted_change_is_found_in_its_node_and_stability_counts_from_it(read: Callable[[], RunLog], tmp_path: Path) -> None:
    before, after = alphas_of(), alphas_of()
    after["robust"][1, PRIMITIVES.index("skip_connect")] = 3.0  # the edge from input 1 into the first node
    write_search(tmp_path, [before, before, after, after, after])
    found = moments(read(), SEARCH)
    assert [one.epoch for one in found] == [0, 1, 2, 3, 4]
    change, = found[2].changes
    assert change == NodeChange("robust", 0, (("sep_conv_5x5", 1),), (("skip_connect", 1),))
    assert not any(one.changes for one in found if one.epoch != 2)
    edge, = found[2].changed_edges("robust")
    assert found[2].genotype.cell("robust").edges[edge] == ("skip_connect", 1) and found[2].changed_edges("reduce") == []
    assert found[-1].stable_for == {"robust": 2, "reduce": 4, "accurate": 4} and found[-1].all_stable_for == 2


def cell_with(*edges: tuple[str, int]) -> Genotype:
    return Genotype((("normal", Cell(edges, (2,))), ("reduce", Cell((("skip_connect", 0), ("skip_connect", 1)), (2,)))))


def test_the_order_of_the_edges_of_a_node_is_no_change() -> None:
    first = cell_with(("sep_conv_3x3", 0), ("skip_connect", 1))
    second = cell_with(("skip_connect", 1), ("sep_conv_3x3", 0))
    assert first.hash != second.hash and changes_between(first, second) == ()


def test_a_second_edge_of_the_same_kind_is_a_change() -> None:
    first = cell_with(("sep_conv_3x3", 0), ("skip_connect", 1))
    second = cell_with(("skip_connect", 1), ("skip_connect", 1))
    assert changes_between(first, second) == (NodeChange("normal", 0, (("sep_conv_3x3", 0),), (("skip_connect", 1),)),)


@pytest.mark.parametrize("name", ["ARNAS", "DARTS_V2", "PC_DARTS_CIFAR"])
def test_a_genotype_does_not_differ_from_itself(name: str) -> None:
    genotype = CATALOG[name].genotype
    assert genotype is not None and changes_between(genotype, genotype) == ()


def test_a_run_without_genotypes_has_no_moments(read: Callable[[], RunLog], tmp_path: Path) -> None:
    run = write_resumed_retrain(tmp_path)
    assert moments(read(), run) == []
