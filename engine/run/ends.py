"""The end of an attempt: the supervisor infers its cause and writes it to exit.json. Imports no torch."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import Any

from engine.files import make_folder, sync
from engine.run import disk
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import Attempt, End
from engine.run.state import KILLED_BY, outcome

LAST_LINES = 20
FORCED = "Stopped by force: the process group was killed."


@dataclass
class Worker:
    """A worker that this supervisor watches.

    Attributes:
        folder: folder of the run.
        process: content of process.json, which describes the worker.
        attempt: the worker as its launcher sees it.
        is_killed: True if this supervisor has killed the worker, as the user has asked.
    """

    folder: RunFolder
    process: dict[str, Any]
    attempt: Attempt
    is_killed: bool = False


def cause_of(end: End, folder: RunFolder) -> tuple[str, str]:
    """Infer why an attempt has ended. This is needed if its worker has not written ended.json.

    Args:
        end: the end, with a cause or an exit code.
        folder: folder of the run.

    Returns:
        The status of the run.
        The cause, as a sentence.
    """
    code = end.code
    if folder.request("force").exists():
        return "stopped", FORCED
    if end.cause:
        return "failed", end.cause
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        return "failed", f"{KILLED_BY} {-code} ({name})."
    if code in (disk.DISK_FULL, disk.DISK_BROKEN):
        return "failed", disk.cause(code)
    last = (folder.last_lines(1) or ["log.txt is empty"])[-1]
    return "failed", f"Exit code {code}: {last}"


def bury(worker: Worker, end: End) -> None:
    """Write exit.json with the status and the cause of a worker's end.

    The status and the cause come from ended.json if the worker has written this file. Otherwise they come from the launcher, are
    inferred from the exit code or, without an exit code, from other files of the run. A run whose machine was lost is queued
    again, unless the user has asked to stop it.
    """
    folder, process = worker.folder, worker.process
    words = read_json(folder.ended_json) or {}
    is_stopped = folder.request("stop").exists()
    is_told = words.get("attempt") == process["attempt"]
    if is_told:
        status, cause = str(words.get("status")), str(words.get("cause") or "")
    elif process.get("waits") and is_stopped:
        status, cause = "stopped", "Stopped before it started."
    elif worker.is_killed:  # perhaps a job that waited when the user stopped it, and began just then
        status, cause = "stopped", FORCED
    elif end.code is not None or end.cause:
        status, cause = cause_of(end, folder)
    else:
        status, cause, _ = outcome(folder, process, None)
    # A cluster that takes a machine away asks the worker to stop first, which the worker may have recorded.
    if end.is_lost and not is_stopped and (not is_told or status == "stopped"):
        status, cause = "failed", end.cause
        make_folder(folder.control, folder.path)
        # The request comes before exit.json, so that nobody sees a failed run in between.
        folder.write_json(folder.request("resume"), {"at": time.time(), "after_attempt": process["attempt"]})
    with contextlib.suppress(OSError):
        sync(folder.events)  # a killed worker has not done so
    folder.write_json(folder.exit_json, {
        "attempt": process["attempt"], "code": end.code, "status": status, "cause": cause, "ended": time.time(),
        "last_lines": folder.last_lines(LAST_LINES)})
    if status == "stopped":
        # The request is fulfilled. `resume` also removes it, in case no supervisor was running.
        folder.request("force").unlink(missing_ok=True)
