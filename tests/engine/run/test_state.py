from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunError
from engine.files import atomic_write_json
from engine.run.folder import RunFolder
from engine.run.state import compute, identity

RUN, PARENT = "20261120-0915-retrain-digits-7f3a", "20261120-0914-arnas-digits-0000"


def a_run(root: Path, run_id: str = RUN, *, parent: str | None = None, process: dict[str, Any] | None = None) -> RunFolder:
    folder = RunFolder(root, run_id)
    folder.control.mkdir(parents=True)
    folder.results.mkdir()
    atomic_write_json(folder.run_json, {"id": run_id, "kind": "retrain", "config": {}, "created": 1.0, "parent": parent})
    if process is not None:
        atomic_write_json(folder.process_json, {"attempt": 1, "device": "cpu", "started": time.time(), **process})
        folder.events.write_text("")
    return folder


def gone() -> dict[str, Any]:
    """Return the identity of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = identity(child.pid)
    child.communicate(b"\n")
    return found


def test_queued_until_started(tmp_path: Path) -> None:
    state = compute(a_run(tmp_path))
    assert (state.status, state.cause, state.can_stop, state.can_resume) == ("queued", "", True, False)


def test_running_stopping_and_silence(tmp_path: Path) -> None:
    folder = a_run(tmp_path, process=identity(os.getpid()))
    os.utime(folder.events, (time.time() - 240, time.time() - 240))
    state = compute(folder)
    assert (state.status, state.pid, state.can_stop) == ("running", os.getpid(), True)
    assert 235 < state.silent_s < 260
    folder.request("stop").touch()
    assert compute(folder).status == "stopping"


def test_a_killed_worker_is_failed_without_any_supervisor(tmp_path: Path) -> None:
    state = compute(a_run(tmp_path, process=gone()))
    assert state.status == "failed" and "killed or crashed" in state.cause and state.can_resume


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = a_run(tmp_path, process=identity(child.pid))
    assert compute(folder).status == "running"
    child.kill()
    deadline = time.monotonic() + 10
    while compute(folder).status == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert compute(folder).status == "failed"
    child.communicate()


def test_a_pid_that_was_given_to_another_process_is_not_the_worker(tmp_path: Path) -> None:
    mine = identity(os.getpid())
    assert compute(a_run(tmp_path, process={**mine, "start_ticks": mine["start_ticks"] - 1})).status == "failed"
    older = {**mine, "start_ticks": None, "create_time": mine["create_time"] - 60}  # as an older version recorded it
    assert compute(a_run(tmp_path, PARENT, process=older)).status == "failed"


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_step_of_the_clock_makes_no_living_worker_failed(tmp_path: Path, seconds: float) -> None:
    """The start time that the system tells is the start in ticks plus the time of the boot, which moves with the clock."""
    mine = identity(os.getpid())
    assert compute(a_run(tmp_path, process={**mine, "create_time": mine["create_time"] + seconds})).status == "running"
    assert compute(a_run(tmp_path, PARENT, process={**gone(), "create_time": mine["create_time"]})).status == "failed"


def test_a_restarted_host_is_the_cause(tmp_path: Path) -> None:
    folder = a_run(tmp_path, process={**identity(os.getpid()), "boot_id": "another boot"})
    assert compute(folder).cause == "The host restarted during the run."
    folder.heartbeat.touch()  # a worker on another machine that shares the folder
    assert compute(folder).status == "running"


@pytest.mark.parametrize(("words", "status"), [("finished", "finished"), ("stopped", "stopped"), ("failed", "failed")])
def test_last_words_of_the_worker_count_when_nobody_wrote_exit_json(tmp_path: Path, words: str, status: str) -> None:
    folder = a_run(tmp_path, process=gone())
    atomic_write_json(folder.ended_json, {"attempt": 1, "status": words, "cause": "so it was"})
    state = compute(folder)
    assert (state.status, state.cause, state.can_resume) == (status, "so it was", status != "finished")
    atomic_write_json(folder.ended_json, {"attempt": 0, "status": words, "cause": "an earlier attempt"})
    assert compute(folder).status == "failed"


def test_exit_json_of_an_earlier_attempt_says_nothing(tmp_path: Path) -> None:
    folder = a_run(tmp_path, process={**identity(os.getpid()), "attempt": 2})
    atomic_write_json(folder.exit_json, {"attempt": 1, "status": "failed", "cause": "earlier"})
    assert compute(folder).status == "running"
    atomic_write_json(folder.exit_json, {"attempt": 2, "status": "failed", "cause": "Exit code 1: x"})
    assert (compute(folder).status, compute(folder).cause) == ("failed", "Exit code 1: x")


def test_stopped_before_it_started_and_resumed(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.request("stop").touch()
    assert compute(folder).status == "stopped" and compute(folder).can_resume
    folder.request("stop").unlink()
    assert compute(folder).status == "queued"


def test_a_resume_request_queues_once(tmp_path: Path) -> None:
    folder = a_run(tmp_path, process=gone())
    atomic_write_json(folder.request("resume"), {"after_attempt": 1, "at": 0})
    assert compute(folder).status == "queued"
    # The supervisor started attempt 2 and died before it removed the request.
    atomic_write_json(folder.process_json, {"attempt": 2, **gone()})
    assert compute(folder).status == "failed"


@pytest.mark.parametrize(("ended", "cause"), [("failed", f"waits for {PARENT}, which failed."),
                                              ("stopped", f"waits for {PARENT}, which is stopped."), ("finished", "")])
def test_a_child_says_what_it_waits_for(tmp_path: Path, ended: str, cause: str) -> None:
    parent = a_run(tmp_path, PARENT, process=gone())
    child = a_run(tmp_path, parent=PARENT)
    atomic_write_json(parent.exit_json, {"attempt": 1, "status": ended, "cause": ""})
    assert (compute(child).status, compute(child).cause) == ("queued", cause)


def test_a_corrupt_run_json_is_failed_with_a_sentence_and_an_unknown_run_refused(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.run_json.write_text("{")
    state = compute(folder)
    assert state.status == "failed" and "run.json" in state.cause and not state.can_resume
    with pytest.raises(RunError, match="There is no run"):
        compute(RunFolder(tmp_path, PARENT))
