"""The launcher that submits each attempt of a run as a job of a Slurm cluster, or as a task of a job array, through submitit.

The runs folder must be shared with the machines of the cluster (`engine.run.launchers.jobs`).

* Slurm never requeues a job by itself. If a job was pre-empted, lost its node, or came to its time limit, the supervisor submits
  the next attempt, which continues from the last checkpoint.
* Attempts that start in the same round with equal resources are tasks of one job array. Each has an id of its own, JOB_TASK,
  and everything that holds for a job holds for a task.
* A cluster that hangs holds the supervisor up for at most `SUBMIT_S` seconds in `SUBMIT_AGAIN_S`. Questions and cancellations run
  in threads, and a submission has a time limit, after which the launcher submits nothing for some minutes.
* A job gets SIGTERM `GRACE_S` seconds before its time limit, upon which its worker writes a checkpoint and leaves.

Nothing that a job has pickled is read. Imports no torch.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import submitit
from submitit.core.utils import DelayedSubmission
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
ANSWER_S = 60.0  # longest wait for an answer or a cancellation, in a thread
SUBMIT_S, SUBMIT_AGAIN_S = 20, 300.0  # longest wait for a submission, and the pause after one that took longer
TIMED_OUT = 124  # exit code of `timeout`
LARGEST_ARRAY = 500  # tasks; Slurm's own limit is 1000, unless the cluster has another
KILL_AGAIN_S = 5.0
NO_ANSWER = "NO_ANSWER"  # our word for the state of a job about which Slurm has not answered yet
WAITING = (NO_ANSWER, "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED")
ALIVE = (*WAITING, "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "SPECIAL_EXIT")
# States of jobs whose machine was lost or taken away. submitit's local executor calls a killed job INTERRUPTED.
LOST = {"NODE_FAIL": "Its node failed.", "BOOT_FAIL": "Its node did not start.", "PREEMPTED": "It was pre-empted.",
        "REVOKED": "It was revoked.", "INTERRUPTED": "All its processes were killed."}
JOB_ID = re.compile(r"[0-9]+(_[0-9]+)?")  # of a job, or of a task of an array


class _Watcher(SlurmInfoWatcher):
    """Asks Slurm about all jobs at once, in a thread. submitit's own asks only sacct, every 10 minutes, and waits for it."""

    def __init__(self, delay_s: int) -> None:
        super().__init__(delay_s)
        self._answered: set[str] = set()  # jobs about which Slurm has been asked, and has answered
        self._thread: threading.Thread | None = None

    def has_answered(self, job_id: str) -> bool:
        """Return True if Slurm has answered a question about the job, be it that it knows no such job."""
        return job_id in self._answered

    def ask_again(self) -> None:
        """Ask Slurm as soon as the state of a job is needed, because a job has just been cancelled."""
        self._last_status_check = 0.0

    def update(self) -> None:
        """Begin to ask Slurm, unless the last question has no answer yet."""
        self._last_status_check = time.time()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, args=(self._registered - self._finished,), daemon=True)
            self._thread.start()

    def _ask(self, jobs: set[str]) -> None:
        """Ask sacct, which some clusters lack, and squeue, which forgets a job some minutes after its end."""
        if not jobs:
            return
        wanted = ",".join(sorted({job_id.partition("_")[0] for job_id in jobs}))  # a job stands for all of its tasks
        told, _ = _answer(["sacct", "-n", "-o", "JobID,State,NodeList", "--parsable2", "-j", wanted])
        news, is_good = _answer(["squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%N", "-j", wanted])
        if is_good:  # the last line about a job counts
            self._info_dict = self._info_dict | self.read_info("\n".join(["JobID|State|NodeList", told, news]))
            self._answered = self._answered | jobs
        self._finished = self._finished | {job_id for job_id in jobs if self.is_done(job_id, mode="cache")}


