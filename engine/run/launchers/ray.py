"""The launcher that computes each attempt of a run as a job of a Ray cluster, whose nodes share the runs folder.

A job is an actor of Ray, with its CPUs, GPU and memory, that runs our worker as a child process (Ray's Jobs API). This was chosen
over tasks and actors of our own because then the supervisor would have to be a driver:

* A driver's tasks end with it. A job belongs to the cluster, so it outlives the supervisor, and another one finds it by its id.
* A driver needs the cluster's version of Ray and of Python, and opens ports on its machine. The Jobs API is HTTP with a time
  limit (`engine.run.launchers.ray_jobs`), so this machine needs no Ray at all.
* If a node dies, Ray ends the actor, and with it our worker and its children.

A worker finds its run, its requests and its record in the runs folder (`engine.run.launchers.jobs`). The id of the job contains
its ticket and is recorded before the job is submitted, so `start` never waits for the cluster, and a supervisor that is killed in
between leaves a record from which the next one submits the same job. Imports no torch, and no Ray.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.run.device import Device, Resources
from engine.run.folder import RunFolder
from engine.run.launchers.contract import End, Start
from engine.run.launchers.jobs import JobAttempt, job_command, jobs_folder
from engine.run.launchers.ray_jobs import CHOOSE, PENDING, RUNNING, STOPPED, Cluster, Job, cluster_at, unreachable
from engine.run.state import FRESH_HEARTBEAT_S, has_computed, is_working, modified

# A worker has ended, but its last files are not here yet: clients of NFS see new files late.
LATE_S = 60.0
SUBMITTING = "Its job is being submitted to the Ray cluster."
STARTED_LATE = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
# Failures of a job that has computed which mean that its node, its actor or the head was lost.
LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", "JOB_SUPERVISOR_ACTOR_START_FAILURE")


class RayAttempt(JobAttempt):
    """A job of a Ray cluster, which computes one attempt of a run."""

    WAITING, ALIVE, CANCELLED, cluster = (PENDING,), (PENDING, RUNNING), STOPPED, "Ray"

    def __init__(self, folder: RunFolder, process: dict[str, Any], ray: Cluster, submission: dict[str, Any]) -> None:
        """Begin to watch a job.

        Args:
            folder: folder of the run.
            process: content of process.json, which describes the attempt.
            ray: the chosen cluster.
            submission: what is submitted if the cluster does not know the job and its worker has not begun.
        """
        super().__init__(folder, process)
        self.ray = ray
        self.job = Job(self.job_id, None if self._has_begun else submission)
        if ray.address == process["cluster"]:  # an address in a run's folder gets no token
            ray.follow(self.job)

    def has_begun(self) -> bool:
        """Return True if the worker has begun. Then the job is never submitted again."""
        if super().has_begun():
            self.job.submission = None
        return self._has_begun

    def state(self) -> str:
        """Return the state of the job in Ray's words, or `UNKNOWN`."""
        return self.job.news.state

    def why_waiting(self) -> str:
        """Return whether the job waits for resources or for the cluster, as a sentence."""
        news = self.job.news
        return news.trouble or (waiting_text(self.job.submission) if news.state == PENDING else SUBMITTING)

    def why_taken_away(self, state: str) -> str:
        """Return why the worker was asked to stop, as a sentence."""
        return "Its node was shut down." if state == "FAILED" else "It was asked to stop."

    def kill(self) -> None:
        """Ask Ray to stop the job: SIGTERM to all its processes, and SIGKILL three seconds later."""
        self._is_killed = True
        self.ray.stop(self.job)

    def clean(self) -> None:
        """Ask no more about the job. Ray keeps it in its list."""
        self.ray.leave(self.job)

    def end_without_word(self, state: str) -> End | None:
        """Return the end of a job whose worker has left no trace, from Ray's word; None if it may be alive."""
        name, news = f"Ray job {self.job_id}", self.job.news
        if state in (STOPPED, PENDING):  # a job that waits is stopped as soon as Ray starts it
            return End(None, f"{name} was stopped.")
        if state == "SUCCEEDED" and time.monotonic() - news.at < LATE_S:
            return None
        if state == "FAILED":
            # Ray gives a node up that it does not reach. If the worker still beats, it goes on.
            return None if self._beats() else self._end_of_failed()
        if state == "SUCCEEDED":
            return End(None, f"{name} ended without a word of its worker. Its runs folder must be this one: {self.folder.runs}.")
        if self.has_begun():
            return self.end_of_unknown()
        # The cluster may have received a withdrawn job nevertheless. Then its worker finds that its attempt has ended.
        return End(None, f"{name} was withdrawn.") if self._is_killed else None

    def _beats(self) -> bool:
        return time.time() - (modified(self.folder.heartbeat) or 0.0) < FRESH_HEARTBEAT_S or is_working(self.folder, {})

    def _end_of_failed(self) -> End:
        news, is_lost = self.job.news, False
        said = next((line.strip() for line in reversed(news.message.splitlines()) if line.strip()), news.error)[:300]
        if "low on memory" in news.message:
            return End(None, "Out of memory: Ray ended the job, because its node ran low on memory. Set memory_gb of the "
                       "launcher higher, or use fewer channels or smaller batches.")
        if not self.is_asked_to_end:
            is_lost = (news.error == STARTED_LATE or "node has died" in news.message
                       or (news.error in LOST and has_computed(self.folder)))
        if is_lost:
            return self.lost("It waited longer for resources than Ray allows." if news.error == STARTED_LATE else
                             "Its node died." if "node has died" in news.message else said)
        return End(None, f"Ray job {self.job_id} failed without a word of its worker: {said}")


