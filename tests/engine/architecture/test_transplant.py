"""Cell transplants: their results, refusals, and a retraining with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import api, requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import KIND_SETS, Genotype
from engine.architecture.transplant import read_grafts, transplant
from engine.config import RetrainConfig
from engine.configuring import build
from engine.errors import ConfigError, GenotypeError, RampartError
from engine.files import atomic_write_json
from engine.run.folder import RunFolder
from engine.run.lineage import genotype_of, trained_genotype
from tests.engine.architectures import random_genotype
from tests.engine.run.processes import without_supervisor

ARNAS, ADVRUSH = find_genotype("ARNAS"), find_genotype("ADVRUSH")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return without_supervisor(tmp_path / "runs")


def grafted(genotype: Genotype, text: str) -> Genotype:
    return transplant(genotype, read_grafts(text))


@pytest.mark.parametrize("kinds", KIND_SETS)
def test_the_laws_of_a_transplant(kinds: tuple[str, ...]) -> None:
    for seed in range(5):
        genotype = random_genotype(seed, kinds)
        for one in kinds:
            for other in set(kinds) - {one}:
                copied = grafted(genotype, f"{one}:{other}")
                assert copied.cell(other) == copied.cell(one) == genotype.cell(one)
                assert all(copied.cell(kind) == genotype.cell(kind) for kind in set(kinds) - {other})
                assert grafted(copied, f"{one}:{other}") == copied
                swapped = grafted(genotype, f"{one}:{other}, {other}:{one}")
                assert (swapped.cell(one), swapped.cell(other)) == (genotype.cell(other), genotype.cell(one))
                assert grafted(swapped, f"{other}:{one},{one}:{other}").hash == genotype.hash
        assert grafted(genotype, "") == genotype
        assert Genotype.from_json(copied.to_json()) == copied


def test_a_cell_of_another_genotype_may_be_of_the_other_family() -> None:
    found = grafted(ARNAS, "ADVRUSH.normal:robust, ADVRUSH.reduce:reduce")
    assert found.cells == (("accurate", ARNAS.cell("accurate")), ("reduce", ADVRUSH.cell("reduce")),
                           ("robust", ADVRUSH.cell("normal")))


@pytest.mark.parametrize(("text", "sentence"), [
    ("accurate", "must be SOURCE:TARGET like accurate:robust .*got 'accurate'"),
    (":robust", "must be SOURCE:TARGET"),
    ("accurate:robust,", "must be SOURCE:TARGET .*got ''"),
    ("acurate:robust", "There is no cell kind 'acurate'.*Did you mean 'accurate'"),
    ("accurate:cell", "There is no cell kind 'cell'"),
    ("robust:robust", "must replace a cell by another one, got 'robust:robust'"),
    ("accurate:robust, reduce:robust", "can replace each cell once, got 2 cells for robust"),
    ("ADVRUSH.robust:robust", "In ADVRUSH: There is no cell kind 'robust'; known are: normal, reduce"),
    ("ADVRUSK.normal:robust", "There is no catalogue genotype 'ADVRUSK'.*Did you mean 'ADVRUSH'"),
])
def test_a_refusal_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build("retrain", changes={"genotype": "ARNAS", "transplant": text})


def test_cells_that_the_genotype_does_not_have_are_refused() -> None:
    for text in ("normal:robust", "accurate:normal"):
        with pytest.raises(GenotypeError, match="There is no cell kind 'normal'; known are: accurate, reduce, robust"):
            grafted(ARNAS, text)


def test_one_cell_everywhere_and_other_forms_of_the_command() -> None:
    everywhere = api.transplant("ARNAS", everywhere="accurate")
    assert everywhere == grafted(ARNAS, "accurate:robust")
    conventional = api.transplant("ARNAS", everywhere="ADVRUSH.normal")
    assert conventional.cell("accurate") == conventional.cell("robust") == ADVRUSH.cell("normal")
    assert conventional.cell("reduce") == ARNAS.cell("reduce")
    assert api.transplant(ARNAS.to_json(), swap=["accurate:robust"]) == grafted(ARNAS, "accurate:robust,robust:accurate")
    assert api.transplant("ARNAS", copy=[f"{ADVRUSH.to_json()}.normal:robust"]) == grafted(ARNAS, "ADVRUSH.normal:robust")
    with pytest.raises(ConfigError, match="needs a cell to move"):
        api.transplant("ARNAS")
    with pytest.raises(ConfigError, match="none that would change 'DARTS_V2'"):
        api.transplant("DARTS_V2", everywhere="normal")


def test_the_name_of_a_retraining_says_what_was_transplanted(runs: Path) -> None:
    ids = requests.submit(runs, "retrain", {"genotype": "ARNAS", "transplant": "accurate:robust", "training": "trades"},
                          preset="smoke", then=("attack",))
    first, second = (RunFolder(runs, run_id).read_run() for run_id in ids)
    assert first["title"] == second["title"] == "ARNAS, accurate as robust, TRADES"
    assert "--transplant accurate:robust" in first["command"]
    assert genotype_of(runs, ids[0]) == genotype_of(runs, ids[1]) == grafted(ARNAS, "accurate:robust")


def test_a_retraining_transplants_cells_of_what_its_parent_found(runs: Path) -> None:
    search, retrain = requests.submit(runs, "search", {}, method="arnas", preset="smoke", then=("retrain",),
                                      then_changes={"retrain": {"transplant": "robust:accurate"}})
    with pytest.raises(RampartError, match="must have results/genotype.json"):
        genotype_of(runs, retrain)
    found = random_genotype(3)
    atomic_write_json(_results(runs, search) / "genotype.json", found.to_dict())
    config = RetrainConfig(**RunFolder(runs, retrain).read_run()["config"])
    assert trained_genotype(runs, config, search) == genotype_of(runs, retrain) == grafted(found, "robust:accurate")
    assert api.transplant(search, copy=["robust:accurate"], runs=runs) == grafted(found, "robust:accurate")
    with pytest.raises(GenotypeError, match="There is no cell kind 'normal'"):
        requests.submit(runs, "retrain", {"transplant": "normal:robust"}, preset="smoke", parent=search)


def _results(runs: Path, run_id: str) -> Path:
    folder = RunFolder(runs, run_id).results
    folder.mkdir()
    return folder
