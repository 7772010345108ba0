"""The state of a run. It is not stored, but computed on every call from the run's files and the process table.

A worker is alive if it holds the lock in its run's folder, or if the process recorded in process.json is alive. A process is
identified by its pid, the boot of the machine, and its start in ticks since that boot, which do not depend on the clock. The
cause of a worker's end comes from the first of these sources that exists:

1. exit.json, which the supervisor writes.
2. results/ended.json, which the worker writes.
3. Other files of the run, from which the cause is inferred.

Imports no torch.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import psutil

from engine.errors import RunError, in_sentence
from engine.run import locks
from engine.run.device import devices_of
from engine.run.folder import RunFolder, damage, read_json
from engine.run.queue import read_queue

STATUSES = ("queued", "running", "stopping", "stopped", "finished", "failed")
# Tolerance for comparing the start times of processes without start ticks: psutil derives them from the clock, which may be set.
START_TOLERANCE_S = 3.0
# Letters of the state of a process that has ended. Of a zombie, only the exit code is left, for its parent to collect.
ENDED = ("Z", "X", "x")
# A worker on another machine that shares the folder counts as alive if its heartbeat is this recent.
FRESH_HEARTBEAT_S = 15.0
# Causes of failures that came from outside the run: someone or something ended its process.
HOST_RESTARTED = "The host restarted during the run."
WORKER_GONE = "The worker was killed or crashed: its process ended without recording a cause."
KILLED_BY = "Killed by signal"  # a number follows
# A living worker that has written no event for this long is called silent. Its time left is then unknown.
SILENT_S = 60.0


@dataclass(frozen=True)
class RunState:
    """The state of a run at one moment.

    Attributes:
        status: "queued", "running", "stopping", "stopped", "finished" or "failed".
        cause: a sentence that says why the run failed or stopped, or what a queued run waits for; may be empty.
        since: time at which the status began, in unix seconds; None if unknown.
        pid: process id of the worker if it is alive on a machine; None if it is not, and for a job of a cluster.
        silent_s: seconds since the worker wrote its last event; None if the worker is not alive.
        can_stop: True if the run can be stopped.
        can_resume: True if the run can be resumed.
        attempt: number of the latest attempt (start of the worker); 0 before the first attempt.
        device: device of the latest attempt; empty before the first attempt and while the run is queued.
        started: time at which the latest attempt started, in unix seconds; None before the first attempt and while the run is
            queued.
    """

    status: str
    cause: str = ""
    since: float | None = None
    pid: int | None = None
    silent_s: float | None = None
    can_stop: bool = False
    can_resume: bool = False
    attempt: int = 0
    device: str = ""
    started: float | None = None

    @property
    def is_over(self) -> bool:
        """True if the run has stopped, finished or failed. Then nothing more happens unless the user resumes the run."""
        return self.status in ("stopped", "finished", "failed")


def ended_from_outside(cause: str) -> bool:
    """Return True if the cause of a failure is that the worker was killed or its host restarted.

    Such a failure is not the run's fault, so the run can be resumed. For a kill for lack of memory, the result is False.
    """
    return cause in (HOST_RESTARTED, WORKER_GONE) or cause.startswith(KILLED_BY)


@cache
def boot_id() -> str:
    """Return the id of the machine's current boot. After a restart, the same pid may belong to another process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"booted-{round(psutil.boot_time())}"


def identity(pid: int) -> dict[str, Any]:
    """Return the identity of a living process, as {"pid", "create_time", "boot_id", "start_ticks"}.

    "create_time" is the start time in unix seconds. "start_ticks" is the start in clock ticks since the boot; None if this system
    does not provide it.

    Raises:
        psutil.NoSuchProcess: the process has ended.
    """
    ticks, _ = _ticks_and_letter(pid)
    return {"pid": pid, "create_time": psutil.Process(pid).create_time(), "boot_id": boot_id(), "start_ticks": ticks}


