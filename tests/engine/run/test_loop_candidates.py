"""The loop of a search that trains candidates: their images, and the runs that can follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import requests
from engine.config import RetrainConfig, SearchConfig
from engine.configuring import validate
from engine.data.augmentation import augment, generator_for
from engine.data.catalogue import DATASETS
from engine.data.loading import batches, load_split
from engine.data.splits import splits_of
from engine.run.folder import RunFolder, read_json
from engine.run.lineage import trained_network
from engine.run.loop_search import SearchLoop
from engine.run.preparation import prepare
from engine.run.session import Session
from engine.search.construction import supernet_of
from engine.search.methods.random_search.config import RandomSearchConfig
from engine.search.methods.random_search.method import RandomSearch
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("loop_candidates") / "runs")


@pytest.fixture(scope="module")
def chain(runs: Path) -> list[str]:
    """A finished search, and a retraining and an attack queued after it."""
    asked = {"ranking_steps": 5, "placement": "robust_first", "width_ratio": "1:2:4"}
    ids = requests.submit(runs, "search", asked, method="random_search", preset="smoke", then=("retrain", "attack"))
    attempt(runs, ids[0])
    return ids


def candidates_of(runs: Path, run_id: str) -> dict[int, dict[str, Any]]:
    records: Any = read_json(RunFolder(runs, run_id).results / "candidates.json")["candidates"]  # type: ignore[index]
    assert [record["rank"] for record in records] == [1, 2]
    return {record["candidate"]: record for record in records}


def test_the_second_candidate_meets_the_images_of_the_first_and_is_measured_on_plain_ones(runs: Path, chain: list[str]) -> None:
    run = RunFolder(runs, chain[0]).read_run()
    config = validate(RandomSearchConfig, run["config"])
    assert isinstance(config, SearchConfig) and config.crop_padding and (config.epochs, config.steps_per_epoch) == (4, 2)
    data = DATASETS["digits"]
    splits = splits_of(data, config.split_seed, config.images)
    loaded = {name: load_split(data, splits, name, "cpu") for name in ("weights", "select")}
    supernet = supernet_of("random_search", config, classes=data.classes, image_shape=data.image_shape)
    search = RandomSearch(config, supernet, device="cpu", seed=config.seed)
    for number in (0, 1):
        search.begin_epoch(2 + number)
        orders = {name: list(batches(64, 8, generator_for(config.seed, "order", name, number), 2)) for name in loaded}
        for position in (0, 1):
            given = {name: (images[orders[name][position]], labels[orders[name][position]])
                     for name, (images, labels) in loaded.items()}
            x, y = given["weights"]
            x = augment(x, generator_for(config.seed, "augment", "weights", number, position), config.crop_padding, config.flip)
            search.step((x, y), given["select"], learning_rate=config.weights_learning_rate,
                        generator=generator_for(config.seed, "step", number, position))
        search.end_epoch()
    (ours,), theirs = search.candidates, candidates_of(runs, chain[0])[2]
    for name in ("natural_correct", "adversarial_correct", "images"):
        assert getattr(ours, name) == theirs[name]
    assert ours.genotype.hash == theirs["hash"] and ours.images == 16


def test_every_select_image_is_measured_once_and_none_is_trained_on(runs: Path) -> None:
    """Compares the batches that the loop passes to the method with the splits."""
    asked = {"images": None, "steps_per_epoch": None, "batch_size": 50, "crop_padding": 0, "flip": False}
    (run_id,) = requests.submit(runs, "search", asked, method="random_search", preset="smoke")
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    session = Session(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.open_events()
    loop = SearchLoop(session, prepare(session))
    session.close()
    splits = splits_of("digits", loop.config.split_seed)
    weights, select = (load_split("digits", splits, name)[0][...] for name in ("weights", "select"))
    assert rows(weights).isdisjoint(rows(select))
    for epoch in range(loop.config.epochs):
        steps = range(loop.starts[epoch + 1] - loop.starts[epoch])
        shown = torch.cat([loop._batches(epoch, position)[1][0] for position in steps])
        if epoch % 2 == 0:  # of the two epochs of a candidate the first trains and the second measures
            assert rows(shown) <= rows(weights)
        else:
            assert len(shown) == len(select) and rows(shown) == rows(select)


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_the_split_of_the_measurement_is_recorded(runs: Path, chain: list[str]) -> None:
    assert read_json(RunFolder(runs, chain[0]).results / "candidates.json")["split"] == "select"  # type: ignore[index]


def test_what_is_measured_where_is_told(runs: Path, chain: list[str]) -> None:
    events = events_of(runs, chain[0])
    metrics = [event for event in events if event["event"] == "metric"]
    measured = [event for event in metrics if event["split"] == "select"]
    assert [event["epoch"] for event in measured] == [2, 2, 4, 4]
    assert {event["statistics"] for event in measured} == {"running"}
    assert {event["epoch"] for event in metrics if "train_loss" in event["values"]} == {1, 3}
    assert not [event for event in events if event["event"] in ("alpha", "objectives")]
    told = [event["candidate"] for event in events if event["event"] == "candidate"]
    assert told == [1, 2]
    details = [event["detail"] for event in events if event["event"] == "progress"]
    assert details[1].startswith("Candidate 1 of 2, epoch 1 of 1. ") and details[-1] == "finished"
    environment: Any = read_json(RunFolder(runs, chain[0]).environment_json)
    assert "backends" not in environment


def test_the_best_candidate_is_retrained_and_attacked_and_any_other_can_be(runs: Path, chain: list[str]) -> None:
    for run_id in chain[1:]:
        attempt(runs, run_id)
    records = candidates_of(runs, chain[0])
    best = min(records.values(), key=lambda record: record["rank"])
    network: Any = read_json(RunFolder(runs, chain[1]).results / "network.json")
    assert network["genotype"] == best["genotype"] == read_json(RunFolder(runs, chain[0]).results / "genotype.json")
    attacked = [event["attack"] for event in events_of(runs, chain[2]) if event["event"] == "attack"]
    assert {"natural", "fgsm", "pgd-20"} <= set(attacked)

    other = next(record for record in records.values() if record["rank"] == 2)
    (again,) = requests.submit(runs, "retrain", {"genotype": json.dumps(other["genotype"])}, preset="smoke",
                               parent=chain[0])
    attempt(runs, again)
    title = RunFolder(runs, again).read_run()["title"]
    assert title.startswith("genotype ") and title.endswith(", robust cells first, widths 1:2:4")
    network = read_json(RunFolder(runs, again).results / "network.json")
    assert network["genotype"] == other["genotype"]
    assert (network["placement"], network["width_ratio"]) == ("robust_first", "1:2:4")
    (foreign,) = requests.submit(runs, "retrain", {"genotype": "ARNAS"}, preset="smoke", parent=chain[0])
    config = RetrainConfig(**RunFolder(runs, foreign).read_run()["config"])
    assert RunFolder(runs, foreign).read_run()["title"] == "ARNAS"
    assert trained_network(runs, config, chain[0]).placement == "accurate_first"
    environments: Any = [read_json(RunFolder(runs, one).environment_json) for one in (chain[0], again)]
    assert environments[0]["split_hash"] == environments[1]["split_hash"]
