"""The thread that keeps the run log of the dashboard up to date gets over errors."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from app import hub as hub_module
from app.hub import Hub
from engine.log import RunLog
from engine.requests import supervisor_pid
from engine.run.bell import expected_threads
from tests.engine.run.processes import processes_of, until
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


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_long_first_reading_pages_wait_until_everything_is_prepared(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    write_finished_chain(tmp_path / "runs")
    created, loading = threading.Event(), list[object]()

    def prepare() -> None:
        assert created.wait(60)
        loading.append(hub.loading)
        if fails:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(hub_module, "LONG_READING_S", 0.0)
    hub = Hub(tmp_path / "runs", prepare)
    created.set()
    try:
        assert hub.wait(60) and len(loading) == 1 and loading[0] is not None
    finally:
        hub.close()


def test_pages_do_not_wait_for_what_is_prepared_after_a_short_reading(tmp_path: Path) -> None:
    created, loading = threading.Event(), list[object]()
    hub = Hub(tmp_path / "runs", lambda: loading.append(created.wait(60) and hub.loading))
    created.set()
    try:
        until(lambda: loading == [None], "the hub prepares the first pages", 60)
    finally:
        hub.close()


def test_the_supervisor_expects_a_launch_while_a_page_says_so(tmp_path: Path) -> None:
    with processes_of(tmp_path / "runs") as runs:
        hub = Hub(runs)
        try:
            assert hub.wait(60)
            page = hub.connect(lambda text: None)
            hub.show(page, ["runs", "launch", "launch:a guess:2", f"{hub.launch_topic}x"])
            looks = hub.looks
            until(lambda: hub.looks > looks + 1, "the hub looks twice", 60)
            assert expected_threads(runs) is None and supervisor_pid(runs) is None
            hub.show(page, [f"{hub.launch_topic}3"])
            until(lambda: expected_threads(runs) == 3 and supervisor_pid(runs), "a supervisor that expects a launch", 60)
        finally:
            hub.close()
