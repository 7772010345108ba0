"""The supervisor with real worker processes that load no torch: starting, recording ends, killing, and its own crash."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import requests
from engine.files import atomic_write_json
from engine.run import supervisor as supervisor_module
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import End, Start
from engine.run.launchers.local import LocalAttempt, LocalLauncher
from engine.run.state import identity
from engine.run.supervision import take_lock
from engine.run.supervisor import Supervisor
from tests.engine.run.processes import processes_of, until, without_supervisor

FOREVER = "import time; time.sleep(600)"


class ScriptLauncher(LocalLauncher):
    """A launcher whose workers are one-line Python scripts, one per kind of run, in sessions of their own like real workers."""

    def __init__(self, scripts: dict[str, str]) -> None:
        self.scripts = scripts

    def start(self, folder: RunFolder, start: Start) -> LocalAttempt:
        with folder.log.open("ab") as log:
            child = subprocess.Popen([sys.executable, "-S", "-c", self.scripts[folder.read_run()["kind"]]], stdout=log,
                                     stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        process = {"attempt": start.attempt, **identity(child.pid), "started": time.time(), "device": start.device,
                   "threads": start.threads}
        atomic_write_json(folder.process_json, process)
        return LocalAttempt(folder, process, child)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def submit(runs: Path, **extra: Any) -> list[str]:
    return requests.submit(runs, "search", {"threads": 1}, method="arnas", preset="smoke", **extra)


def tick_until(supervisor: Supervisor, run_id: str, *wanted: str) -> requests.RunState:
    def reached() -> requests.RunState | None:
        supervisor.tick()
        state = requests.status(supervisor.runs, run_id)
        return state if state.status in wanted else None

    return until(reached, f"{run_id} {wanted}", 30)


class JobThatBegins(LocalAttempt):
    """A job that waits until it is killed. It has begun just then, and its end is seen at the third look."""

    is_killed = False
    looks = 0

    def waits(self) -> str:
        return "" if self.is_killed else "It waits in the queue of the cluster."

    def kill(self) -> None:
        self.is_killed = True
        super().kill()

    def end(self) -> End | None:
        self.looks += self.is_killed
        return super().end() if self.looks not in (1, 2) else None


class JobLauncher(ScriptLauncher):
    """A launcher whose workers are jobs that begin while they are killed."""

    def start(self, folder: RunFolder, start: Start) -> LocalAttempt:
        started = super().start(folder, start)
        job = JobThatBegins(folder, started.process | {"waits": "It waits in the queue of the cluster."}, started.child)
        atomic_write_json(folder.process_json, job.process)
        return job


def test_a_job_that_begins_while_it_is_stopped_has_not_failed(runs: Path) -> None:
    supervisor, (run_id,) = Supervisor(runs, launcher=JobLauncher({"search": FOREVER})), submit(runs)
    folder = RunFolder(runs, run_id)
    until(lambda: (supervisor.tick(), folder.process_json.exists())[1], "the job is submitted", 30)
    requests.request_stop(runs, run_id)
    ended = until(lambda: (supervisor.tick(), read_json(folder.exit_json))[1], "the end is seen", 30)
    assert "waits" not in (read_json(folder.process_json) or {})
    assert (ended["status"], ended["cause"]) == ("stopped", "Stopped by force: the process group was killed.")


@pytest.mark.parametrize(("script", "status", "cause"), [
    ("import sys; print('one'); sys.exit('ValueError: no')", "failed", "Exit code 1: ValueError: no"),
    ("import os; os.kill(os.getpid(), 9)", "failed", "Killed by signal 9 (SIGKILL)."),
    ("import os; os.kill(os.getpid(), 11)", "failed", "Killed by signal 11 (SIGSEGV)."),
])
def test_the_cause_of_an_end_is_told(runs: Path, script: str, status: str, cause: str) -> None:
    (run_id,) = submit(runs)
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": script}))
    ended = until(lambda: supervisor.tick() and read_json(RunFolder(runs, run_id).exit_json), "exit.json", 30)
    state = requests.status(runs, run_id)
    assert (state.status, state.cause) == (status, cause)
    assert ended["attempt"] == 1 and ended["code"] is not None


def test_one_run_at_a_time_on_the_cpu_and_children_after_their_parents(runs: Path) -> None:
    chain = submit(runs, then=("retrain", "attack"))
    (second,) = submit(runs)
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER, "retrain": FOREVER}))
    supervisor.tick()
    assert [requests.status(runs, run_id).status for run_id in (*chain, second)] == ["running", "queued", "queued", "queued"]
    assert read_json(runs / "queue.json") == {"order": [*chain[1:], second], "why": {
        chain[1]: "Its search has not finished.", chain[2]: "Its retraining has not finished.", second: "The CPU slot is taken."}}
    first = RunFolder(runs, chain[0])
    first.results.mkdir()
    atomic_write_json(first.ended_json, {"attempt": 1, "status": "finished", "cause": "", "ended": time.time()})
    os.kill(requests.status(runs, chain[0]).pid, signal.SIGKILL)
    tick_until(supervisor, chain[1], "running")
    assert requests.status(runs, chain[0]).status == "finished"
    assert requests.status(runs, second).status == "queued"
    os.kill(requests.status(runs, chain[1]).pid, signal.SIGKILL)
    tick_until(supervisor, second, "running")
    waiting = requests.status(runs, chain[2])
    assert (waiting.status, waiting.cause) == ("queued", f"waits for {chain[1]}, which failed.")


def test_force_kills_the_process_group(runs: Path) -> None:
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {FOREVER!r}]); {FOREVER}"
    (run_id,) = submit(runs)
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": script}))
    supervisor.tick()
    worker = psutil.Process(requests.status(runs, run_id).pid)
    (grandchild,) = until(worker.children, "a child of the worker", 20)
    requests.request_stop(runs, run_id)
    assert requests.status(runs, run_id).status == "stopping"
    requests.force_stop(runs, run_id)
    state = tick_until(supervisor, run_id, "stopped")
    assert "by force" in state.cause
    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE, "the group is gone", 10)


def test_a_successor_adopts_living_workers_and_buries_dead_ones(runs: Path) -> None:
    (run_id,) = submit(runs)
    first = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER}))
    first.tick()
    pid = requests.status(runs, run_id).pid
    successor = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER}))
    successor.tick()
    assert requests.status(runs, run_id).pid == pid and run_id in successor.workers
    os.kill(pid, signal.SIGKILL)
    first.workers[run_id].attempt.child.wait()
    third = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER}))
    third.tick()
    exit_record = read_json(RunFolder(runs, run_id).exit_json)
    assert exit_record["status"] == "failed" and "ended without recording a cause" in exit_record["cause"]


def test_resume_is_a_new_attempt_and_a_finished_run_is_not_resumed(runs: Path) -> None:
    (run_id,) = submit(runs)
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": "raise SystemExit(1)"}))
    tick_until(supervisor, run_id, "failed")
    requests.resume(runs, run_id)
    assert requests.status(runs, run_id).status == "queued"
    tick_until(supervisor, run_id, "failed")
    assert requests.status(runs, run_id).attempt == 2


def test_a_corrupt_run_hinders_nobody(runs: Path) -> None:
    broken, whole = submit(runs)[0], submit(runs)[0]
    RunFolder(runs, broken).run_json.write_text("{ torn")
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER}))
    supervisor.tick()
    assert requests.status(runs, whole).status == "running"
    assert requests.status(runs, broken).status == "failed"


def test_a_run_deleted_while_it_ran_frees_its_device(runs: Path) -> None:
    (deleted,), (waiting,) = submit(runs), submit(runs)
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": FOREVER}))
    pid = tick_until(supervisor, deleted, "running").pid
    shutil.rmtree(runs / deleted)
    os.kill(pid, signal.SIGKILL)
    assert tick_until(supervisor, waiting, "running").device == "cpu"
    assert not (runs / deleted).exists() and list(supervisor.workers) == [waiting]


def test_the_same_trouble_is_logged_once(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = submit(runs)
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": "raise SystemExit(3)"}))
    until(lambda: supervisor.tick() and supervisor.workers, "a worker", 30)
    RunFolder(runs, run_id).exit_json.mkdir()  # nothing can be written in its place
    for _ in range(20):
        supervisor.tick()
        time.sleep(0.02)
    assert capsys.readouterr().err.count("\n") == 1


def test_only_one_supervisor_and_it_ends_when_idle(runs: Path) -> None:
    lock = take_lock(runs)
    assert lock is not None and take_lock(runs) is None
    lock.close()
    (runs / "control" / "supervisor.json").unlink()
    for _ in range(3):
        requests.ensure_supervisor(runs)
    assert len([one for one in psutil.Process().children() if str(runs) in one.cmdline()]) == 1
    first = until(lambda: requests.supervisor_pid(runs), "a supervisor", 60)
    command = [sys.executable, "-m", "engine.background", "--runs", str(runs), "--idle", "0.5"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0  # the lock is taken: it leaves at once
    assert requests.supervisor_pid(runs) == first
    os.kill(first, signal.SIGKILL)
    until(lambda: requests.supervisor_pid(runs) is None, "it is seen to be dead", 20)
    assert subprocess.run(command, timeout=60, check=False).returncode == 0  # takes over, finds nothing to do, ends
    assert not (runs / "control" / "supervisor.json").exists()


def test_a_supervisor_that_is_dying_is_replaced_at_once(runs: Path) -> None:
    """A killed process whose other threads still end has ended according to its record, and yet has no exit code."""
    dying = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    requests._started.append(requests._Started(runs.absolute(), time.monotonic(), dying))
    atomic_write_json(runs / "control" / "supervisor.json", identity(dying.pid) | {"start_ticks": 0})
    requests.ensure_supervisor(runs)
    until(lambda: requests.supervisor_pid(runs) not in (None, dying.pid), "another supervisor", 60)
    dying.kill()
    dying.wait(10)


@pytest.mark.parametrize(("eager_s", "pause_s"), [(60.0, supervisor_module.EAGER_PAUSE_S), (0.0, supervisor_module.POLL_S)])
def test_a_new_supervisor_looks_more_often_for_the_run_that_follows_the_click(
        runs: Path, monkeypatch: pytest.MonkeyPatch, eager_s: float, pause_s: float) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise InterruptedError

    monkeypatch.setattr(supervisor_module, "EAGER_S", eager_s)
    monkeypatch.setattr(supervisor_module, "pause_after", lambda tick_s, shortest_s: supervisor_module.POLL_S)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(InterruptedError):
        Supervisor(runs).run()
    assert pauses == [pause_s] * 3
