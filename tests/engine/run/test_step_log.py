"""A retraining that reads the numbers of its steps late, as on a GPU, records what one that reads every step at once records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import requests
from engine.errors import RunError, StopRequested
from engine.run import checkpoint
from engine.run.folder import RunFolder
from engine.run.loop_retrain import RetrainLoop
from engine.run.preparation import prepare
from engine.run.session import Session
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import StopAt
from tests.engine.run.test_resume import same


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("step_log") / "runs")


def attempt(runs: Path, run_id: str, every_s: float, number: int = 1, stop_at: int | None = None) -> Session:
    """Run one attempt of a retraining that reads its steps every `every_s` seconds."""
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    session = Session(folder, folder.read_run(), attempt=number, device="cpu", threads=1)
    if number == 1:
        session.open_events()
    try:
        loop = RetrainLoop(session, prepare(session))
        if stop_at is not None:
            session.stop = StopAt(stop_at)
        assert loop.log.every_s == 0
        loop.log.every_s = every_s
        loop.run()
    finally:
        session.close()
    return session


def submit(runs: Path, **changes: Any) -> str:
    return requests.submit(runs, "retrain", {"genotype": "ARNAS", "epochs": 2, "steps_per_epoch": 3, **changes},
                           preset="smoke")[0]


def metrics(runs: Path, run_id: str) -> list[tuple[int, int, str, dict[str, float]]]:
    """Return step, epoch, split and values of every metric event without the speed."""
    return [(event["step"], event["epoch"], event["split"],
             {name: value for name, value in event["values"].items() if name != "images_per_s"})
            for event in events_of(runs, run_id, "metric")]


@pytest.mark.parametrize("training", ["pgd_at", "fast_at", "natural"])
def test_steps_that_are_read_late_are_recorded_with_the_same_numbers(runs: Path, training: str) -> None:
    at_once, late = (submit(runs, training=training) for _ in range(2))
    attempt(runs, at_once, 0.0)
    attempt(runs, late, math.inf)
    steps = [event for event in metrics(runs, late) if "train_loss" in event[3]]
    assert [(step, epoch) for step, epoch, *_ in steps] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert sorted(metrics(runs, late), key=str) == sorted(metrics(runs, at_once), key=str)
    same(*(checkpoint.read(RunFolder(runs, run_id).checkpoint / "last.pt")["training"] for run_id in (at_once, late)))


def test_a_stop_writes_the_unread_steps_before_its_checkpoint(runs: Path) -> None:
    whole, cut = (submit(runs) for _ in range(2))
    passes = attempt(runs, whole, 0.0).passes
    with pytest.raises(StopRequested):
        attempt(runs, cut, math.inf, stop_at=passes // 3)
    written = [event for event in metrics(runs, cut) if "train_loss" in event[3]]
    state = checkpoint.read(RunFolder(runs, cut).checkpoint / "last.pt")
    assert state["step"] == len(written) > 0
    assert state["events_bytes"] > RunFolder(runs, cut).events.read_bytes().rindex(b'"train_loss"')
    attempt(runs, cut, math.inf, number=2)
    assert sorted(metrics(runs, cut), key=str) == sorted(metrics(runs, whole), key=str)


def test_a_loss_that_is_not_finite_is_told_with_its_own_step(runs: Path) -> None:
    changes = {"learning_rate": 10.0, "gradient_clip": 1e15, "epochs": 30, "selection_every": 30,
               "training": "natural"}
    at_once, late = (submit(runs, **changes) for _ in range(2))
    told = []
    for run_id, every_s in ((at_once, 0.0), (late, math.inf)):
        with pytest.raises(RunError, match="training loss must be finite") as raised:
            attempt(runs, run_id, every_s)
        told.append(str(raised.value))
    assert told[0] == told[1]
    assert metrics(runs, at_once) == metrics(runs, late) != []
    state = checkpoint.read(RunFolder(runs, late).checkpoint / "last.pt")["training"]["network"]
    assert all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())
