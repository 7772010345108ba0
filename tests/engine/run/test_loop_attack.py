"""The checks at the end of an attack run: recorded once, in order, whatever interrupts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.attack.checks import CHECKS
from engine.errors import StopRequested
from engine.files import atomic_write_json
from engine.log import RunLog
from engine.run import checkpoint
from engine.run.folder import RunFolder
from engine.run.latency import BATCHES
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt, submit
from tests.engine.run.test_resume import same

CHANGES = {"checks": True, "attacks": ("fgsm", "pgd-20"), "images": 16, "batch_size": 16}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("checks") / "runs")


@pytest.fixture(scope="module")
def parent(runs: Path) -> str:
    run_id = submit(runs, "retrain", genotype="ARNAS", images=16, batch_size=16)
    attempt(runs, run_id)
    atomic_write_json(RunFolder(runs, run_id).ended_json, {"attempt": 1, "status": "finished", "cause": ""})
    return run_id


@pytest.fixture(scope="module")
def whole(runs: Path, parent: str) -> str:
    run_id = submit(runs, "attack", parent, **CHANGES)
    attempt(runs, run_id)
    return run_id


@contextmanager
def opened(runs: Path) -> Iterator[RunLog]:
    log = RunLog.open(runs)
    log.ingest()
    yield log
    log.close()


def recorded(runs: Path, run_id: str) -> list[dict[str, Any]]:
    """Return the rows of the run log, which drops events that a resumed run has repeated."""
    with opened(runs) as log:
        return log.checks(run_id).drop(columns="run").to_dict("records")


def test_every_check_is_recorded_after_the_last_attack(runs: Path, whole: str) -> None:
    kinds = [event["event"] for event in events_of(runs, whole)]
    assert kinds.count("check") == len(CHECKS) and kinds.index("check") > max(
        number for number, kind in enumerate(kinds) if kind == "attack")
    rows = recorded(runs, whole)
    assert [row["check_name"] for row in rows] == list(CHECKS)
    assert all(row["measured"] and bool(row["advice"]) == (row["finding"] in ("warning", "failed")) for row in rows)
    details = [event["detail"] for event in events_of(runs, whole, "progress")]
    assert any(detail.startswith("Checks: ") for detail in details)


def test_the_latency_of_the_network_is_recorded_once(runs: Path, whole: str) -> None:
    kinds = [event["event"] for event in events_of(runs, whole)]
    assert 1 <= kinds.count("latency") <= len(BATCHES) and kinds.index("latency") < kinds.index("attack")
    with opened(runs) as log:
        rows = log.latencies()
    assert rows["batch"].tolist() == list(BATCHES[:kinds.count("latency")]) and set(rows["threads"]) == {1}
    assert set(rows["run"]) == {whole}
    assert (rows["low_s"] <= rows["median_s"]).all() and (rows["median_s"] <= rows["high_s"]).all() and rows["low_s"].min() > 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_checks_that_were_stopped_are_recorded_once_and_find_the_same(runs: Path, parent: str, whole: str, share: float) -> None:
    run_id = submit(runs, "attack", parent, **CHANGES)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, stop_at(runs, whole, share))
    attempt(runs, run_id, 2)
    same(state(runs, whole), state(runs, run_id))
    assert recorded(runs, run_id) == recorded(runs, whole)


def test_checks_of_a_killed_run_are_repeated(runs: Path, parent: str, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a checkpoint after the attacks, the checks that were made and recorded are made and recorded again."""
    run_id = submit(runs, "attack", parent, **CHANGES)
    monkeypatch.setattr("engine.run.preparation.StopRequested", KeyboardInterrupt)  # nothing is saved on the way out
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, stop_at(runs, whole, 0.9))
    monkeypatch.undo()
    assert 0 < len(events_of(runs, run_id, "check")) < len(CHECKS) and not state(runs, run_id)["findings"]
    attempt(runs, run_id, 2)
    same(state(runs, whole), state(runs, run_id))
    assert recorded(runs, run_id) == recorded(runs, whole)
    assert {event["attempt"] for event in events_of(runs, run_id, "check")} == {2}


def test_the_checks_can_be_switched_off(runs: Path, parent: str) -> None:
    run_id = submit(runs, "attack", parent, attacks=("fgsm",), images=16, batch_size=16)
    attempt(runs, run_id)
    assert not events_of(runs, run_id, "check") and recorded(runs, run_id) == []


def state(runs: Path, run_id: str) -> dict[str, Any]:
    return checkpoint.read(RunFolder(runs, run_id).checkpoint / "last.pt")


def stop_at(runs: Path, whole: str, share: float) -> int:
    """Return the number of a pass at this share of the checks."""
    ends = [event["passes"] for event in events_of(runs, whole, "progress") if not event["detail"].startswith("Checks")]
    first, last = max(passes for passes in ends if passes < state(runs, whole)["passes"]), state(runs, whole)["passes"]
    return round(first + share * (last - first)) + 3
