"""The images of a run's first batch: what is stored, that nothing of the run changes, and that the reader finds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine import requests
from engine.data.catalogue import DATASETS
from engine.data.loading import load_split
from engine.data.splits import splits_of
from engine.errors import StopRequested
from engine.report.samples import Samples, read_samples
from engine.run import first_batch, loop_search
from engine.run.folder import RunFolder
from engine.run.preparation import prepare
from engine.run.session import Session
from tests.engine.run.processes import without_supervisor
from tests.engine.run.test_loops import attempt


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("first_batch") / "runs")


@pytest.fixture(scope="module")
def chain(runs: Path) -> dict[str, str]:
    ids = {"search": requests.submit(runs, "search", {}, method="arnas", preset="smoke")[0]}
    attempt(runs, ids["search"])
    ids["retrain"] = requests.submit(runs, "retrain", {"genotype": "ARNAS"}, preset="smoke")[0]
    attempt(runs, ids["retrain"])
    return ids


def stored(runs: Path, run: str) -> Samples:
    return read_samples(RunFolder(runs, run).results / "samples.parquet")


@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_a_run_stores_its_first_images_with_predictions(runs: Path, chain: dict[str, str], kind: str) -> None:
    run = RunFolder(runs, chain[kind]).read_run()
    found, config = stored(runs, chain[kind]), run["config"]
    count = min(first_batch.MOST_IMAGES, config["batch_size"])
    assert len(found.images) == count == len(found.labels) and list(found.pixels) == ["natural", "training"]
    dataset = DATASETS["digits"]
    images, labels = load_split(dataset, splits_of(dataset, config["split_seed"], config["images"]), ("weights", "alphas"))
    numbers = splits_of(dataset, config["split_seed"], config["images"]).indices("weights", "alphas").tolist()
    places = torch.tensor([numbers.index(image) for image in found.images])
    assert np.array_equal(found.pixels["natural"], images[places].numpy()) and list(found.labels) == labels[places].tolist()
    change = np.abs(found.pixels["training"] - found.pixels["natural"]).max()
    assert 0 < change <= config["epsilon"] + 1e-6 and found.attack.startswith("PGD-")
    assert {name: len(one) for name, one in found.predictions.items()} == {"natural": count, "training": count}
    assert all(0 < value <= 1 for values in found.confidences.values() for value in values) and found.step > 1


def test_a_method_without_an_attack_stores_natural_images_and_one_without_a_supernet_none(runs: Path) -> None:
    darts, sampled = (requests.submit(runs, "search", {}, method=name, preset="smoke")[0] for name in ("darts", "random_search"))
    attempt(runs, darts)
    attempt(runs, sampled)
    found = stored(runs, darts)
    assert list(found.pixels) == ["natural"] and found.attack == "" and len(found.predictions["natural"]) == len(found.images)
    assert not (RunFolder(runs, sampled).results / "samples.parquet").exists()


def test_writing_the_images_changes_nothing_of_the_run_and_heeds_a_stop(runs: Path) -> None:
    run_id, = requests.submit(runs, "search", {}, method="arnas", preset="smoke")
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    session = Session(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.open_events()
    loop = loop_search.SearchLoop(session, prepare(session))
    before = {name: value.clone() if isinstance(value, torch.Tensor) else value
              for name, value in loop.method.state_dict().items()}
    state, passes = torch.get_rng_state(), session.passes
    loop.first_batch.of_search(loop.method, 0)
    after = loop.method.state_dict()
    assert all(torch.equal(after[name], value) if isinstance(value, torch.Tensor) else after[name] == value
               for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), state) and session.passes == passes
    assert stored(runs, run_id).step == 0
    folder.request("stop").touch()
    with pytest.raises(StopRequested):
        loop.first_batch.of_search(loop.method, 0)
    session.close()
