"""What the launcher `slurm` makes of Slurm's words about a job, and how its workers make sure that a run has only one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("submitit", reason="the extra slurm is not installed")

from submitit import SlurmJob  # noqa: E402
from submitit.core.utils import JobPaths  # noqa: E402

from engine import queueing, requests  # noqa: E402
from engine.errors import RunError  # noqa: E402
from engine.files import atomic_write_json  # noqa: E402
from engine.run import worker  # noqa: E402
from engine.run.folder import RunFolder, read_json  # noqa: E402
from engine.run.launchers import slurm  # noqa: E402
from engine.run.launchers.contract import Start  # noqa: E402
from engine.run.launchers.jobs import code_file, jobs_folder  # noqa: E402
from engine.run.launchers.registry import LAUNCHERS  # noqa: E402
from engine.run.launchers.slurm import SlurmAttempt, SlurmLauncher, _SlurmExecutor  # noqa: E402
from engine.run.state import compute  # noqa: E402
from tests.engine.run.processes import processes_of, until, until_step, without_supervisor  # noqa: E402
from tests.engine.run.test_supervisor import submit  # noqa: E402

TICKET = "5f3a5f3a5f3a5f3a"


class Job:
    """A job in a given state, with the part of submitit's jobs that the launcher uses."""

    def __init__(self, runs: Path, state: str) -> None:
        self.job_id, self.state, self.paths = "42", state, JobPaths(jobs_folder(runs), "42")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    """A run whose first attempt is job 42."""
    with processes_of(without_supervisor(tmp_path / "runs")) as runs:
        (run_id,) = submit(runs)
        folder = RunFolder(runs, run_id)
        jobs_folder(runs).mkdir()
        atomic_write_json(folder.process_json, {"attempt": 1, "launcher": "slurm", "job": "42", "ticket": TICKET, "device": "cpu",
                                                "threads": 1, "started": time.time()})
        yield folder


def attempt(folder: RunFolder, state: str) -> SlurmAttempt:
    return SlurmAttempt(folder, read_json(folder.process_json) or {}, Job(folder.runs, state), 240)  # type: ignore[arg-type]


def tell(folder: RunFolder, status: str) -> None:
    """Record the end of the worker, as the worker does."""
    folder.results.mkdir(exist_ok=True)
    atomic_write_json(folder.ended_json, {"attempt": 1, "status": status, "cause": "", "ended": time.time()})


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "UNKNOWN"])
def test_a_job_may_compute_until_slurm_or_its_worker_says_otherwise(folder: RunFolder, state: str) -> None:
    assert attempt(folder, state).end() is None


@pytest.mark.parametrize(("state", "cause", "is_lost"), [
    ("NODE_FAIL", "Slurm job 42 was lost. Its node failed.", True),
    ("PREEMPTED", "Slurm job 42 was lost. It was pre-empted.", True),
    ("CANCELLED by 1000", "Slurm job 42 was cancelled.", False),
    ("OUT_OF_MEMORY", "Out of memory: Slurm ended the job.", False),
    ("TIMEOUT", "Slurm job 42 came to its time limit of 240 minutes before the first checkpoint", False),
    ("FAILED", "Slurm job 42 ended without a word of its worker. The last line of its log: no such file.", False)])
def test_a_job_without_a_word_of_its_worker_ends_as_slurm_says(folder: RunFolder, state: str, cause: str, is_lost: bool) -> None:
    (jobs_folder(folder.runs) / "42_0_log.err").write_text("submitit INFO\nno such file\n")
    end = attempt(folder, state).end()
    assert end is not None and end.cause.startswith(cause) and end.is_lost == is_lost
    assert not list(jobs_folder(folder.runs).iterdir())


def test_a_job_that_came_to_its_time_limit_after_a_checkpoint_goes_on(folder: RunFolder) -> None:
    folder.checkpoint.mkdir()
    (folder.checkpoint / "last.pt").touch()
    end = attempt(folder, "TIMEOUT").end()
    assert end is not None and end.is_lost


@pytest.mark.parametrize(("state", "is_lost"), [("PREEMPTED", True), ("COMPLETED", True), ("CANCELLED", False)])
def test_a_worker_that_slurm_asked_to_stop_is_lost_unless_somebody_cancelled_the_job(folder: RunFolder, state: str,
                                                                                      is_lost: bool) -> None:
    tell(folder, "stopped")
    code_file(folder.runs, TICKET).write_text("3\n")
    assert attempt(folder, "RUNNING").end() is None  # Slurm has not told yet why it ended
    end = attempt(folder, state).end()
    assert end is not None and (end.code, end.is_lost) == (3, is_lost)


def test_a_stop_that_the_user_asked_for_and_a_failure_of_the_run_itself_are_not_lost(folder: RunFolder) -> None:
    tell(folder, "failed")
    code_file(folder.runs, TICKET).write_text("137\n")
    end = attempt(folder, "PREEMPTED").end()
    assert end is not None and (end.code, end.is_lost) == (-9, False)
    tell(folder, "stopped")
    folder.request("stop").touch()
    end = attempt(folder, "RUNNING").end()
    assert end is not None and not end.is_lost


