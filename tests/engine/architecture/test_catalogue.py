"""The catalogue of published genotypes: complete, valid, with sources; and how a user's choice is read."""

from __future__ import annotations

import pytest

from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.genotype import PRIMITIVES
from engine.errors import ConfigError, GenotypeError


def test_every_published_genotype_is_there() -> None:
    two_edge = [name for name, entry in CATALOG.items() if entry.genotype]
    assert len(two_edge) == 37
    assert {"ARNAS", "DARTS_V1", "DARTS_V2", "PC_DARTS_CIFAR", "P_DARTS", "NASNet", "AmoebaNet", "ADVRUSH", "RACL",
            "E2RNAS_V2_CIFAR10", "E2RNAS_V1_CIFAR10", "LRNAS_CIFAR10", "RNAS_H", "WSRNET_PLUS", "REP_PGD",
            "TRNAS_C10"} <= set(two_edge)
    assert "CROZE_in_TRNAS" not in CATALOG


@pytest.mark.parametrize("name", list(CATALOG))
def test_every_entry_has_its_source(name: str) -> None:
    entry = CATALOG[name]
    assert entry.name == name
    assert entry.source
    assert (entry.genotype is None) == bool(entry.codes)


def test_no_two_names_stand_for_one_architecture() -> None:
    hashes = [entry.genotype.hash for _, entry in CATALOG.items() if entry.genotype]
    assert len(set(hashes)) == len(hashes)


def test_arnas_has_three_cells_of_its_own_primitives() -> None:
    genotype = find_genotype("ARNAS")
    assert genotype.kinds == ("accurate", "reduce", "robust")
    assert all(operation in PRIMITIVES for _, cell in genotype.cells for operation, _ in cell.edges)


def test_robnet_is_data_in_its_own_format() -> None:
    assert [len(CATALOG[name].codes) for name in ("ROBNET_LARGE_V1", "ROBNET_FREE")] == [1, 20]
    assert all(len(cell) == 14 for cell in CATALOG["ROBNET_FREE"].codes)
    with pytest.raises(GenotypeError, match="two edges per node"):
        find_genotype("ROBNET_FREE")


def test_a_user_gives_a_name_or_json() -> None:
    genotype = find_genotype(" DARTS_V2 ")
    assert find_genotype("\n" + genotype.to_json()) == genotype
    with pytest.raises(ConfigError, match="Did you mean 'DARTS_V2'"):
        find_genotype("DARTS_V3_2")
    with pytest.raises(GenotypeError):
        find_genotype("{")