def _answer(command: list[str]) -> tuple[str, bool]:
    """Return what a command of Slurm prints, and True if Slurm has answered. That it knows no such job is an answer as well."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return "", False
    return done.stdout, done.returncode == 0 or "Invalid job id" in done.stderr


class _SlurmJob(submitit.SlurmJob[int]):
    watcher = _Watcher(delay_s=ASK_S)


class _SlurmExecutor(submitit.SlurmExecutor):
    job_class = _SlurmJob

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        return ["timeout", str(SUBMIT_S), *super()._make_submission_command(submission_file_path)]

    def _internal_process_submissions(self, delayed_submissions: Sequence[DelayedSubmission]) -> list[submitit.Job[Any]]:
        """Submit one function as a job, or several as an array. submitit's own method has no time limit and leaves files."""
        pickles = [self.folder / f"{secrets.token_hex(16)}.pkl" for _ in delayed_submissions]
        if len(pickles) > 1:
            self.parameters["map_count"] = len(pickles)
        try:
            for one, path in zip(delayed_submissions, pickles, strict=True):
                one.set_timeout(self.parameters["time"], self.max_num_timeout)
                one.dump(path)
            job_id = self._submit_command(self._submitit_command_str).job_id
        except BaseException:
            for path in pickles:
                path.unlink(missing_ok=True)
            raise
        finally:
            for path in self.folder.glob(".submission_file_*.sh"):
                path.unlink()
        jobs = [_SlurmJob(self.folder, f"{job_id}_{task}" if len(pickles) > 1 else job_id) for task in range(len(pickles))]
        for job, path in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(path, "submitted_pickle")
        return list(jobs)


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
        # Slurm has a copy of the submission file, so that the other tasks of an array do not need it.
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
            threading.Thread(target=_cancel, args=(self.job_id,), daemon=True).start()

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
        if isinstance(self.job, _SlurmJob) and not self.job.watcher.has_answered(self.job_id):
            return NO_ANSWER
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
        self._next_submission = 0.0  # earliest time of a submission, after one that Slurm has not answered

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
        (outcome,) = self.start_together([(folder, start)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def start_together(self, starts: Sequence[tuple[RunFolder, Start]]) -> list[SlurmAttempt | Exception]:
        """Submit runs with equal resources as the tasks of job arrays, and record each task. Return its attempt or its error."""
        outcomes: dict[str, SlurmAttempt | Exception] = {}
        alike: dict[tuple[str, int, int], list[tuple[RunFolder, Start]]] = {}
        for folder, start in starts:
            try:
                folder.check_files()
                alike.setdefault((start.device, start.threads, start.processes), []).append((folder, start))
            except RunError as problem:
                outcomes[folder.id] = problem
        for group in alike.values():
            for first in range(0, len(group), LARGEST_ARRAY):
                outcomes |= self._submit(group[first:first + LARGEST_ARRAY])
        return [outcomes[folder.id] for folder, _ in starts]

    def _submit(self, group: Sequence[tuple[RunFolder, Start]]) -> dict[str, SlurmAttempt | Exception]:
        """Submit runs with equal resources, as a job or as one array. Return {run id: attempt or error}."""
        tickets = [secrets.token_hex(8) for _ in group]
        commands = [job_command(folder, start, ticket) for (folder, start), ticket in zip(group, tickets, strict=True)]
        try:
            if time.monotonic() < self._next_submission:
                raise RuntimeError("it did not answer the last time")
            jobs = self._executor(group).map_array(subprocess.call, commands)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as problem:
            return dict.fromkeys([folder.id for folder, _ in group], self._refusal(problem))
        return {folder.id: self._record(folder, start, job, ticket)
                for (folder, start), job, ticket in zip(group, jobs, tickets, strict=True)}

    def _refusal(self, problem: Exception) -> RunError:
        """Return the error of runs that could not be submitted. If Slurm has not answered, wait before the next submission."""
        words = " ".join(str(problem).split())
        if isinstance(problem.__cause__, subprocess.CalledProcessError) and problem.__cause__.returncode == TIMED_OUT:
            self._next_submission = time.monotonic() + SUBMIT_AGAIN_S
            words = f"it did not answer within {SUBMIT_S} s"
        return RunError(f"Slurm must accept a job of the run, and it does not ({words[:300]}); check the settings of the "
                        "launcher: rampart queue launcher.")

    def _record(self, folder: RunFolder, start: Start, job: submitit.Job[int], ticket: str) -> SlurmAttempt | Exception:
        """Record a submitted job in process.json. Return the attempt, or the error if it cannot be recorded."""
        process = start.record(self.name) | {"job": job.job_id, "cluster": self.settings["cluster"], "ticket": ticket,
                                             "waits": waiting_text(job.job_id)}
        attempt = SlurmAttempt(folder, process, job, int(self.settings["minutes"]))
        try:
            folder.write_json(folder.process_json, process)
        except OSError as problem:
            attempt.kill()
            return problem
        return attempt

    def reconnect(self, folder: RunFolder, process: dict[str, Any]) -> SlurmAttempt:
        """Return the job that process.json records.

        Raises:
            RunError: process.json names no job.
        """
        job_id = str(process.get("job"))
        if not JOB_ID.fullmatch(job_id) or not str(process.get("ticket")).isalnum():
            raise RunError(f"process.json of run {folder.id} must name a job and a ticket, got {job_id!r:.40}; stop the run.")
        kind = submitit.LocalJob if process.get("cluster") == "local" else _SlurmJob
        return SlurmAttempt(folder, process, kind(jobs_folder(self.runs), job_id), int(self.settings["minutes"]))

    def _executor(self, group: Sequence[tuple[RunFolder, Start]]) -> submitit.Executor:
        """Return an executor for runs with equal resources."""
        (folder, start), *others = group
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
            **chosen, job_name=f"rampart-{len(group)}-runs" if others else f"rampart-{folder.id}",
            array_parallelism=self.settings["running"] or len(group),
            time=self.settings["minutes"], cpus_per_task=start.threads,
            mem=f"{self.settings['memory_gb']}GB",
            additional_parameters={"no-requeue": True, "signal": f"TERM@{GRACE_S}", "chdir": str(CHECKOUT)})
        return slurm


def _cancel(job_id: str) -> None:
    """Cancel a job, or one task of an array. A worker that hangs does not answer the SIGTERM with which Slurm begins."""
    for command in (["scancel", "--signal=KILL", "--full", job_id], ["scancel", job_id]):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(command, check=False, capture_output=True, timeout=ANSWER_S)
    _SlurmJob.watcher.ask_again()


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
