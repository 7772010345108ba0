"""A run has one worker at a time, whatever happens to its folder, to the clock or to process ids."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine import requests
from engine.errors import RunError
from engine.files import atomic_write_json
from engine.run import locks
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalLauncher
from engine.run.state import compute, identity
from engine.run.supervision import take_lock
from engine.run.supervisor import Supervisor
from engine.run.worker import FINISHED, NOT_ITS_FOLDER
from tests.engine.run.processes import processes_of, until, without_supervisor

HOLD = "import sys, time; from pathlib import Path; from engine.run import locks; lock = locks.take(Path(sys.argv[1])); " \
       "print('held', flush=True); time.sleep(600)"
STATUS = "import sys; from engine.run.folder import RunFolder; from engine.run.state import compute; " \
         "print(compute(RunFolder(*sys.argv[1:])).status)"
IN_ANOTHER_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process. Kill it at the end, if it has not ended."""
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def a_run(runs: Path, **process: object) -> RunFolder:
    """Launch a search that no supervisor starts, and record a worker of it."""
    (run_id,) = requests.submit(runs, "search", {"epochs": 12, "threads": 1}, method="arnas", preset="smoke")
    folder = RunFolder(runs, run_id)
    atomic_write_json(folder.process_json, {"attempt": 1, "device": "cpu", "started": 1.0, **identity(os.getpid()), **process})
    return folder


def worker(folder: RunFolder) -> tuple[str, ...]:
    return "-m", "engine.run.worker", "--runs", str(folder.runs), "--run", folder.id, "--attempt", "1"


def test_one_process_holds_a_lock_and_its_kill_releases_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not locks.is_held(path) and not path.exists()
    with process("-c", HOLD, str(path)) as other:
        assert other.stdout.readline() == "held\n"
        assert locks.is_held(path) and locks.take(path, patience_s=0.05) is None
        other.kill()
        other.wait()
        assert not locks.is_held(path)
    mine = locks.take(path)
    assert locks.is_held(path) and mine.is_in_place()
    path.unlink()
    assert not mine.is_in_place() and not locks.is_held(path)
    other = locks.take(path)
    assert other.is_in_place() and not mine.is_in_place()
    other.close()
    assert not locks.is_held(path)


