"""Retrainings with several real processes: equal to one process up to rounding, and nothing is left when one of them dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from engine import requests
from engine.config import RetrainConfig
from engine.errors import ConfigError
from engine.run import checkpoint
from engine.run.folder import RunFolder, read_json
from tests.engine.run.processes import events_of, processes_of, until, until_status, until_step, without_supervisor
from tests.engine.run.test_loops import attempt

# Long enough to be interrupted in the middle. The small steps keep what rounding changes small.
CHANGES: dict[str, Any] = {"genotype": "ARNAS", "epochs": 3, "steps_per_epoch": 4, "threads": 2, "learning_rate": 0.001,
                           "training": "natural", "channels": 2, "layers": 3}


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(tmp_path / "runs") as folder:
        yield folder


def launch(runs: Path, processes: int, **changes: Any) -> RunFolder:
    (run_id,) = requests.submit(runs, "retrain", CHANGES | {"processes": processes} | changes, preset="smoke")
    return RunFolder(runs, run_id)


def group_of(folder: RunFolder) -> tuple[psutil.Process, list[psutil.Process]]:
    """Return the worker of a run, and the other processes that compute it, without those that only look something up."""
    worker = psutil.Process(int((read_json(folder.process_json) or {})["pid"]))
    return worker, [child for child in worker.children() if "engine.run.peer" in (child.as_dict(["cmdline"])["cmdline"] or ())]


def finish(folder: RunFolder, processes: int | None = None) -> None:
    """Resume a run with a number of processes, or with that of its settings, and wait until it has finished."""
    requests.resume(folder.runs, folder.id, processes)
    until_status(folder.runs, folder.id, "finished")


def results(folder: RunFolder) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Return the weights of a finished run, and its measurements without their times."""
    metrics = [{"step": event["step"], "split": event["split"],
                "values": {name: value for name, value in event["values"].items() if name != "images_per_s"}}
               for event in events_of(folder.runs, folder.id, "metric")]
    return checkpoint.read(folder.checkpoint / checkpoint.LAST)["training"]["network"], metrics


def largest_difference(one: RunFolder, other: RunFolder) -> float:
    (weights, metrics), (theirs, their_metrics) = results(one), results(other)
    assert [(event["step"], event["split"]) for event in metrics] == [(event["step"], event["split"]) for event in their_metrics]
    return max(float((weights[name] - theirs[name]).abs().max()) for name in weights if weights[name].is_floating_point())


def test_two_processes_lose_one_stop_and_go_on_as_one_and_as_two_and_equal_one(runs: Path) -> None:
    """Theorem: whichever number of processes computes which steps, the weights are those of one process, up to rounding."""
    folder = launch(runs, 2)
    until_step(runs, folder.id, 2)
    worker, (peer,) = group_of(folder)
    addresses = {link.laddr.ip for process in (worker, peer) for link in process.net_connections() if link.laddr}
    assert addresses == {"127.0.0.1"}
    os.kill(peer.pid, signal.SIGKILL)
    state = until_status(runs, folder.id, "failed")
    assert state.cause.startswith("Process 2 of 2 was killed by signal 9 (SIGKILL; ")
    assert state.cause.endswith("Resume the run to continue from the last checkpoint.")
    until(lambda: not worker.is_running(), "the worker has left")

    requests.resume(runs, folder.id, 1)
    until(lambda: (read_json(folder.process_json) or {}).get("attempt") == 2, "attempt 2")
    until(lambda: any(event["step"] > 4 for event in events_of(runs, folder.id, "metric")), "step 5 with one process")
    requests.request_stop(runs, folder.id)
    until_status(runs, folder.id, "stopped")
    warning = "; ".join(event["text"] for event in events_of(runs, folder.id, "alert"))
    assert "processes: 2 then, 1 now" in warning

    finish(folder)
    assert (read_json(folder.process_json) or {})["processes"] == 2
    alone = launch(without_supervisor(runs.parent / "alone"), 1)
    attempt(alone.runs, alone.id)
    assert 0 < largest_difference(alone, folder) < 1e-3


@pytest.mark.slow
def test_no_process_outlives_a_killed_worker(runs: Path) -> None:
    folder = launch(runs, 2)
    until_step(runs, folder.id, 1)
    worker, (peer,) = group_of(folder)
    os.kill(worker.pid, signal.SIGKILL)  # the peer is not in the way of the signal
    until(lambda: not peer.is_running() or peer.status() == psutil.STATUS_ZOMBIE, "the peer has ended")
    assert until_status(runs, folder.id, "failed").can_resume


@pytest.mark.slow
@pytest.mark.parametrize("training", ["pgd_at", "fast_at"])
def test_a_stopped_and_resumed_run_of_two_processes_equals_an_uninterrupted_one_bit_for_bit(runs: Path, training: str) -> None:
    whole, folder = launch(runs, 2, training=training, average_decay=0.9), launch(runs, 2, training=training, average_decay=0.9)
    until_step(runs, folder.id, 5)
    _, peers = group_of(folder)
    requests.request_stop(runs, folder.id)
    until_status(runs, folder.id, "stopped")
    assert not any(peer.is_running() for peer in peers)
    finish(folder)
    until_status(runs, whole.id, "finished")
    assert results(whole)[1] == results(folder)[1]
    assert largest_difference(whole, folder) == 0


@pytest.mark.slow
def test_a_forced_stop_leaves_no_process(runs: Path) -> None:
    folder = launch(runs, 2)
    until_step(runs, folder.id, 1)
    worker, (peer,) = group_of(folder)
    requests.force_stop(runs, folder.id)
    until_status(runs, folder.id, "stopped")
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in (worker, peer)), "both have ended")


@pytest.mark.parametrize("changes, expected", [
    ({"processes": 3}, r"batch_size must be a multiple of the 3 processes .* got 32; use 33"),
    ({"processes": 32, "batch_size": 32}, r"at least twice as large, got 32; use 64"),
    ({"processes": 2, "threads": 3}, r"threads must be a multiple of the 2 processes, which share them, got 3; use 4"),
    ({"processes": 2, "device": "cuda:1"}, r"device must be auto, cuda or cpu with 2 processes, .* got cuda:1; use cuda"),
])
def test_processes_that_cannot_share_a_batch_are_refused(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        requests.submit(tmp_path, "retrain", {"genotype": "ARNAS", "batch_size": 32} | changes, preset="smoke")
    assert not list(tmp_path.glob("*/run.json"))


def test_the_number_of_processes_shows_in_the_name_only_where_it_changes_the_mathematics() -> None:
    several = RetrainConfig(processes=2, auxiliary_weight=0.0)
    assert several.deviations() == [] and RetrainConfig().inert() >= {"batch_norm"}
    own = RetrainConfig(processes=2, auxiliary_weight=0.0, batch_norm="per_process")
    assert own.deviations() == ["BatchNorm of 2 processes"] and "batch_norm" not in own.inert()
