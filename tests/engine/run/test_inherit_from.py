"""Random search with the setting inherit_from: what it measures and records, how it resumes, and what it refuses."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import requests
from engine.architecture.genotype import Genotype
from engine.data.augmentation import generator_for
from engine.data.catalogue import DATASETS
from engine.data.dataset import ChannelStatistics
from engine.data.loading import channel_statistics, load_split
from engine.data.splits import splits_of
from engine.errors import CheckpointError, ConfigError, RunError, StopRequested
from engine.files import atomic_write_json
from engine.log import RunLog
from engine.run import admission, checkpoint
from engine.run.folder import RunFolder, read_json
from engine.run.state import compute
from engine.run.trained_supernet import trained_supernet
from engine.search.inherited import inherited_accuracy
from engine.search.methods.random_search.config import RandomSearchConfig
from tests.engine.run.processes import events_of, processes_of, until_status, until_step, without_supervisor
from tests.engine.run.test_loops import attempt

SMALL: dict[str, Any] = {"images": 30, "steps_per_epoch": None, "ranking_steps": 2, "threads": 1}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("inherit_from") / "runs")


@pytest.fixture(scope="module")
def supernet(runs: Path) -> str:
    """The id of a finished search on a supernet of other size than the candidates."""
    (run_id,) = requests.submit(runs, "search", {"channels": 6, "layers": 5, "normalise": True}, method="arnas", preset="smoke")
    finish(runs, run_id)
    return run_id


@pytest.fixture(scope="module")
def whole(runs: Path, supernet: str) -> str:
    """The id of an uninterrupted random search that inherits from it."""
    return finish(runs, submit(runs, inherit_from=supernet))


def submit(runs: Path, **changes: Any) -> str:
    return requests.submit(runs, "search", SMALL | changes, method="random_search", preset="smoke")[0]


def finish(runs: Path, run_id: str) -> str:
    """Run the first attempt to its end, and record it as the supervisor does."""
    attempt(runs, run_id)
    atomic_write_json(RunFolder(runs, run_id).process_json, {"attempt": 1, "pid": 0})
    atomic_write_json(RunFolder(runs, run_id).exit_json, {"attempt": 1, "status": "finished", "cause": ""})
    return run_id


def candidates_of(runs: Path, run_id: str) -> list[dict[str, Any]]:
    kept = ("candidate", "images", "natural_correct", "adversarial_correct", "inherited_natural_correct",
            "inherited_adversarial_correct", "hash")
    return [{name: event.get(name) for name in kept} for event in events_of(runs, run_id, "candidate")]


def test_every_candidate_is_measured_with_the_final_weights_on_the_select_split(runs: Path, supernet: str, whole: str) -> None:
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    table = log.candidates(whole).set_index("candidate")
    log.close()
    trained = trained_supernet(RunFolder(runs, supernet), CPU)
    assert torch.equal(trained.weights, checkpoint.read(RunFolder(runs, supernet).checkpoint / "last.pt")["method"]["weights"])
    assert trained.supernet.cells[0].channels == 6 and len(trained.supernet.cells) == 5
    config, data = RunFolder(runs, whole).read_run()["config"], DATASETS["digits"]
    images, labels = load_split(data, splits_of(data, 0, 30), "select")
    order = torch.randperm(30, generator=generator_for(config["seed"], "order", "select", 1))
    for event in events_of(runs, whole, "candidate"):
        batches = []
        for position, chosen in enumerate((order[:8], order[8:16], order[16:23], order[23:])):
            x = images[chosen]
            generator = generator_for(config["seed"], "step", 1, position)
            noise = config["epsilon"] * (2 * torch.rand(x.shape, generator=generator) - 1)
            batches.append((x, labels[chosen], noise))
        expected = inherited_accuracy(trained, Genotype.from_dict(event["genotype"]), batches, epsilon=config["epsilon"], steps=2)
        assert (event["inherited_natural_correct"], event["inherited_adversarial_correct"], event["images"]) == (
            expected.natural_correct, expected.adversarial_correct, 30)
        row = table.loc[event["candidate"]]
        assert row["inherited_natural"] == expected.natural_correct / 30
        assert row["inherited_adversarial_low"] <= row["inherited_adversarial"] <= row["inherited_adversarial_high"]
    records: Any = read_json(RunFolder(runs, whole).results / "candidates.json")
    assert all("inherited_natural_correct" in record for record in records["candidates"])
    assert len(read_json(RunFolder(runs, whole).environment_json)["backends"]) == 5  # type: ignore[index]


def test_the_supernet_normalises_as_in_its_search(runs: Path, supernet: str) -> None:
    data = DATASETS["digits"]
    splits = splits_of(data, 0, RunFolder(runs, supernet).read_run()["config"]["images"])
    expected = channel_statistics(data, load_split(data, splits, "weights")[0])
    trained = trained_supernet(RunFolder(runs, supernet), CPU).supernet
    assert ChannelStatistics(tuple(trained.mean), tuple(trained.std)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("stop_at", [40, 66, 90])
def test_stopped_anywhere_and_resumed_equals_uninterrupted(runs: Path, supernet: str, whole: str, stop_at: int) -> None:
    run_id = submit(runs, inherit_from=supernet)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, stop_at=stop_at)
    attempt(runs, run_id, 2)
    assert candidates_of(runs, run_id) == candidates_of(runs, whole)
    assert not events_of(runs, run_id, "alert")


def test_without_the_setting_the_fields_are_absent_and_the_log_has_nothing(runs: Path) -> None:
    run_id = submit(runs)
    attempt(runs, run_id)
    assert not any(name.startswith("inherited") for event in events_of(runs, run_id, "candidate") for name in event)
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    assert log.candidates(run_id)[["inherited_natural", "inherited_adversarial_low"]].isna().all().all()
    log.close()


def test_what_cannot_supply_weights_is_refused_in_a_sentence(runs: Path, supernet: str, whole: str) -> None:
    def refusal(run_id: str, **changes: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            submit(runs, inherit_from=run_id, **changes)
        assert list(caught.value.problems) == ["inherit_from"]
        return caught.value.problems["inherit_from"]

    with pytest.raises(RunError, match="There is no run"):
        submit(runs, inherit_from="20261126-0000-arnas-digits-0000")
    assert "has no supernet" in refusal(whole)
    (waiting,) = requests.submit(runs, "search", {}, method="arnas", preset="smoke")
    assert "has not finished; wait for it" in refusal(waiting)
    (retrained,) = requests.submit(runs, "retrain", {"genotype": "ARNAS"}, preset="smoke")
    assert f"got {retrained}, a retrain run; name a search" in refusal(retrained)
    assert "placement accurate_first instead of robust_first" in refusal(supernet, placement="robust_first")
    assert "width_ratio 1:2:2 instead of 1:2:4" in refusal(supernet, width_ratio="1:2:4")
    assert "trained on the images of the select split; set split_seed to 0" in refusal(supernet, split_seed=1)
    with pytest.raises(ConfigError, match="which has the dataset digits instead of svhn"):
        admission.check_inherited(runs, RandomSearchConfig(dataset="svhn", inherit_from=supernet))
    folder = RunFolder(runs, supernet)
    assert compute(folder).status == "finished"
    (folder.checkpoint / "last.pt").rename(folder.checkpoint / "hidden.pt")
    try:
        assert "checkpoint is missing" in refusal(supernet)
    finally:
        (folder.checkpoint / "hidden.pt").rename(folder.checkpoint / "last.pt")


def test_a_supernet_that_was_damaged_after_the_launch_is_reported(runs: Path, supernet: str, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / supernet
    shutil.copytree(runs / supernet, copy)
    state = checkpoint.read(copy / "checkpoint" / "last.pt")
    for broken, words in ((state | {"method": {}}, "layout"), ({}, "must hold the search")):
        checkpoint.write(copy / "checkpoint" / "last.pt", broken)
        with pytest.raises(CheckpointError, match=words):
            trained_supernet(RunFolder(copy.parent, supernet), CPU)


@pytest.mark.slow
def test_a_killed_search_resumes_to_equal_counts(runs: Path, supernet: str, whole: str, tmp_path: Path) -> None:
    """A worker is killed in the middle of a measurement with inherited weights."""
    folder = tmp_path / "runs"
    shutil.copytree(runs / supernet, folder / supernet)
    with processes_of(folder):
        run_id = submit(folder, inherit_from=supernet)
        until_step(folder, run_id, 6)
        os.kill(requests.status(folder, run_id).pid, signal.SIGKILL)
        until_status(folder, run_id, "failed")
        requests.resume(folder, run_id)
        until_status(folder, run_id, "finished")
        assert candidates_of(folder, run_id) == candidates_of(runs, whole)