def test_a_worker_in_another_pid_namespace_is_alive(runs: Path) -> None:
    """A second container sees the same folder, and other process ids."""
    if subprocess.run([*IN_ANOTHER_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("A PID namespace needs root and unshare.")
    folder = a_run(runs)
    look = [*IN_ANOTHER_NAMESPACE, sys.executable, "-c", STATUS, str(runs), folder.id]
    assert subprocess.run(look, capture_output=True, text=True, check=True).stdout == "failed\n"
    lock = locks.take(folder.lock)
    assert subprocess.run(look, capture_output=True, text=True, check=True).stdout == "running\n"
    lock.close()


def test_a_worker_in_another_pid_namespace_is_stopped_by_force(runs: Path) -> None:
    """No supervisor here can kill it, so it ends itself, with its children."""
    if subprocess.run([*IN_ANOTHER_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("A PID namespace needs root and unshare.")
    folder = a_run(runs)
    atomic_write_json(folder.process_json, {"attempt": 1, "device": "cpu", "pid": 1, "boot_id": "another"})
    atomic_write_json(folder.request("force"), {"attempt": 1, "at": 1.0})
    script = f"exec {sys.executable} {' '.join(worker(folder))}"
    with subprocess.Popen([*IN_ANOTHER_NAMESPACE, "setsid", "--wait", "sh", "-c", script], stderr=subprocess.PIPE) as child:
        until(lambda: child.poll() is not None, "it has ended", 60)
    assert not locks.is_held(folder.lock) and folder.lock.exists() and not folder.ended_json.exists()
    state = compute(folder)
    assert (state.status, state.cause) == ("stopped", "Stopped by force: the process group was killed.")


def test_no_second_worker_starts_while_a_first_holds_the_folder(runs: Path) -> None:
    folder = a_run(runs, start_ticks=0)  # as if the process were gone
    assert compute(folder).status == "failed"
    lock = locks.take(folder.lock)
    assert compute(folder).status == "running"
    with pytest.raises(RunError, match="Only a stopped or failed run"):
        requests.resume(runs, folder.id)
    atomic_write_json(folder.request("resume"), {"after_attempt": 1, "at": 1.0})
    supervisor = Supervisor(runs)
    supervisor.tick()
    assert not supervisor.workers and read_json(runs / "queue.json")["why"] == {folder.id: "Its last worker has not ended yet."}
    with pytest.raises(RunError, match="Another worker still computes run"):
        LocalLauncher().start(folder, Start(2, "cpu", 1))
    assert read_json(folder.process_json)["attempt"] == 1
    lock.close()


def test_of_two_workers_started_by_hand_one_runs(runs: Path) -> None:
    folder = a_run(runs)
    with process(*worker(folder)) as first, process(*worker(folder)) as second:
        both = (first, second)
        loser = until(lambda: next((one for one in both if one.poll() is not None), None), "one has ended")
        winner = second if loser is first else first
        assert loser.returncode == NOT_ITS_FOLDER and "Another worker computes run" in loser.stderr.read()
        assert locks.is_held(folder.lock) and winner.wait(timeout=120) == FINISHED
    late = subprocess.run([sys.executable, *worker(folder)], capture_output=True, text=True, check=False)
    assert late.returncode == 1 and "has already ended" in late.stderr
    attempts = folder.events.read_text().count('"event":"genotype","t"'), folder.events.read_text().count('"event":"finished"')
    assert attempts == (read_json(folder.run_json)["config"]["epochs"] + 1, 1)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_worker_whose_folder_is_gone_ends_and_writes_nothing(runs: Path, how: str) -> None:
    folder = a_run(runs)
    with process(*worker(folder)) as child:
        until(lambda: folder.events.exists() or child.poll() is not None, "it runs")
        if how == "deleted":
            shutil.rmtree(folder.path, ignore_errors=True)
            shutil.rmtree(folder.path, ignore_errors=True)
        else:
            folder.path.rename(runs / "moved")
            folder.path.mkdir()
        assert child.wait(timeout=60) == NOT_ITS_FOLDER
        assert "was deleted, moved or replaced, so its worker has ended" in child.stderr.read()
    assert not folder.path.exists() if how == "deleted" else not list(folder.path.iterdir())


def test_a_supervisor_of_a_replaced_folder_begins_again_on_the_new_one(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "control").mkdir(parents=True)
    with process("-m", "engine.background", "--runs", str(runs), "--idle", "60") as child:
        until(lambda: locks.is_held(runs / "control" / "supervisor.lock"), "it holds the lock")
        until((runs / "control" / "supervisor.json").exists, "it is recorded")
        runs.rename(tmp_path / "moved")
        (runs / "control").mkdir(parents=True)
        until(lambda: requests.supervisor_pid(runs) == child.pid or child.poll() is not None, "it is that of the new folder")
        assert locks.is_held(runs / "control" / "supervisor.lock")
        assert not locks.is_held(tmp_path / "moved" / "control" / "supervisor.lock")
        runs.rename(tmp_path / "moved again")
        assert child.wait(timeout=60) == 0
    assert not runs.exists()


def test_a_replaced_folder_ends_an_idle_supervisor_at_once(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "control").mkdir(parents=True)
    lock = take_lock(runs)
    shutil.rmtree(runs / "control")
    (runs / "control").mkdir()
    Supervisor(runs, lock=lock, idle_s=600).run()
    lock.close()


def test_the_lock_passes_from_the_launcher_to_the_worker(runs: Path) -> None:
    """The lock is held from the launch on, and no process that the worker starts inherits it."""
    (run_id,) = requests.submit(runs, "search", {"threads": 1}, method="arnas", preset="smoke")
    folder = RunFolder(runs, run_id)
    child = LocalLauncher().start(folder, Start(1, "cpu", 1)).child
    assert locks.is_held(folder.lock)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not locks.is_held(folder.lock)
