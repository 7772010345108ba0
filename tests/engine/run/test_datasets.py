"""A dataset at the door and in the loops: absent it is refused with how to get it, present a whole chain runs on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import requests
from engine.data import DATASETS
from engine.data.fetching import fetch
from engine.data.prepared import prepared_place
from engine.errors import DataError
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
    with pytest.raises(DataError, match=r"CIFAR-10 must lie prepared .*python -m engine dataset fetch cifar10` \(170 MB"):
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
