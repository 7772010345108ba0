"""The catalogue of published genotypes is complete and valid, with sources; reading of a user's choice."""

from __future__ import annotations

import pytest

from engine.architecture.catalogue import CATALOG, find_genotype, name_of
from engine.architecture.genotype import PRIMITIVES, derive_genotype
from engine.errors import ConfigError, GenotypeError


def test_every_published_genotype_is_there() -> None:
    two_edge = [name for name, entry in CATALOG.items() if entry.genotype]
    assert len(two_edge) == 38
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


def test_only_dsara_has_the_cells_of_another_entry() -> None:
    hashes = {name: entry.genotype.hash for name, entry in CATALOG.items() if entry.genotype}
    assert hashes["DSARA"] == hashes["ARNAS"] and CATALOG["DSARA"].note.startswith("Equal to ARNAS")
    assert len(set(hashes.values())) == len(hashes) - 1


def test_a_genotype_has_its_first_name() -> None:
    assert name_of(find_genotype("DSARA")) == "ARNAS" and name_of(find_genotype("RACL")) == "RACL"
    assert name_of(derive_genotype({kind: [[1.0] * 7] * 14 for kind in ("normal", "reduce")})) is None


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
