"""The state of a run, computed from its files and the process table each time it is asked for; never remembered.

A worker is alive when the process of process.json is: same pid, same start time, same boot of the machine. A worker that
is gone is explained by exit.json (the supervisor's words), else by results/ended.json (the worker's own last words), else
by what can be concluded. Imports no torch.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from engine.errors import RunError
from engine.run.folder import RunFolder, read_json

STATUSES = ("queued", "running", "stopping", "stopped", "finished", "failed")
# A start time is compared with this tolerance: psutil derives it from the wall clock, which may be adjusted.
START_TOLERANCE_S = 3.0
# Worker and reader may be on two machines that share the folder: a heartbeat this fresh means alive.
FRESH_HEARTBEAT_S = 15.0


@dataclass(frozen=True)
class RunState:
    """What is true of a run at this moment.

    Attributes:
        status: one of `STATUSES`.
        cause: a sentence: why it failed, what it waits for; empty when there is nothing to say.
        since: unix seconds at which the status began, as far as known.
        pid: process id of the living worker, else None.
        silent_s: seconds since the last event of a living worker, else None.
        can_stop: a stop request makes sense.
        can_resume: a resume request makes sense.
        attempt: number of the latest attempt; 0 before the first.
        device: device of the latest attempt; empty before the first.
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

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen unless somebody asks for it."""
        return self.status in ("stopped", "finished", "failed")


@cache
def boot_id() -> str:
    """Identity of this boot of the machine: pids of another boot mean nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"booted-{round(psutil.boot_time())}"


def identity(pid: int) -> dict[str, Any]:
    """What pins a living process down: pid, start time (unix seconds), boot id.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    return {"pid": pid, "create_time": psutil.Process(pid).create_time(), "boot_id": boot_id()}


def is_alive(process: dict[str, Any]) -> bool:
    """True when the process described by `identity` (with further keys, if any) still runs on this machine."""
    if process.get("boot_id") != boot_id():
        return False
    try:
        found = psutil.Process(int(process["pid"]))
        same = abs(found.create_time() - float(process["create_time"])) < START_TOLERANCE_S
        # A zombie has ended; only its parent has not looked yet.
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def modified(path: Path) -> float | None:
    """Modification time of `path` in unix seconds; None when it is not there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def is_waiting(folder: RunFolder, process: dict[str, Any] | None) -> bool:
    """True when the run asks to be started: never started yet, or resume requested for its latest attempt."""
    if folder.request("stop").exists():
        return False
    if process is None:
        return True
    request = read_json(folder.request("resume"))
    # A request that names an earlier attempt was fulfilled by a supervisor that died before removing it.
    return request is not None and request.get("after_attempt") == process.get("attempt")


def compute(folder: RunFolder, *, with_parent: bool = True) -> RunState:
    """The state of the run in `folder`. Costs a few `stat` calls and one look at the process table.

    Args:
        folder: an existing run.
        with_parent: False leaves out the sentence about a parent (used inside, for the parent itself).

    Raises:
        RunError: there is no such run.
    """
    if not folder.run_json.exists():
        raise RunError(f"There is no run {folder.id!r} in {folder.runs}; `rampart runs` lists the ids.")
    try:
        run = folder.read_run()
        process = read_json(folder.process_json)
        if is_waiting(folder, process):
            read_json(folder.environment_json)  # the next attempt needs it
            attempt = 0 if process is None else int(process.get("attempt", 0))
            cause = _waits_for(folder, run) if with_parent else ""
            since = modified(folder.request("resume")) or modified(folder.run_json)
            return RunState("queued", cause, since, can_stop=True, attempt=attempt)
        if process is None:
            return RunState("stopped", "Stopped before it started.", modified(folder.request("stop")), can_resume=True)
        return _of_started(folder, process)
    except RunError as problem:
        return RunState("failed", str(problem), modified(folder.run_json))
    except (TypeError, ValueError) as problem:
        return RunState("failed", f"process.json and exit.json of run {folder.id} must be what the supervisor wrote, and one of "
                                  f"them holds something else ({problem}); restore it or move the run's folder away.")


def _of_started(folder: RunFolder, process: dict[str, Any]) -> RunState:
    attempt, device = int(process.get("attempt", 1)), str(process.get("device", ""))
    beat = modified(folder.heartbeat) or 0.0
    elsewhere = process.get("boot_id") != boot_id() and time.time() - beat < FRESH_HEARTBEAT_S
    ended = read_json(folder.exit_json)
    if (ended or {}).get("attempt") != attempt:
        ended = None
    if ended is None and (elsewhere or is_alive(process)):
        news = modified(folder.events) or float(process.get("started", beat))
        status = "stopping" if folder.request("stop").exists() else "running"
        return RunState(status, "", process.get("started"), int(process["pid"]), max(0.0, time.time() - news),
                        can_stop=True, attempt=attempt, device=device)
    status, cause, since = outcome(folder, process, ended)
    return RunState(status, cause, since, can_resume=status in ("stopped", "failed"), attempt=attempt, device=device)


def outcome(folder: RunFolder, process: dict[str, Any], ended: dict[str, Any] | None) -> tuple[str, str, float | None]:
    """(status, cause, since) of an attempt whose worker is gone.

    Args:
        folder: the run.
        process: content of process.json.
        ended: content of exit.json when it speaks of this attempt, else None.
    """
    if ended is None:
        ended = read_json(folder.ended_json)
        if (ended or {}).get("attempt") != process.get("attempt"):
            ended = None
    if ended is not None:
        # A record without a status is that of a foreign launcher: the exit code tells.
        cause = str(ended.get("cause") or "")
        status = ended.get("status") or ("failed" if ended.get("code") else "stopped" if cause == "stopped" else "finished")
        return str(status), cause, ended.get("ended")
    since = modified(folder.heartbeat) or process.get("started")
    if folder.request("force").exists():
        return "stopped", "Stopped by force: the process group was killed.", since
    if process.get("boot_id") != boot_id():
        return "failed", "The host restarted while it ran.", since
    return "failed", "The worker was killed or crashed: its process is gone and left no last words.", since


def _waits_for(folder: RunFolder, run: dict[str, Any]) -> str:
    parent = run.get("parent")
    if not parent:
        return ""
    above = RunFolder(folder.runs, parent)
    if not above.run_json.exists():
        return f"waits for {parent}, which does not exist here."
    status = compute(above, with_parent=False).status
    if status == "finished":
        return ""
    which = {"failed": ", which failed", "stopped": ", which is stopped"}.get(status, "")
    return f"waits for {parent}{which}."
