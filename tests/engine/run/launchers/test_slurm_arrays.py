"""Runs that start together are tasks of one job array, and a cluster that does not answer holds up nothing but a submission.

The programs of Slurm are shell scripts here, so that a test decides what they say. `test_contract.py` uses the real ones.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("submitit", reason="the extra slurm is not installed")

from submitit.core.utils import DelayedSubmission  # noqa: E402

from engine import requests  # noqa: E402
from engine.files import atomic_write_json  # noqa: E402
from engine.run.folder import RunFolder, read_json  # noqa: E402
from engine.run.launchers import slurm  # noqa: E402
from engine.run.launchers.contract import Start  # noqa: E402
from engine.run.launchers.jobs import SILENT_S, code_file, jobs_folder  # noqa: E402
from engine.run.launchers.registry import LAUNCHERS  # noqa: E402
from engine.run.launchers.slurm import SlurmLauncher  # noqa: E402
from engine.run.supervisor import Supervisor  # noqa: E402
from tests.engine.run.processes import processes_of, until, without_supervisor  # noqa: E402
from tests.engine.run.test_supervisor import submit  # noqa: E402

# Each script notes its call in calls.txt. It hangs if hang.NAME exists, and otherwise prints NAME.txt.
SCRIPT = """#!/bin/sh
cd {folder}
echo "{name} $@" >> calls.txt
if [ -e hang.{name} ]; then echo $$ >> hung.txt; exec sleep 600; fi
[ {name} = sbatch ] && cp "$1" script.txt
cat {name}.err >&2 2>/dev/null
cat {name}.txt 2>/dev/null
"""


@dataclass
class Programs:
    """The folder of the programs of Slurm."""

    folder: Path

    def say(self, name: str, text: str) -> None:
        """Let a program print a text, one that another process may read meanwhile."""
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(self.folder / f"{name}.txt")

    def calls(self, name: str) -> list[str]:
        """Return the arguments of all calls of a program."""
        lines = (self.folder / "calls.txt").read_text().splitlines() if (self.folder / "calls.txt").exists() else []
        return [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == name]

    def hung(self) -> list[psutil.Process]:
        """Return the processes of programs that hang now."""
        found = []
        for pid in (self.folder / "hung.txt").read_text().split() if (self.folder / "hung.txt").exists() else []:
            with contextlib.suppress(psutil.Error):
                if (process := psutil.Process(int(pid))).status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel", "srun"):
        (folder / name).write_text(SCRIPT.format(folder=folder, name=name))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm._SlurmJob, "watcher", slurm._Watcher(delay_s=0))
    one = Programs(folder)
    one.say("sbatch", "Submitted batch job 77\n")
    yield one
    for process in one.hung():
        process.send_signal(signal.SIGKILL)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def launcher_of(runs: Path, **settings: Any) -> SlurmLauncher:
    return SlurmLauncher(runs, LAUNCHERS["slurm"].complete({"gpus": 0} | settings))


def submitted(runs: Path, count: int) -> list[RunFolder]:
    return [RunFolder(runs, submit(runs)[0]) for _ in range(count)]


def job_of(folder: RunFolder) -> str:
    return str((read_json(folder.process_json) or {}).get("job"))


def test_runs_that_start_together_are_tasks_of_one_array_each_with_its_own_ticket_and_end(runs: Path, programs: Programs) -> None:
    first, second, third = folders = submitted(runs, 3)
    supervisor = Supervisor(runs, launcher=launcher_of(runs, running=2))
    supervisor.tick()
    assert len(programs.calls("sbatch")) == 1 and [job_of(folder) for folder in folders] == ["77_0", "77_1", "77_2"]
    script = (programs.folder / "script.txt").read_text()
    assert "#SBATCH --array=0-2%2\n" in script and "#SBATCH --job-name=rampart-3-runs\n" in script
    tickets = [(read_json(folder.process_json) or {})["ticket"] for folder in folders]
    for number, (folder, ticket) in enumerate(zip(folders, tickets, strict=True)):
        (command,) = DelayedSubmission.load(jobs_folder(runs) / f"77_{number}_submitted.pkl").args
        assert ticket in command and folder.id in command and len(set(tickets)) == 3

    programs.say("squeue", "77_0|RUNNING|n1\n77_1|PENDING|\n")
    programs.say("sacct", "77_0|RUNNING|n1\n77_[1-2]|PENDING|None assigned\n77_0.batch|RUNNING|n1\n")
    until(lambda: supervisor.tick() or [requests.status(runs, one.id).status for one in folders] == [
        "running", "queued", "queued"], "Slurm's word about each task")
    requests.request_stop(runs, second.id)
    until(lambda: supervisor.tick() or programs.calls("scancel"), "the task is cancelled")
    assert {call.split()[-1] for call in programs.calls("scancel")} == {"77_1"}
    programs.say("squeue", "77_0|NODE_FAIL|n1\n77_1|CANCELLED|\n77_2|PENDING|\n")
    programs.say("sbatch", "Submitted batch job 78\n")
    until(lambda: supervisor.tick() or job_of(first) == "78", "the run of the lost node is submitted again")
    assert "--array" not in (programs.folder / "script.txt").read_text()
    assert (read_json(first.exit_json) or {})["cause"] == "Slurm job 77_0 was lost. Its node failed."
    until(lambda: supervisor.tick() or second.exit_json.exists(), "the end of the cancelled task")
    assert requests.status(runs, second.id).cause == "Stopped before it started."
    assert not third.exit_json.exists() and (jobs_folder(runs) / "77_2_submitted.pkl").exists()

    later = Supervisor(runs, launcher=launcher_of(runs))
    later.tick()
    assert {run_id: worker.attempt.job.job_id for run_id, worker in later.workers.items()} == {  # type: ignore[attr-defined]
        first.id: "78", third.id: "77_2"}


def test_runs_with_other_resources_and_a_damaged_one_do_not_share_an_array(runs: Path, programs: Programs) -> None:
    folders = submitted(runs, 4)
    (folders[3].path / "link").symlink_to("/")
    starts = [(folder, Start(1, "cpu", threads)) for folder, threads in zip(folders, (1, 1, 2, 1), strict=True)]
    *attempts, damaged = launcher_of(runs).start_together(starts)
    assert len(programs.calls("sbatch")) == 2 and "link" in str(damaged) and not folders[3].process_json.exists()
    assert [job_of(folder) for folder in folders[:3]] == ["77_0", "77_1", "77"]
    assert [one.job.job_id for one in attempts if isinstance(one, slurm.SlurmAttempt)] == ["77_0", "77_1", "77"]


def test_retrainings_of_other_numbers_of_processes_do_not_share_an_array(runs: Path, programs: Programs) -> None:
    starts = [(folder, Start(1, "cuda:0", 4, processes))
              for folder, processes in zip(submitted(runs, 4), (2, 1, 2, 1), strict=True)]
    attempts = launcher_of(runs, gpus=1).start_together(starts)
    assert len(programs.calls("sbatch")) == 2 and not [one for one in attempts if isinstance(one, Exception)]
    script = (programs.folder / "script.txt").read_text()  # of the second array
    assert "#SBATCH --gpus-per-node=1\n" in script and "#SBATCH --array=0-1%2\n" in script
    records = [read_json(folder.process_json) or {} for folder, _ in starts]
    assert [(one["job"], one.get("processes"), one["device"]) for one in records] == [
        ("77_0", 2, "cuda:0"), ("77_0", None, "cuda:0"), ("77_1", 2, "cuda:0"), ("77_1", None, "cuda:0")]


def test_large_groups_become_several_arrays(runs: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "LARGEST_ARRAY", 2)
    launcher_of(runs).start_together([(folder, Start(1, "cpu", 1)) for folder in submitted(runs, 5)])
    assert len(programs.calls("sbatch")) == 3


def test_a_question_that_hangs_holds_nothing_up(runs: Path, programs: Programs) -> None:
    for name in ("squeue", "sacct", "scancel"):
        (programs.folder / f"hang.{name}").touch()
    first, second = submitted(runs, 2)
    supervisor = Supervisor(runs, launcher=launcher_of(runs))
    supervisor.tick()
    (question,) = until(lambda: supervisor.tick() or programs.hung(), "a question that hangs")
    first.results.mkdir()
    atomic_write_json(first.ended_json, {"attempt": 1, "status": "finished", "cause": "", "ended": time.time()})
    code_file(runs, (read_json(first.process_json) or {})["ticket"]).write_text("0\n")
    requests.request_stop(runs, second.id)
    supervisor.tick()
    assert (read_json(first.exit_json) or {})["status"] == "finished"
    until(lambda: supervisor.tick() or len(programs.calls("scancel")) == 1, "a cancellation that hangs")
    assert question.is_running() and requests.status(runs, second.id).status == "stopping"
    assert len(programs.calls("sacct")) == 1  # no further questions pile up
    ages = time.time() - SILENT_S - 20
    os.utime(second.process_json, (ages, ages))
    supervisor.tick()
    assert requests.status(runs, second.id).status == "stopped"


def test_a_submission_that_hangs_is_given_up_and_the_next_ones_wait(runs: Path, programs: Programs,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "SUBMIT_S", 1)
    (programs.folder / "hang.sbatch").touch()
    launcher = launcher_of(runs)
    starts = [(folder, Start(1, "cpu", threads)) for folder, threads in zip(submitted(runs, 2), (1, 2), strict=True)]
    first, second = launcher.start_together(starts)
    assert "did not answer within 1 s" in str(first) and "did not answer the last time" in str(second)
    assert len(programs.calls("sbatch")) == 1 and not programs.hung() and not list(jobs_folder(runs).iterdir())
    (programs.folder / "hang.sbatch").unlink()
    assert isinstance(launcher.start_together(starts)[0], Exception) and len(programs.calls("sbatch")) == 1
    monkeypatch.setattr(launcher, "_next_submission", 0.0)
    assert not [one for one in launcher.start_together(starts) if isinstance(one, Exception)]


@pytest.mark.parametrize(("said", "is_lost"), [("Unable to contact slurm controller", False), ("Invalid job id specified", True)])
def test_a_silent_job_is_lost_only_if_slurm_answers(runs: Path, programs: Programs, said: str, is_lost: bool) -> None:
    (folder,) = submitted(runs, 1)
    (programs.folder / "squeue").write_text(SCRIPT.format(folder=programs.folder, name="squeue") + f"echo {said} >&2\nexit 1\n")
    attempt = launcher_of(runs).start(folder, Start(1, "cpu", 1))
    ages = time.time() - SILENT_S - 20
    os.utime(folder.process_json, (ages, ages))
    assert attempt.end() is None  # Slurm has not answered
    watcher = slurm._SlurmJob.watcher
    until(lambda: not watcher._thread.is_alive() and programs.calls("squeue"), "the question has been asked")
    end = attempt.end()
    assert (end is not None and end.is_lost) == is_lost
