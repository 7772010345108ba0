"""An attempt that computes as a job of a cluster whose machines share the runs folder: what Slurm and Ray have in common.

A worker takes no orders from the network: it finds its run, its requests and its record in the folder.

* process.json holds the id of the job and a random ticket. A worker starts only when it finds its own ticket there, and ends
  when it finds another. So a run has one worker, even if a supervisor is killed between submission and record, if the cluster
  runs a job twice, or if the file system of the runs folder has no locks.
* The shell around the worker writes the worker's exit code into a file. What the folder tells counts more than what the cluster
  tells, and is known sooner.
* If the cluster knows nothing of a job, the heartbeat decides.

Imports no torch.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import Attempt, End, Start
from engine.run.launchers.local import CHECKOUT, WORKER_VARIABLES, worker_command
from engine.run.state import has_computed, is_working, modified

# If the cluster knows nothing of a job, a heartbeat older than this means that its worker is gone. Clients of NFS see it late.
SILENT_S = 180.0
UNKNOWN = "UNKNOWN"
# Runs the worker, and writes its exit code to the file $0. Signals reach the worker itself; the shell stays to see its end.
SCRIPT = 'trap : TERM USR2; "$@"; echo $? > "$0"'


class JobAttempt(Attempt):
    """A job of a cluster, which computes one attempt of a run.

    Attributes:
        WAITING: the cluster's words for the state of a job that has not started.
        ALIVE: its words for the state of a job that waits or runs.
        CANCELLED: its words for the state of a job that somebody has cancelled.
        cluster: name of the kind of cluster, for sentences.
        patience_s: age in seconds of a heartbeat from which on a job is taken for lost if the cluster does not know it.
    """

    WAITING: ClassVar[Collection[str]]
    ALIVE: ClassVar[Collection[str]]
    CANCELLED: ClassVar[str]
    cluster: ClassVar[str]
    patience_s: float = SILENT_S

    def __init__(self, folder: RunFolder, process: dict[str, Any]) -> None:
        """Begin to watch a job.

        Args:
            folder: folder of the run.
            process: content of process.json, which describes the attempt.
        """
        self.folder, self.process = folder, process
        self.job_id = str(process["job"])
        self.code_file = code_file(folder.runs, str(process["ticket"]))
        self._has_begun = "waits" not in process
        self._is_killed = False
        self._end: End | None = None

    @abstractmethod
    def state(self) -> str:
        """Return the state of the job in the cluster's words, or `UNKNOWN`. The call is cheap and does not block."""

    @abstractmethod
    def end_without_word(self, state: str) -> End | None:
        """Return the end of a job whose worker has left no trace, from the cluster's word; None if it may be alive."""

    @abstractmethod
    def why_taken_away(self, state: str) -> str:
        """Return why a job has ended whose worker was asked to stop, but not by a user; as a sentence."""

    @abstractmethod
    def why_waiting(self) -> str:
        """Return what a job waits for whose worker has not begun; as a sentence."""

    @abstractmethod
    def clean(self) -> None:
        """Delete what the job has left outside its run's folder. It has ended."""

    def waits(self) -> str:
        """Return what the job waits for, as a sentence; "" if its worker has begun."""
        return "" if self.has_begun() else self.why_waiting()

    def has_begun(self) -> bool:
        """Return True if the worker has begun, as far as the folder and the cluster tell."""
        self._has_begun = self._has_begun or has_computed(self.folder) or self.state() not in (*self.WAITING, UNKNOWN)
        return self._has_begun

    def end(self) -> End | None:
        """Return how the job has ended, or None as long as its worker may compute."""
        if self._end is None and (end := self._found_end()) is not None:
            self._end = end
            self.code_file.unlink(missing_ok=True)
            self.clean()
        return self._end

    @property
    def is_asked_to_end(self) -> bool:
        """True if a user has asked for the end of this attempt."""
        return self._is_killed or self.folder.request("stop").exists() or self.folder.request("force").exists()

    def _found_end(self) -> End | None:
        words = read_json(self.folder.ended_json) or {}
        is_told = words.get("attempt") == self.process["attempt"]
        code = self._code()
        state = self.state()
        if code is None and not (is_told and not is_working(self.folder, {})):
            if state in self.ALIVE and not (state in self.WAITING and self._is_killed):
                return None
            return self.end_without_word(state)
        # The cluster asks a worker to stop when it takes the job's machine away.
        if is_told and words.get("status") == "stopped" and not self.is_asked_to_end:
            if state in self.ALIVE:
                return None  # the cluster soon tells why
            if state != self.CANCELLED:
                return self.lost(self.why_taken_away(state), code)
        return End(code)

    def end_of_unknown(self) -> End | None:
        """Return the end of a job of which the cluster knows nothing, once its heartbeat is old and no lock is held."""
        news = max(modified(self.folder.heartbeat) or 0.0, modified(self.folder.process_json) or 0.0)
        if time.time() - news < self.patience_s or is_working(self.folder, {}):
            return None
        if self.is_asked_to_end:
            return End(None, "Its job was cancelled.")
        return self.lost(f"{self.cluster} no longer knows it, and its heartbeat has stopped.")

    def lost(self, why: str, code: int | None = None) -> End:
        """Return the end of a job whose machine was lost or taken away, for the reason `why`."""
        return End(code, f"{self.cluster} job {self.job_id} was lost. {why}", is_lost=True)

    def _code(self) -> int | None:
        try:
            code = int(self.code_file.read_text())
        except (OSError, ValueError):
            return None
        return 128 - code if code > 128 else code  # a shell tells signal N as 128 + N


def jobs_folder(runs: Path) -> Path:
    """Return the folder of the files by which jobs are run. They are removed when the supervisor has seen a job's end."""
    return runs / "control" / "jobs"


def code_file(runs: Path, ticket: str) -> Path:
    """Return the file into which the job with a ticket writes the exit code of its worker."""
    return jobs_folder(runs) / f"{ticket}.code"


def job_command(folder: RunFolder, start: Start, ticket: str) -> list[str]:
    """Return the command of a job that computes one attempt."""
    variables: Mapping[str, str] = WORKER_VARIABLES | {"OMP_NUM_THREADS": str(start.threads)}
    return ["sh", "-c", SCRIPT, str(code_file(folder.runs, ticket)), "env", "-C", str(CHECKOUT),
            *(f"{name}={value}" for name, value in variables.items()), *worker_command(folder, start, start.device),
            "--ticket", ticket]
