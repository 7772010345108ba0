"""The launcher that submits each attempt of a run as a job of a Slurm cluster, through submitit.

The runs folder must be shared with the machines of the cluster (`engine.run.launchers.jobs`).

* Slurm never requeues a job by itself. If a job was pre-empted, lost its node, or came to its time limit, the supervisor submits
  the next attempt, which continues from the last checkpoint.
* A job gets SIGTERM `GRACE_S` seconds before its time limit, upon which its worker writes a checkpoint and leaves.

Nothing that a job has pickled is read. Imports no torch.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import submitit
from submitit.slurm.slurm import SlurmInfoWatcher

from engine.errors import RunError
from engine.run.device import Device, Resources
from engine.run.folder import RunFolder
from engine.run.launchers.contract import End, Start
from engine.run.launchers.jobs import SILENT_S, UNKNOWN, JobAttempt, job_command, jobs_folder
from engine.run.launchers.local import CHECKOUT
from engine.run.state import FRESH_HEARTBEAT_S, modified

GRACE_S = 90
ASK_S = 30  # seconds between two questions to Slurm, each about all jobs
KILL_AGAIN_S = 5.0
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED")
ALIVE = (*WAITING, "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "SPECIAL_EXIT")
# States of jobs whose machine was lost or taken away. submitit's local executor calls a killed job INTERRUPTED.
LOST = {"NODE_FAIL": "Its node failed.", "BOOT_FAIL": "Its node did not start.", "PREEMPTED": "It was pre-empted.",
        "REVOKED": "It was revoked.", "INTERRUPTED": "All its processes were killed."}
# Prints JobID|State|NodeList of the jobs $0. squeue forgets a job some minutes after its end, and a cluster without accounting
# has no sacct, so both are asked. The last line about a job counts.
QUESTION = ('echo "JobID|State|NodeList"; sacct -n -o JobID,State,NodeList --parsable2 -j "$0" 2>/dev/null; '
            'squeue -h -t all -o "%i|%T|%N" -j "$0" 2>/dev/null; true')


class _Watcher(SlurmInfoWatcher):
    """Asks Slurm about all jobs at once. submitit's own asks only sacct, and only every 10 minutes."""

    def _make_command(self) -> list[str] | None:
        jobs = self._registered - self._finished
        return ["sh", "-c", QUESTION, ",".join(sorted(jobs))] if jobs else None


class _SlurmJob(submitit.SlurmJob[int]):
    watcher = _Watcher(delay_s=ASK_S)


class _SlurmExecutor(submitit.SlurmExecutor):
    job_class = _SlurmJob


class SlurmAttempt(JobAttempt):
    """A job of a cluster, which computes one attempt of a run."""

    WAITING, ALIVE, CANCELLED, cluster = WAITING, ALIVE, "CANCELLED", "Slurm"

    def __init__(self, folder: RunFolder, process: dict[str, Any], job: submitit.Job[int], minutes: int) -> None:
        """Begin to watch a job.

        Args:
            folder: folder of the run.
            process: content of process.json, which describes the attempt.
            job: the job.
            minutes: time limit of the job.
        """
        super().__init__(folder, process)
        self.job, self.minutes = job, minutes
        self.patience_s = FRESH_HEARTBEAT_S if isinstance(job, submitit.LocalJob) else SILENT_S
        self._next_kill = 0.0

    def why_waiting(self) -> str:
        """Return that the job waits in the cluster's queue, as a sentence."""
        return waiting_text(self.job_id)

    def why_taken_away(self, state: str) -> str:
        """Return why the cluster has asked the worker to stop, as a sentence."""
        return LOST.get(state, "It came to its time limit or was asked to stop.")

    def clean(self) -> None:
        """Delete the files by which submitit runs the job."""
        for path in (self.job.paths.submitted_pickle, self.job.paths.result_pickle, self.job.paths.stdout, self.job.paths.stderr,
                     self.job.paths.submission_file):
            path.unlink(missing_ok=True)

    def kill(self) -> None:
        """Cancel the job. Its worker also ends by itself when it finds control/force."""
        self._is_killed = True
        if time.monotonic() >= self._next_kill:
            self._next_kill = time.monotonic() + KILL_AGAIN_S
            if isinstance(self.job, submitit.LocalJob):
                self._kill_here()
                return
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                # A worker that hangs does not answer the SIGTERM with which Slurm begins to cancel a job.
                subprocess.run(["scancel", "--signal=KILL", "--full", self.job.job_id], check=False, capture_output=True)
                self.job.cancel(check=False)
                self.job.get_info(mode="force")

    def _kill_here(self) -> None:
        """Kill the processes of a job of submitit's local executor, whose id is that of its first process."""
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(int(self.job.job_id))
            if str(jobs_folder(self.folder.runs)) in first.cmdline():
                for process in (first, *first.children(recursive=True)):
                    process.kill()

    def end_without_word(self, state: str) -> End | None:
        """Return the end of a job whose worker has left no trace, from Slurm's word; None if it may be alive."""
        name = f"Slurm job {self.job.job_id}"
        if state in LOST and not self.is_asked_to_end:
            return self.lost(LOST[state])
        if state in ("TIMEOUT", "DEADLINE"):
            saved = modified(self.folder.checkpoint / "last.pt") or 0.0
            if saved >= (modified(self.folder.process_json) or 0.0):
                return self.lost("It came to its time limit.")
            return End(None, f"{name} came to its time limit of {self.minutes} minutes before the first checkpoint; choose a "
                       "longer one: rampart queue launcher slurm --set minutes=N.")
        if state == "OUT_OF_MEMORY":
            return End(None, "Out of memory: Slurm ended the job. Set memory_gb of the launcher higher, or use fewer channels or "
                       "smaller batches.")
        if state == "CANCELLED":
            return End(None, f"{name} was cancelled.")
        if state in ("COMPLETED", "FINISHED", "FAILED", *LOST):
            last = _last_line(self.job.paths.stderr)
            return End(None, f"{name} ended without a word of its worker.{f' The last line of its log: {last}.' if last else ''}")
        return self.end_of_unknown()

    def state(self) -> str:
        """Return the state of the job in Slurm's words, or `UNKNOWN`."""
        words = self.job.state.split()  # such as "CANCELLED by 1000"
        return words[0].upper() if words and words[0].isupper() and words[0] != "NO" else UNKNOWN