class RayLauncher:
    """A launcher that computes each attempt as a job of a Ray cluster."""

    name = "ray"

    def __init__(self, runs: Path, settings: Mapping[str, Any]) -> None:
        """Prepare to submit jobs. The cluster is not asked yet.

        Args:
            runs: folder of all runs, which the nodes of the cluster share.
            settings: {name: value} of all settings of the launcher.
        """
        self.runs, self.settings = runs, settings
        self.ray = cluster_at(str(settings["address"]).rstrip("/"))

    def resources(self) -> Resources:
        """Return the kinds of device of the cluster, each with the number of jobs that may be submitted at the same time."""
        jobs = int(self.settings["jobs"])
        each = f"{share(int(self.settings['threads']), int(self.settings['memory_gb']))} of a node"
        devices = (Device("cpu", each, slots=jobs), *(
            [Device("cuda:0", f"1 GPU, {each}", slots=jobs)] if self.settings["gpus"] else []))
        return Resources(devices, int(self.settings["threads"]), is_one_machine=False)

    def start(self, folder: RunFolder, start: Start) -> RayAttempt:
        """Record a job in process.json and begin to submit it. Its worker computes nothing before it is recorded.

        Raises:
            RunError: the run's folder holds links or special files.
            OSError: process.json could not be written. Nothing is submitted.
        """
        folder.check_files()
        jobs_folder(self.runs).mkdir(parents=True, exist_ok=True)
        ticket = secrets.token_hex(8)
        process = start.record(self.name) | {
            "job": job_of(folder, start.attempt, ticket), "cluster": self.ray.address, "ticket": ticket, "waits": SUBMITTING}
        folder.write_json(folder.process_json, process)
        return self._attempt(folder, process)

    def reconnect(self, folder: RunFolder, process: dict[str, Any]) -> RayAttempt | None:
        """Return the job that process.json records; None if it has not begun and is at a cluster that is not the chosen one.

        Raises:
            RunError: process.json names no job.
        """
        job_id, ticket = str(process.get("job")), str(process.get("ticket"))
        if not ticket.isalnum() or job_id != job_of(folder, int(process["attempt"]), ticket):
            raise RunError(f"process.json of run {folder.id} must name a job and its ticket, got {job_id!r:.80}; stop the run.")
        attempt = self._attempt(folder, process)
        if process.get("cluster") == self.ray.address or attempt.has_begun() or attempt.is_asked_to_end:
            return attempt
        elsewhere = (f"Its job was submitted to the Ray cluster {process.get('cluster')}. Choose this cluster again, or stop the "
                     "run.")
        if process.get("waits") != elsewhere:
            folder.write_json(folder.process_json, process | {"waits": elsewhere})
        return None

    def _attempt(self, folder: RunFolder, process: dict[str, Any]) -> RayAttempt:
        start = Start(int(process["attempt"]), str(process["device"]), int(process["threads"]), int(process.get("processes", 1)))
        return RayAttempt(folder, process, self.ray, self.submission(folder, process, start))

    def submission(self, folder: RunFolder, process: dict[str, Any], start: Start) -> dict[str, Any]:
        """Return what the Jobs API needs to know about a job that computes one attempt."""
        return {"submission_id": process["job"], "entrypoint": shlex.join(job_command(folder, start, str(process["ticket"]))),
                "entrypoint_num_cpus": start.threads, "entrypoint_num_gpus": 0 if start.device == "cpu" else start.processes,
                "entrypoint_memory": int(self.settings["memory_gb"]) * 2**30, "metadata": {"run": folder.id}}


def job_of(folder: RunFolder, attempt: int, ticket: str) -> str:
    """Return the id of the job that computes an attempt of a run."""
    return f"rampart-{folder.id}-{attempt}-{ticket}"


def waiting_text(submission: Mapping[str, Any] | None) -> str:
    """Return the sentence about a job that waits for the resources that its submission names."""
    if submission is None:
        return "Its job waits for a node of the Ray cluster."
    cpus, gpus, memory = (int(submission[f"entrypoint_{name}"]) for name in ("num_cpus", "num_gpus", "memory"))
    several = "" if gpus == 0 else "a GPU, " if gpus == 1 else f"{gpus} GPUs, "
    return f"Its job waits for a node of the Ray cluster with {several}{share(cpus, memory // 2**30)} free."


def share(cpus: int, memory_gb: int) -> str:
    """Return the share of a node that a job gets, for example "4 CPUs and 2 GB of memory". 0 GB means any."""
    return f"{cpus} CPU{'s' * (cpus != 1)}{f' and {memory_gb} GB of memory' if memory_gb else ''}"


def lacking(settings: Mapping[str, object]) -> str:
    """Return why no cluster answers under these settings, and what to do, as a sentence; "" if one answers."""
    address = str(settings["address"]).rstrip("/")
    return unreachable(address) if address else f"It needs the address of the dashboard of a Ray cluster: {CHOOSE}."
