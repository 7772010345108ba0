"""The end of a worker: the supervisor infers its cause and writes it to exit.json. Imports no torch."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.files import sync
from engine.run import disk
from engine.run.folder import RunFolder, read_json
from engine.run.state import KILLED_BY, outcome

LAST_LINES = 20


@dataclass
class Worker:
    """A worker process that this supervisor watches.

    Attributes:
        folder: folder of the run.
        process: content of process.json, which describes the worker.
        child: the worker as a child process; None if an earlier supervisor started the worker.
        oom_kills: result of the function `oom_kills` when this supervisor began to watch the worker. A higher result after the
            worker's end means that memory ran out.
    """

    folder: RunFolder
    process: dict[str, Any]
    child: subprocess.Popen[bytes] | None
    oom_kills: int


def oom_kills() -> int:
    """Return the number of processes that the kernel has killed in this process's control group because memory ran out.

    Return 0 if the number cannot be read.
    """
    try:
        lines = Path("/sys/fs/cgroup/memory.events").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0


def cause_of(code: int | None, folder: RunFolder, ran_out_of_memory: bool) -> tuple[str, str]:
    """Infer from the exit code why a worker has ended. This is needed if the worker has not written ended.json.

    Args:
        code: exit code of the worker; -N if signal N ended it. None if unknown.
        folder: folder of the run.
        ran_out_of_memory: True if the kernel killed a process for lack of memory while the worker ran.

    Returns:
        The status of the run.
        The cause, as a sentence.
    """
    if folder.request("force").exists():
        return "stopped", "Stopped by force: the process group was killed."
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        if -code == signal.SIGKILL and ran_out_of_memory:
            return "failed", "Out of memory: the kernel killed the worker (signal 9). Use fewer channels or smaller batches."
        return "failed", f"{KILLED_BY} {-code} ({name})."
    if code in (disk.DISK_FULL, disk.DISK_BROKEN):
        return "failed", disk.cause(code)
    last = (folder.last_lines(1) or ["log.txt is empty"])[-1]
    return "failed", f"Exit code {code}: {last}"


def bury(folder: RunFolder, process: dict[str, Any], code: int | None, ran_out_of_memory: bool) -> None:
    """Write exit.json with the status and the cause of a worker's end.

    The status and the cause come from ended.json if the worker has written this file. Otherwise they are inferred from the
    exit code or, without an exit code, from other files of the run.

    Args:
        folder: folder of the run.
        process: content of process.json.
        code: exit code of the worker; None if unknown.
        ran_out_of_memory: True if the kernel killed a process for lack of memory while the worker ran.
    """
    words = read_json(folder.ended_json) or {}
    if words.get("attempt") == process["attempt"]:
        status, cause = str(words.get("status")), str(words.get("cause") or "")
    elif code is not None:
        status, cause = cause_of(code, folder, ran_out_of_memory)
    else:
        status, cause, _ = outcome(folder, process, None)
    with contextlib.suppress(OSError):
        sync(folder.events)  # a killed worker has not done so
    folder.write_json(folder.exit_json, {
        "attempt": process["attempt"], "code": code, "status": status, "cause": cause, "ended": time.time(),
        "last_lines": folder.last_lines(LAST_LINES)})
    if status == "stopped":
        # The request is fulfilled. `resume` also removes it, in case no supervisor was running.
        folder.request("force").unlink(missing_ok=True)
