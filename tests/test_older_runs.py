"""Runs of the version of November 2026 still open: the run log, every page, export, a new attack, and a resumed search."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app import session
from engine import requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.network import DerivedNetwork
from engine.errors import ConfigError
from engine.exchange import source, writing
from engine.log import RunLog
from engine.run.attacked_network import network_of
from engine.run.folder import RunFolder, read_json
from tests.app.pages import open_page, text_of
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt

FOLDERS = Path(__file__).parent / "data" / "older_runs"
RETRAINED, STOPPED = "20261126-0058-retrain-digits-97fe", "20261126-0238-arnas-digits-109a"
# What that version's own listing said: title, status, natural and adversarial accuracy in per cent.
LISTED = {
    "20261126-0238-arnas-digits-109a": ("ARNAS", "stopped", 0.0, 0.0),
    "20261126-0238-imported-c379": ("An imported genotype, imported", "finished", None, None),
    "20261126-0059-retrain-digits-fd4d": ("ARNAS, accurate as robust", "finished", 9.4, 9.4),
    "20261126-0058-attack-digits-1581": ("PreActResNet-18", "finished", 7.8, 0.0),
    "20261126-0058-retrain-digits-e1b4": ("PreActResNet-18", "finished", 7.8, 0.0),
    "20261126-0058-e2rnas2021-digits-1aec": ("E2RNAS (2021)", "finished", 25.0, 25.0),
    "20261126-0058-random-search-digits-bf65": ("Random search", "finished", 12.5, 12.5),
    "20261126-0058-attack-digits-25ca": ("ARNAS", "finished", 9.4, 9.4),
    "20261126-0058-retrain-digits-97fe": ("ARNAS", "finished", 9.4, 9.4),
    "20261126-0058-arnas-digits-304f": ("ARNAS", "finished", 18.8, 6.2),
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    shutil.copytree(FOLDERS, tmp_path / "runs", ignore=shutil.ignore_patterns("README.md"))
    return without_supervisor(tmp_path / "runs")


@pytest.fixture
def dashboard(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RAMPART_RUNS", str(runs))
    yield runs
    session.close()


def test_the_run_log_lists_them_as_their_own_version_did(runs: Path) -> None:
    log = RunLog.open(runs, in_memory=True)
    try:
        report = log.ingest()
        table = log.runs().set_index("id")
        differences = log.run(RETRAINED)["differences"]
    finally:
        log.close()
    assert (report.runs, report.faults) == (10, 0)
    assert set(table.index) == set(LISTED)
    for run, (title, status, *accuracies) in LISTED.items():
        row = table.loc[run]
        assert (row["title"], row["status"]) == (title, status)
        for value, percent in zip((row["natural_accuracy"], row["adversarial_accuracy"]), accuracies):
            assert math.isnan(value) if percent is None else 100 * value == pytest.approx(percent, abs=0.06)
    assert not {"split_seed", "seed"} & {one.field for one in differences}, "an old run's split is no difference from the paper"


def test_every_page_shows_them(dashboard: Path) -> None:
    for page in ("launch", "runs", "pareto", "robustness"):
        assert not open_page(page).exception, page
    for run, (title, *_) in LISTED.items():
        page = open_page("run", id=run)
        assert not page.exception, run
        assert title.split(",")[0] in text_of(page)


def test_a_retrained_network_is_found_and_exported(runs: Path, tmp_path: Path) -> None:
    network, module, weights = network_of(RunFolder(runs, RETRAINED))
    assert isinstance(network, DerivedNetwork)
    assert sum(parameter.numel() for parameter in module.parameters()) == network.cost().parameters
    assert source.find(RETRAINED, runs).network == network
    (path, *_) = writing.write(source.find(RETRAINED, runs), "genotype", tmp_path / "genotype.json")
    assert find_genotype(path.read_text()) == network.genotype
    assert all(torch.isfinite(tensor).all() for tensor in weights.values() if tensor.is_floating_point())


def test_a_new_attack_on_an_old_network_keeps_the_splits_it_was_trained_on(runs: Path) -> None:
    (attack,) = requests.submit(runs, "attack", {"attacks": ["fgsm"]}, preset="smoke", parent=RETRAINED)
    attempt(runs, attack)
    hashes = [read_json(RunFolder(runs, run).environment_json)["split_hash"] for run in (RETRAINED, attack)]
    assert hashes[0] == hashes[1]
    assert [event["attack"] for event in events_of(runs, attack, "attack")][:2] == ["natural", "fgsm"]
    with pytest.raises(ConfigError, match="split_seed must be 2"):
        requests.submit(runs, "attack", {"split_seed": 7}, preset="smoke", parent=RETRAINED)


def test_a_stopped_search_goes_on_from_its_checkpoint_to_the_end(runs: Path) -> None:
    before = len(events_of(runs, STOPPED, "metric"))
    requests.resume(runs, STOPPED)
    attempt(runs, STOPPED, number=2)
    assert len(events_of(runs, STOPPED, "metric")) > before
    assert (RunFolder(runs, STOPPED).results / "genotype.json").exists()
    assert not [event["text"] for event in events_of(runs, STOPPED, "alert") if event["level"] == "error"]
