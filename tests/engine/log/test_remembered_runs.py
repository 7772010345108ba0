"""The list of runs is cached until the index changes, and no longer."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from engine.log import RunLog
from tests.sample_runs import EventsFile, write_run_json

CLOCK = ["age_s", "silent_s", "duration_s"]


def assert_same_as_fresh(log: RunLog, root: Path, run: str) -> None:
    """Assert that the log answers like one that has just read the folder."""
    fresh = RunLog.open(root, in_memory=True)
    fresh.ingest()
    pd.testing.assert_frame_equal(log.runs().drop(columns=CLOCK), fresh.runs().drop(columns=CLOCK))
    ours, theirs = ({key: value for key, value in one.run(run).items() if key not in CLOCK} for one in (log, fresh))
    assert ours == theirs
    fresh.close()


def add_progress(root: Path, run: str) -> None:
    EventsFile(root / run).write("progress", phase="search", done=29, total=40, unit="steps")


def test_answers_follow_each_ingest(log: RunLog, root: Path, ids: dict[str, str]) -> None:
    assert log.run(ids["running"])["progress"] == log.runs().set_index("id").loc[ids["running"], "progress"]
    log.ingest()  # nothing new
    add_progress(root, ids["running"])
    assert log.run(ids["running"])["progress"] == pytest.approx(13 / 40)
    log.ingest()
    assert log.run(ids["running"])["progress"] == pytest.approx(29 / 40)
    write_run_json(root, "20261118-1200-arnas-digits-0abc", "search", title="One more")
    log.ingest("20261118-1200-arnas-digits-0abc")
    assert "One more" in set(log.runs()["title"])
    assert_same_as_fresh(log, root, ids["running"])


def test_an_ingest_of_another_log_of_this_process_counts(log: RunLog, root: Path, ids: dict[str, str]) -> None:
    log.runs()
    other = RunLog.open(root)
    assert log.owner and other.owner
    add_progress(root, ids["running"])
    other.ingest()
    other.close()
    assert log.run(ids["running"])["progress"] == pytest.approx(29 / 40)


def test_a_deleted_folder_disappears(log: RunLog, root: Path, ids: dict[str, str]) -> None:
    assert ids["failed"] in set(log.runs()["id"])
    shutil.rmtree(root / ids["failed"])
    log.ingest()
    assert ids["failed"] not in set(log.runs()["id"])
    assert_same_as_fresh(log, root, ids["search"])


def test_the_status_is_that_of_the_call(log: RunLog, root: Path, ids: dict[str, str]) -> None:
    before = log.runs().set_index("id").loc[ids["running"]]
    assert before["status"] == "running" and before["can_stop"] and before["seconds_left"] > 0
    (root / ids["running"] / "process.json").unlink()
    os.utime(root / ids["running"] / "run.json", (0, 0))
    after = log.runs().set_index("id").loc[ids["running"]]
    assert after["status"] != "running" and after["age_s"] > before["age_s"] and pd.isna(after["seconds_left"])


def test_a_changed_frame_stays_with_its_caller(log: RunLog, ids: dict[str, str]) -> None:
    before = log.runs()
    mine = log.runs()
    mine["title"] = "mine"
    mine.loc[0, "natural_accuracy"] = -1.0
    del mine["method"]
    log.run(ids["search"])["title"] = "mine"
    pd.testing.assert_frame_equal(log.runs().drop(columns=CLOCK), before.drop(columns=CLOCK))
    assert log.run(ids["search"])["title"] != "mine"


def test_threads_that_ask_during_ingests_end_with_the_newest_answer(log: RunLog, root: Path, ids: dict[str, str]) -> None:
    over = threading.Event()

    def ask() -> bool:
        progress = []
        while not over.is_set():
            progress.append(log.run(ids["running"])["progress"])
        return progress == sorted(progress)

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        for done in range(14, 19):
            EventsFile(root / ids["running"]).write("progress", phase="search", done=done, total=40, unit="steps")
            log.ingest()
            assert log.run(ids["running"])["progress"] == pytest.approx(done / 40)
        over.set()
    assert all(one.result() for one in asked)


def test_a_closed_log_remembers_nothing(log: RunLog, root: Path) -> None:
    log.runs()
    log.close()
    with pytest.raises(duckdb.Error):
        log.runs()
