"""A disk that fills up during a run: the run fails with that cause and can be resumed, and other files stay intact.

A limit on file size simulates the full disk: the same writes fail, no mount is needed, and the limit can be lifted.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import requests
from engine.run.disk import DISK_FULL
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalAttempt, LocalLauncher
from engine.run.supervisor import Supervisor
from tests.engine.run.processes import events_of, processes_of, until, without_supervisor

LIMIT_BYTES = 90_000  # above events.jsonl and the reserve, below a checkpoint


class SmallDisk(LocalLauncher):
    """A launcher of real workers that cannot write a file longer than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def start(self, folder: RunFolder, start: Start) -> LocalAttempt:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, hard))
        try:
            return super().start(folder, start)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def tick_until_over(supervisor: Supervisor, run_id: str) -> dict:
    folder, attempt = RunFolder(supervisor.runs, run_id), requests.status(supervisor.runs, run_id).attempt

    def ended() -> dict | None:
        supervisor.tick()
        record = read_json(folder.exit_json) or {}
        return record if record.get("attempt", 0) > attempt else None

    return until(ended, f"{run_id} is over")


def test_a_full_disk_fails_the_run_and_resume_finishes_it(runs: Path) -> None:
    (run_id,) = requests.submit(runs, "retrain", {"genotype": "ARNAS", "threads": 1}, preset="smoke")
    record = tick_until_over(Supervisor(runs, launcher=SmallDisk(LIMIT_BYTES)), run_id)
    assert record["code"] == DISK_FULL and record["status"] == "failed" and record["cause"].startswith("Disk full")
    state = requests.status(runs, run_id)
    assert state.status == "failed" and "Disk full" in state.cause and state.can_resume
    assert not list(RunFolder(runs, run_id).checkpoint.iterdir())  # nothing half-written
    assert "Disk full" in events_of(runs, run_id, "alert")[-1]["text"]
    requests.resume(runs, run_id)
    assert tick_until_over(Supervisor(runs), run_id)["status"] == "finished"
