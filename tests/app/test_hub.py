"""The thread that keeps the run log of the dashboard up to date gets over errors."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from app.hub import Hub
from engine.log import RunLog
from tests.engine.run.processes import until
from tests.sample_runs import write_finished_chain


@pytest.mark.parametrize("errors", [1, 2, 3])
def test_a_first_reading_that_fails_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: int) -> None:
    runs = tmp_path / "runs"
    chain = write_finished_chain(runs)
    ingest, left = RunLog.ingest, [errors]

    def on_a_full_disk(log: RunLog, *arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return ingest(log, *arguments)

    monkeypatch.setattr(RunLog, "ingest", on_a_full_disk)
    hub = Hub(runs)
    try:
        assert hub.wait(60) and hub.loading is None
        page = hub.connect(lambda text: None)
        hub.show(page, ["runs"])
        until(lambda: set(hub.log.runs()["id"]) == set(chain), "all runs are read", 60)
        until(lambda: hub.looks > errors, "later looks find nothing unread", 60)
    finally:
        hub.close()