class SlurmLauncher:
    """A launcher that submits each attempt as a job."""

    name = "slurm"

    def __init__(self, runs: Path, settings: Mapping[str, Any]) -> None:
        """Prepare to submit jobs.

        Args:
            runs: folder of all runs, which the machines of the cluster share.
            settings: {name: value} of all settings of the launcher.
        """
        self.runs, self.settings = runs, settings
        self.is_local = settings["cluster"] == "local"

    def resources(self) -> Resources:
        """Return the kinds of device of the cluster, each with the number of jobs that may be submitted at the same time."""
        jobs = int(self.settings["jobs"])
        each = f"{self.settings['threads']} cores and {self.settings['memory_gb']} GB of a node"
        devices = (Device("cpu", each, slots=jobs), *(
            [Device("cuda:0", f"1 GPU, {each}", slots=jobs)] if self.settings["gpus"] else []))
        return Resources(devices, int(self.settings["threads"]), is_one_machine=False)

    def start(self, folder: RunFolder, start: Start) -> SlurmAttempt:
        """Submit a job and record it in process.json. Its worker computes nothing before it is recorded.

        Raises:
            RunError: the cluster refuses the job, or the run's folder holds links or special files.
            OSError: process.json could not be written. The job is cancelled.
        """
        folder.check_files()
        ticket = secrets.token_hex(8)
        command = job_command(folder, start, ticket)
        try:
            job = self._executor(folder, start).submit(subprocess.call, command)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as problem:
            raise RunError(f"Slurm must accept a job of the run, and it does not ({' '.join(str(problem).split())[:300]}); check "
                           "the settings of the launcher: rampart queue launcher.") from None
        process = start.record(self.name) | {"job": job.job_id, "cluster": self.settings["cluster"], "ticket": ticket,
                                             "waits": waiting_text(job.job_id)}
        try:
            folder.write_json(folder.process_json, process)
        except OSError:
            job.cancel(check=False)
            raise
        return SlurmAttempt(folder, process, job, int(self.settings["minutes"]))

    def reconnect(self, folder: RunFolder, process: dict[str, Any]) -> SlurmAttempt:
        """Return the job that process.json records.

        Raises:
            RunError: process.json names no job.
        """
        job_id = str(process.get("job"))
        if not job_id.isdecimal() or not str(process.get("ticket")).isalnum():
            raise RunError(f"process.json of run {folder.id} must name a job and a ticket, got {job_id!r:.40}; stop the run.")
        kind = submitit.LocalJob if process.get("cluster") == "local" else _SlurmJob
        return SlurmAttempt(folder, process, kind(jobs_folder(self.runs), job_id), int(self.settings["minutes"]))

    def _executor(self, folder: RunFolder, start: Start) -> submitit.Executor:
        """Return an executor for a job of one attempt."""
        place, gpus = jobs_folder(self.runs), 0 if start.device == "cpu" else max(
            int(self.settings["gpus"]), start.processes)
        place.mkdir(parents=True, exist_ok=True)
        if self.is_local:
            local = submitit.LocalExecutor(place)
            local.update_parameters(timeout_min=self.settings["minutes"], gpus_per_node=gpus)
            return local
        slurm = _SlurmExecutor(place)
        chosen = {name: self.settings[name] for name in ("partition", "account", "qos", "constraint") if self.settings[name]}
        if gpus:
            chosen["gpus_per_node"] = gpus
        slurm.update_parameters(
            **chosen, job_name=f"rampart-{folder.id}", time=self.settings["minutes"], cpus_per_task=start.threads,
            mem=f"{self.settings['memory_gb']}GB",
            additional_parameters={"no-requeue": True, "signal": f"TERM@{GRACE_S}", "chdir": str(CHECKOUT)})
        return slurm


def waiting_text(job_id: str) -> str:
    """Return the sentence about a job whose worker has not begun."""
    return f"Slurm job {job_id} waits in the queue of the cluster."


def _last_line(path: Path) -> str:
    """Return the last line of a job's own log, in which Slurm and the shell write errors; "" if there is none."""
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip() and "submitit" not in line]
    except OSError:
        return ""
    return lines[-1].rstrip(".")[:200] if lines else ""
