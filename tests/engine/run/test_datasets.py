"""A missing dataset is refused with the command to get it; a whole chain runs on an installed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import requests
from engine.data.catalogue import DATASETS
from engine.data.fetching import fetch
from engine.data.prepared import prepared_place
from engine.errors import ConfigError, DataError, RunError, StopRequested
from engine.run import environment
from engine.run.folder import read_json, run_ids
from tests.engine.data.test_folders import painted
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt

FOUR = {"ash": (90, 80, 70), "birch": (240, 240, 240), "cedar": (20, 90, 30), "dogwood": (230, 120, 150)}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAMPART_DATA", str(tmp_path / "data"))
    return without_supervisor(tmp_path / "runs")


def test_a_dataset_that_is_not_there_is_refused_at_the_door(runs: Path) -> None:
    with pytest.raises(DataError, match=r"CIFAR-10 must be prepared .*rampart dataset fetch cifar10` \(170 MB"):
        requests.submit(runs, "search", {"dataset": "cifar10"}, method="arnas", preset="smoke", then=("retrain", "attack"))
    assert not run_ids(runs)


def test_a_chain_runs_on_an_image_folder(runs: Path, tmp_path: Path) -> None:
    fetch("trees", source=painted(tmp_path / "pictures", 60, FOUR), side=8)
    asked = {"dataset": "trees", "images": 24, "batch_size": 8}
    ids = requests.submit(runs, "search", asked, method="arnas", preset="smoke", then=("retrain", "attack"),
                          then_changes={kind: {"images": 24, "batch_size": 8} for kind in ("retrain", "attack")})
    for run_id in ids:
        session = attempt(runs, run_id)
        assert read_json(session.folder.environment_json)["data_hash"] == environment.data_hash(DATASETS["trees"])
    natural = events_of(runs, ids[2], "attack")[0]
    assert natural["attack"] == "natural" and natural["images"] == 24


def test_a_dataset_that_went_away_is_a_sentence_in_the_run(runs: Path, tmp_path: Path) -> None:
    fetch("trees", source=painted(tmp_path / "pictures", 60, FOUR), side=8)
    asked = {"dataset": "trees", "images": 24, "batch_size": 8}
    (run_id,) = requests.submit(runs, "search", asked, method="arnas", preset="smoke")
    for path in prepared_place("trees").glob("images-*"):
        path.unlink()
    with pytest.raises(Exception, match="There is no dataset 'trees'"):
        attempt(runs, run_id)


OOD = {"added_objectives": ("out_of_distribution",)}


@pytest.mark.parametrize(("changes", "refusal"), [
    ({"second_dataset": "digits"}, "second_dataset must differ from dataset, .* got 'digits' for both"),
    ({"second_dataset": "photograph"}, "There is no dataset 'photograph'.*Did you mean 'photographs'"),
    ({"added_objectives": ("uniformity",)}, "added_objectives must be 'out_of_distribution'"),
    ({"added_objectives": ("out_of_distribution",) * 2}, "must name each objective only once"),
    (OOD | {"images": None, "batch_size": 400}, "batch_size must be at most 354, .* alphas splits of Photographs together"),
    (OOD | {"second_dataset": "svhn"}, "SVHN must be prepared .*rampart dataset fetch svhn"),
])
def test_a_second_dataset_is_checked_at_the_door(runs: Path, changes: dict[str, object], refusal: str) -> None:
    with pytest.raises((ConfigError, DataError), match=refusal):
        requests.submit(runs, "search", changes, method="arnas", preset="smoke")
    assert not run_ids(runs)


def test_a_second_dataset_that_nothing_reads_is_neither_needed_nor_recorded(runs: Path) -> None:
    (run_id,) = requests.submit(runs, "search", {"second_dataset": "svhn"}, method="arnas", preset="smoke")
    session = attempt(runs, run_id)
    assert not [name for name in read_json(session.folder.environment_json) if name.startswith("second")]


def test_an_image_folder_is_a_second_dataset_and_must_stay_the_same(runs: Path, tmp_path: Path) -> None:
    fetch("trees", source=painted(tmp_path / "pictures", 60, FOUR), side=12)
    (run_id,) = requests.submit(runs, "search", OOD | {"second_dataset": "trees", "epochs": 2}, method="arnas", preset="smoke")
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 40)
    recorded = read_json(runs / run_id / "environment.json")
    assert recorded["second_dataset"] == "trees" and recorded["second_data_hash"] == environment.data_hash(DATASETS["trees"])
    assert "plus out-of-distribution KL on trees" in read_json(runs / run_id / "run.json")["title"]
    fetch("trees", source=painted(tmp_path / "others", 60, {name: (0, 0, i) for i, name in enumerate(FOUR)}), side=12)
    with pytest.raises(RunError, match="The images of trees must be those of the run's first start"):
        attempt(runs, run_id, 2)
