"""Sweep, transfer and certified bound in the loop of attack runs: events, files, interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from engine import requests
from engine.attack.certification import Certification
from engine.attack.evaluation import Evaluation
from engine.attack.outcomes import CORRECT
from engine.config import AttackConfig
from engine.errors import ConfigError, StopRequested
from engine.files import atomic_write_json
from engine.log import RunLog
from engine.run.folder import RunFolder
from tests.engine.attack.trained import trained
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt, last, submit
from tests.engine.run.test_resume import same

MEASURED = ("sweep", "critical", "certified", "attack")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("after") / "runs")


@pytest.fixture(scope="module")
def networks(runs: Path) -> list[str]:
    """Two retrainings of different seeds."""
    ids = []
    for seed in (1, 2):
        ids.append(submit(runs, "retrain", genotype="ARNAS", seed=seed))
        attempt(runs, ids[-1])
        atomic_write_json(RunFolder(runs, ids[-1]).ended_json, {"attempt": 1, "status": "finished", "cause": ""})
    return ids


def measured(runs: Path, run: str) -> list[dict[str, Any]]:
    dropped = ("t", "attempt", "duration_s", "step")  # an abandoned step counts, but keeps its passes
    return [{name: value for name, value in event.items() if name not in dropped} for event in events_of(runs, run)
            if event["event"] in MEASURED]


@pytest.fixture(scope="module")
def whole(runs: Path, networks: list[str]) -> str:
    """An uninterrupted attack run with all measurements."""
    run = submit(runs, "attack", networks[0], **CHANGES, transfer_from=(networks[1],))
    attempt(runs, run)
    return run


CHANGES: dict[str, Any] = {"attacks": ("fgsm", "apgd-ce"), "sweep_radii": 5, "sweep_images": 40}


def test_an_attack_run_measures_what_its_settings_ask_for(runs: Path, whole: str) -> None:
    """One event per point, one bound, distances of the sweep's images; the bound is at most the accuracy under attack."""
    events = measured(runs, whole)
    count = {kind: sum(event["event"] == kind for event in events) for kind in MEASURED}
    assert count["critical"] == count["certified"] == 1 and count["sweep"] >= 5 + 7 + 3
    assert count["attack"] == 5  # natural, FGSM, APGD-CE, transfer, worst case
    distances = pq.read_table(RunFolder(runs, whole).results / "distances.parquet").to_pydict()
    assert list(distances) == ["image", "label", "distance", "steps"] and len(distances["image"]) == 40
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    assert len(log.sweeps([whole])) == count["sweep"] and len(log.distances(whole)) == 40
    (bound,) = log.certified(whole).itertuples()
    worst = log.attacks(whole).set_index("attack").loc["worst-case"]
    assert bound.correct <= worst["correct"] and bound.images == worst["images"] == 64 and bound.method == "interval bounds"
    (critical,) = log.critical_epsilons(whole).itertuples()
    assert critical.images == 40 and critical.attack == "fmn-40"
    log.close()


@pytest.mark.parametrize("stop_at", [30, 90, 140, 330])
def test_stopped_at_any_pass_equals_uninterrupted(runs: Path, networks: list[str], whole: str, stop_at: int) -> None:
    """In the middle of an attack, of the search for nearest images, of a mark or of the bound: the run ends the same."""
    run = submit(runs, "attack", networks[0], **CHANGES, transfer_from=(networks[1],))
    with pytest.raises(StopRequested):
        attempt(runs, run, 1, stop_at)
    attempt(runs, run, 2)
    assert measured(runs, run) == measured(runs, whole)
    same(last(runs, run)["after"], last(runs, whole)["after"])
    for name in ("distances.parquet", "outcomes.parquet"):
        assert pq.read_table(RunFolder(runs, run).results / name) == pq.read_table(RunFolder(runs, whole).results / name)


def test_a_run_of_a_sweep_alone_is_no_evaluation(runs: Path, networks: list[str]) -> None:
    """It has natural accuracy and a curve, no worst case, and no row in tables of networks; in L2 there is no bound."""
    run = submit(runs, "attack", networks[0], attacks=(), sweep_radii=3, norm="L2", images=16, batch_size=16)
    attempt(runs, run)
    events = measured(runs, run)
    assert [event["attack"] for event in events if event["event"] == "attack"] == ["natural"]
    assert not [event for event in events if event["event"] == "certified"]
    assert {event["norm"] for event in events if event["event"] == "sweep"} == {"L2"}
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    assert run not in set(log.evaluations()["run"])
    log.close()


def test_sources_are_checked_before_a_launch(runs: Path, networks: list[str]) -> None:
    """Each must be another finished retraining on the same dataset, named once."""
    unfinished = submit(runs, "retrain", genotype="ARNAS")
    search = submit(runs, "search")
    for sources, message in (((networks[0],), "other than the attacked one"), ((search,), "retrainings, whose ids"),
                             ((networks[1],) * 2, "only once"), ((unfinished,), "has none yet")):
        with pytest.raises(ConfigError, match=message):
            requests.submit(runs, "attack", {"transfer_from": sources}, preset="smoke", parent=networks[0])
    with pytest.raises(ConfigError, match="at least one attack"):
        submit(runs, "attack", networks[0], attacks=())


def certified_and_worst(network: nn.Module, epsilon: float) -> tuple[int, int]:
    """Return the certified images and those that APGD-T leaves standing."""
    _, x, y = trained()
    config = AttackConfig(attacks=("apgd-t",), epsilon=epsilon, batch_size=32)
    evaluation = Evaluation(config, network, x, y, classes=10, indices=range(len(y)), checkpoint="abc")
    while not evaluation.over:
        evaluation.step()
    bound, events = Certification(evaluation), []
    while not bound.over:
        events += bound.step()
    ((kind, fields),) = events
    assert kind == "certified" and fields["images"] == len(y)
    return fields["correct"], int((evaluation.outcomes["apgd-t"].correct == CORRECT).sum())


def test_bound_and_attack_meet_on_a_linear_network() -> None:
    """Interval bounds are exact there, and so is targeted APGD: both count the same images."""
    torch.manual_seed(0)
    _, x, y = trained()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.05)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    certified, standing = certified_and_worst(network.eval().requires_grad_(False), 0.1)
    assert 0 < certified == standing < len(y)


def test_the_bound_is_below_every_attack_on_a_perceptron() -> None:
    """Certified <= standing, with room between them at a radius at which bounds are loose."""
    network, _, _ = trained()
    relu = nn.Sequential(network[0], nn.ReLU(), network[2], network[3]).eval()
    pairs = [certified_and_worst(relu, epsilon) for epsilon in (1e-6, 0.002, 0.05)]
    assert all(certified <= standing for certified, standing in pairs)
    assert pairs[0][0] == pairs[0][1] > 0 and pairs[1][0] > 0 and pairs[2][0] < pairs[2][1]