def test_a_job_that_slurm_has_forgotten_is_lost_once_its_heartbeat_is_old(folder: RunFolder) -> None:
    forgotten = attempt(folder, "UNKNOWN")
    for path in (folder.process_json, folder.heartbeat):
        path.touch()
        os.utime(path, (1.0, time.time() - slurm.SILENT_S + 20))
    assert forgotten.end() is None
    for path in (folder.process_json, folder.heartbeat):
        os.utime(path, (1.0, time.time() - slurm.SILENT_S - 20))
    end = forgotten.end()
    assert end is not None and end.is_lost


def test_a_job_waits_until_its_worker_beats_and_then_no_more(folder: RunFolder) -> None:
    record = (read_json(folder.process_json) or {}) | {"waits": slurm.waiting_text("42")}
    atomic_write_json(folder.process_json, record)
    state = compute(folder)
    assert (state.status, state.cause, state.can_stop) == ("queued", "Slurm job 42 waits in the queue of the cluster.", True)
    (entry,) = queueing.view(folder.runs).running
    assert (entry.id, entry.cause, entry.left_s) == (folder.id, state.cause, None)
    assert [device.used for one in queueing.launchers(folder.runs) if one.name == "slurm" and not one.missing
            for device in one.devices if device.name == "cpu"] in ([1], [])  # it needs sbatch to be listed
    waiting = attempt(folder, "PENDING")
    assert waiting.waits() == "Slurm job 42 waits in the queue of the cluster."
    folder.heartbeat.touch()
    assert waiting.waits() == ""
    atomic_write_json(folder.process_json, {name: value for name, value in record.items() if name != "waits"})
    assert waiting.waits() == "" == attempt(folder, "PENDING").waits()
    assert compute(folder).status == "running"


def test_a_record_that_names_no_job_is_refused(folder: RunFolder) -> None:
    launcher = SlurmLauncher(folder.runs, LAUNCHERS["slurm"].complete({"cluster": "local"}))
    with pytest.raises(RunError, match="must name a job and a ticket"):
        launcher.reconnect(folder, {"attempt": 1, "job": "1; rm", "ticket": "x"})


def test_the_settings_reach_the_submission_file(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_SlurmExecutor, "affinity", classmethod(lambda cls: 2))  # as if there were srun
    settings: dict[str, Any] = {"partition": "a100", "account": "lab", "constraint": "big mem", "minutes": 90, "memory_gb": 32}
    launcher = SlurmLauncher(folder.runs, LAUNCHERS["slurm"].complete(settings))
    text = launcher._executor([(folder, Start(1, "cuda:0", 6))])._make_submission_file_text("COMMAND", "1")
    lines = {line for line in text.splitlines() if line.startswith("#SBATCH")}
    assert lines >= {"#SBATCH --partition=a100", "#SBATCH --account=lab", "#SBATCH --constraint='big mem'", "#SBATCH --time=90",
                     "#SBATCH --mem=32GB", "#SBATCH --cpus-per-task=6", "#SBATCH --gpus-per-node=1", "#SBATCH --no-requeue",
                     "#SBATCH --signal=TERM@90", f"#SBATCH --job-name=rampart-{folder.id}"}
    several = launcher._executor([(folder, Start(1, "cuda:0", 6, 4))])._make_submission_file_text("COMMAND", "1")
    assert "#SBATCH --gpus-per-node=4" in several
    assert "gpus" not in launcher._executor([(folder, Start(1, "cpu", 6))])._make_submission_file_text("COMMAND", "1")
    assert [(one.name, one.slots) for one in launcher.resources().devices] == [("cpu", 20), ("cuda:0", 20)]
    assert issubclass(_SlurmExecutor.job_class, SlurmJob)


def worker_with(folder: RunFolder, ticket: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "engine.run.worker", "--runs", str(folder.runs), "--run", folder.id,
                             "--attempt", "1", "--ticket", ticket])


def test_a_job_that_is_not_the_recorded_one_computes_nothing(folder: RunFolder) -> None:
    with worker_with(folder, "another") as child:
        assert child.wait(60) == worker.FINISHED
    assert not folder.log.exists() and not folder.events.exists()


def test_a_worker_that_was_replaced_ends(tmp_path: Path) -> None:
    with processes_of(without_supervisor(tmp_path / "runs")) as runs:
        (run_id,) = requests.submit(runs, "search", {"threads": 1, "epochs": 50}, method="arnas", preset="smoke")
        folder = RunFolder(runs, run_id)
        record = {"attempt": 1, "launcher": "slurm", "job": "42", "ticket": TICKET, "device": "cpu", "threads": 1, "started": 1.0}
        with worker_with(folder, TICKET) as child:  # it waits until it is recorded
            time.sleep(0.5)
            assert child.poll() is None and not folder.events.exists()
            atomic_write_json(folder.process_json, record)
            until_step(runs, run_id, 1)
            atomic_write_json(folder.process_json, record | {"attempt": 2, "job": "43", "ticket": TICKET[::-1]})
            until(lambda: child.poll() is not None, "it has ended")
            assert child.returncode == worker.NOT_ITS_FOLDER
        assert "Another worker has been started for run" in folder.log.read_text()
