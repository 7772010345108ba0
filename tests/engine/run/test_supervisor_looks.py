"""What the supervisor looks at: with many runs almost nothing, and yet nothing new escapes it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import requests
from engine.run import bell
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.supervisor import AT_ONCE, COARSE_NS, Supervisor
from tests.engine.run.processes import processes_of, until, without_supervisor
from tests.engine.run.test_supervisor import FOREVER, ScriptLauncher, submit

OLD_S = 3600.0
_opened: list[str] = []
_listened: list[bool] = []


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _listened and event in ("open", "os.listdir", "os.scandir"):
        _opened.append(str(arguments[0]))


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def write_many(runs: Path, count: int) -> list[str]:
    """Write copies of a search that was stopped before its start. None has changed for an hour. Return their ids."""
    (model,) = submit(runs)
    requests.request_stop(runs, model)
    text = (runs / model / "run.json").read_text()
    for number in range(count):
        run_id = f"20261101-0000-arnas-digits-{number:04x}"
        shutil.copytree(runs / model, runs / run_id)
        (runs / run_id / "run.json").write_text(text.replace(model, run_id))
    shutil.rmtree(runs / model)
    bell.rung(runs)
    for path in (runs, *runs.glob("*-arnas-*"), *runs.glob("*-arnas-*/control")):
        age(path)
    return run_ids(runs)


def age(path: Path) -> None:
    """Set the time of the last change of a file or folder to an hour ago."""
    old = time.time() - OLD_S
    os.utime(path, (old, old))


def test_a_tick_without_news_opens_no_file_of_a_run(runs: Path) -> None:
    many = write_many(runs, 2 * AT_ONCE)
    for run_id in many[:5]:  # these wait, the others were stopped
        RunFolder(runs, run_id).request("stop").unlink()
        age(runs / run_id / "control")
    supervisor = Supervisor(runs, cpu_slots=0)
    supervisor.tick()
    assert list(read_json(runs / "queue.json")["why"]) == many[:5]
    age(runs)
    supervisor.tick()
    supervisor._next_round = time.monotonic() + OLD_S
    sys.addaudithook(_listen)
    _listened.append(True)
    for _ in range(10):
        supervisor.tick()
    _listened.clear()
    assert set(_opened) == {str(runs / "control" / "bell")}


def test_a_request_is_seen_at_once_among_many_runs_and_a_change_by_hand_a_little_later(runs: Path) -> None:
    many = write_many(runs, 2 * AT_ONCE + 2)
    supervisor = Supervisor(runs, cpu_slots=0)
    for _ in range(3):
        supervisor.tick()
    supervisor._watch._next = 0  # the last run has its turn in the third look
    requests.resume(runs, many[-1])
    supervisor.tick()
    assert list(supervisor._waiting) == [many[-1]]
    supervisor._watch._next = 0
    RunFolder(runs, many[-2]).request("stop").unlink()
    supervisor.tick()
    assert list(supervisor._waiting) == [many[-1]]
    supervisor.tick()
    supervisor.tick()
    assert set(supervisor._waiting) == {many[-1], many[-2]}
    assert list(read_json(runs / "queue.json")["why"]) == [many[-2], many[-1]]


def test_a_supervisor_that_is_about_to_end_looks_at_every_run(runs: Path) -> None:
    many = write_many(runs, 2 * AT_ONCE + 2)
    supervisor = Supervisor(runs, cpu_slots=0)
    supervisor.tick()
    supervisor._watch._next = 0
    RunFolder(runs, many[-1]).request("stop").unlink()
    supervisor.tick(everything=True)
    assert list(supervisor._waiting) == [many[-1]]


def test_a_change_within_the_second_of_the_last_look_is_seen(runs: Path) -> None:
    """The file system may give both changes the same time."""
    (run_id,) = submit(runs)
    supervisor = Supervisor(runs, cpu_slots=0)
    supervisor.tick()
    stamp = os.stat(runs / run_id / "control").st_mtime_ns
    RunFolder(runs, run_id).request("stop").touch()
    os.utime(runs / run_id / "control", ns=(stamp, stamp))
    supervisor.tick()
    assert not supervisor._waiting and time.time_ns() - stamp < COARSE_NS


def test_a_run_that_was_stopped_since_the_last_look_is_not_started(runs: Path) -> None:
    many = write_many(runs, AT_ONCE + 2)
    RunFolder(runs, many[-1]).request("stop").unlink()
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER}), cpu_slots=0)
    supervisor.tick()
    time.sleep(COARSE_NS / 1e9)
    supervisor.tick()
    supervisor.cpu_slots, supervisor._is_due, supervisor._watch._next = 1, True, 0
    RunFolder(runs, many[-1]).request("stop").touch()  # without the bell
    supervisor.tick()
    assert not supervisor.workers and read_json(runs / "queue.json")["why"] == {many[-1]: "It has just been stopped."}


def test_a_run_that_could_not_be_read_is_looked_at_again_without_a_change_of_its_folder(runs: Path) -> None:
    (run_id,) = submit(runs)
    path = RunFolder(runs, run_id).run_json
    text = path.read_text()
    path.write_text(text[:100])
    for place in (path.parent, path.parent / "control"):
        age(place)
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER}))
    supervisor.tick()
    assert not supervisor._waiting
    path.write_text(text)
    supervisor._again = dict.fromkeys(supervisor._again, 0.0)  # as if the time had passed
    supervisor.tick()
    assert list(supervisor.workers) == [run_id]


def test_a_copied_record_of_a_supervisor_starts_one_for_the_copy(tmp_path: Path) -> None:
    original, copy = tmp_path / "runs", tmp_path / "copy"
    with processes_of(original), processes_of(copy):
        requests.ensure_supervisor(original)
        first = until(lambda: requests.supervisor_pid(original), "a supervisor", 60)
        shutil.copytree(original, copy)
        assert requests.supervisor_pid(copy) is None
        requests.ensure_supervisor(copy)
        # A supervisor takes its lock before it replaces the copied record.
        until(lambda: requests.supervisor_pid(copy) not in (None, first), "a supervisor of the copy", 60)
        assert requests.supervisor_pid(original) == first