def is_alive(process: dict[str, Any]) -> bool:
    """Return True if a process still runs on this machine.

    Args:
        process: identity of the process, as `identity` returns it. Additional keys are ignored.
    """
    if process.get("boot_id") != boot_id():
        return False
    try:
        pid = int(process["pid"])
        if process.get("start_ticks") is not None:
            ticks, letter = _ticks_and_letter(pid)
            return ticks == process["start_ticks"] and letter not in ENDED
        candidate = psutil.Process(pid)
        same = abs(candidate.create_time() - float(process["create_time"])) < START_TOLERANCE_S
        return bool(same and candidate.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _ticks_and_letter(pid: int) -> tuple[int | None, str]:
    """Return a process's start in clock ticks since the boot, and the letter of its state; (None, "") if they are not known."""
    try:
        # The name of the program, in parentheses, is the only field that may contain spaces.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return int(fields[19]), fields[0]
    except (OSError, IndexError, ValueError):
        return None, ""


def is_working(folder: RunFolder, process: dict[str, Any]) -> bool:
    """Return True if a worker still computes a run.

    Args:
        folder: folder of the run. Its lock reveals workers whose process ids are unknown here, such as those in other containers.
        process: content of process.json, which describes the latest attempt.
    """
    return locks.is_held(folder.lock) or is_alive(process)


def is_in_cluster(folder: RunFolder, process: dict[str, Any]) -> bool:
    """Return True if an attempt is a job of a cluster whose worker has not recorded its end.

    Whether the job still exists, only the supervisor finds out. It then writes exit.json.
    """
    return "job" in process and (read_json(folder.ended_json) or {}).get("attempt") != process.get("attempt")


def is_copy(folder: RunFolder, process: dict[str, Any]) -> bool:
    """Return True if a folder is a copy of a run that another machine computes, and not resumed here since it was pulled.

    Args:
        folder: folder of the run.
        process: content of process.json, which describes the latest attempt; {} before the first.
    """
    pulled = read_json(folder.pulled_json)
    return pulled is not None and int(pulled.get("attempt", 0)) >= int(process.get("attempt", 0))


def modified(path: Path) -> float | None:
    """Return the modification time of `path` in unix seconds, or None if the path does not exist."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def is_waiting(folder: RunFolder, process: dict[str, Any] | None) -> bool:
    """Return True if the run waits for the supervisor to start it.

    A run waits if it was never started, or if the user has asked to resume it. A run with a stop request does not wait.

    Args:
        folder: folder of the run.
        process: content of process.json, which describes the latest attempt; None if the run was never started.
    """
    if folder.request("stop").exists():
        return False
    if process is None:
        return True
    request = read_json(folder.request("resume"))
    # A request for an earlier attempt was fulfilled by a supervisor that died before removing it.
    return request is not None and request.get("after_attempt") == process.get("attempt")


def compute(folder: RunFolder, *, with_parent: bool = True) -> RunState:
    """Return the state of the run in `folder`. The call is cheap: it reads a few small files and looks up one process.

    Args:
        folder: folder of an existing run.
        with_parent: True to let `cause` name the parent that a queued run waits for; False to leave it empty.

    Raises:
        RunError: there is no such run.
    """
    if not folder.run_json.exists():
        raise RunError(f"There is no run {folder.id!r} in {folder.runs}; `rampart runs` lists the ids.")
    try:
        status = os.stat(folder.run_json)
        parent = _parent_of(folder.runs, folder.id, status.st_mtime_ns, status.st_size, status.st_ino)
        process = read_json(folder.process_json)
        if is_waiting(folder, process):
            read_json(folder.environment_json)  # the next attempt needs it
            attempt = 0 if process is None else int(process.get("attempt", 0))
            cause = _waits_for(folder, parent) if with_parent else ""
            since = modified(folder.request("resume")) or modified(folder.run_json)
            return RunState("queued", cause, since, can_stop=True, attempt=attempt)
        if process is None:
            return RunState("stopped", "Stopped before it started.", modified(folder.request("stop")), can_resume=True)
        return _of_started(folder, process)
    except RunError as problem:
        return RunState("failed", str(problem), modified(folder.run_json))
    except Exception as problem:  # noqa: BLE001 - trouble of one run must not reach the others
        return RunState("failed", damage(folder.id, problem))


@lru_cache(maxsize=50_000)
def _parent_of(runs: Path, run_id: str, mtime_ns: int, size: int, inode: int) -> str | None:
    """Check the run.json of a run, and return its parent. A dashboard asks for the state of every active run all the time.

    Raises:
        RunError: run.json cannot be read or is not valid.
    """
    parent = RunFolder(runs, run_id).read_run().get("parent")
    return None if parent is None else str(parent)


def has_computed(folder: RunFolder) -> bool:
    """Return True if there is a heartbeat of the latest attempt. The supervisor may note only later that its job has begun."""
    # Both times come from the clock of the folder, which may be shared.
    return (modified(folder.heartbeat) or 0.0) >= (modified(folder.process_json) or 0.0)


def _of_started(folder: RunFolder, process: dict[str, Any]) -> RunState:
    attempt, device = int(process.get("attempt", 1)), ", ".join(devices_of(process))
    beat = modified(folder.heartbeat) or 0.0
    elsewhere = process.get("boot_id") != boot_id() and abs(time.time() - beat) < FRESH_HEARTBEAT_S
    started = process.get("started")
    ended = read_json(folder.exit_json)
    if (ended or {}).get("attempt") != attempt:
        ended = None
    if ended is None and (is_working(folder, process) or elsewhere or is_in_cluster(folder, process)):
        waits = "" if has_computed(folder) else str(process.get("waits") or "")
        status = "stopping" if folder.request("stop").exists() else "queued" if waits else "running"
        if waits:
            return RunState(status, waits, started, can_stop=True, attempt=attempt)
        news = modified(folder.events) or float(process.get("started", beat))
        return RunState(status, "", started, process.get("pid"), max(0.0, time.time() - news), can_stop=True, attempt=attempt,
                        device=device, started=started)
    status, cause, since = outcome(folder, process, ended)
    return RunState(status, cause, since, can_resume=status in ("stopped", "failed"), attempt=attempt, device=device,
                    started=started)


def outcome(folder: RunFolder, process: dict[str, Any], ended: dict[str, Any] | None) -> tuple[str, str, float | None]:
    """Return how and when an attempt (start of the worker) ended. Its worker must no longer be alive.

    Args:
        folder: folder of the run.
        process: content of process.json, which describes the attempt.
        ended: content of exit.json; None if the file is missing or describes another attempt.

    Returns:
        The status of the attempt: "stopped", "finished" or "failed".
        The reason for the status, as a sentence; may be empty.
        The time at which the status began, in unix seconds; None if unknown.
    """
    if ended is None:
        ended = read_json(folder.ended_json)
        if (ended or {}).get("attempt") != process.get("attempt"):
            ended = None
    if ended is not None:
        # Another launcher may write no status; infer it from the exit code.
        cause = str(ended.get("cause") or "")
        status = ended.get("status") or ("failed" if ended.get("code") else "stopped" if cause == "stopped" else "finished")
        return str(status), cause, ended.get("ended")
    since = modified(folder.heartbeat) or process.get("started")
    if folder.request("force").exists():
        return "stopped", "Stopped by force: the process group was killed.", since
    if process.get("boot_id") != boot_id() and "job" not in process:
        return "failed", HOST_RESTARTED, since
    return "failed", WORKER_GONE, since


def _waits_for(folder: RunFolder, parent: str | None) -> str:
    if not parent:
        return _pause(folder)
    above = RunFolder(folder.runs, parent)
    if not above.run_json.exists():
        return f"waits for {parent}, which does not exist here."
    status = compute(above, with_parent=False).status
    if status == "finished":
        return _pause(folder)
    which = {"failed": ", which failed", "stopped": ", which is stopped"}.get(status, "")
    return f"waits for {parent}{which}."


def _pause(folder: RunFolder) -> str:
    """Return a sentence that says that the queue is paused, if the pause keeps a run from starting; otherwise ""."""
    try:
        return in_sentence(read_queue(folder.runs).hold(folder.id))
    except RunError:
        return ""  # the supervisor keeps to the last decisions that it could read
