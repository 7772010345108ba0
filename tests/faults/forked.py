"""Workers as forks of a process that has loaded their modules, so that an attempt takes no seconds, with faults of their own.

The worker of a `ForkLauncher` runs the same code as one of the supervisor, in a process of its own, in the same kind of session
and under the same lock. Before it begins, it may plant faults: `failing_calls` makes its system calls fail.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
import torch._dynamo.convert_frame
import torch.distributed.tensor

from engine import requests
from engine.attack import builders
from engine.run import after_attacks, locks, loop_attack, loop_retrain, loop_search, worker
from engine.run.folder import RunFolder
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalAttempt, LocalLauncher
from engine.run.state import RunState, identity
from engine.run.supervisor import Supervisor
from tests.engine.run.processes import until

# Modules that workers load late, most of them for seconds. They are loaded once here instead.
LOADED = (loop_attack, loop_retrain, loop_search, after_attacks, builders, pyarrow.parquet, torch._dynamo.convert_frame,
          torch.distributed.tensor)
CRASHED_IN_FORK = 99
PATIENCE_S = 120.0
EVERY_S = 0.02


class Fork:
    """The process of a forked worker, with the part of `subprocess.Popen` that the supervisor uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, -N after signal N, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


@dataclass
class ForkLauncher(LocalLauncher):
    """A launcher whose workers are forks of this process.

    Attributes:
        plant: function that each worker calls before it begins, to plant faults.
        forks: the workers so far.
    """

    plant: Callable[[], None] = lambda: None
    forks: list[Fork] = field(default_factory=list)

    def start(self, folder: RunFolder, start: Start) -> LocalAttempt:
        """Start a worker as `LocalLauncher` does."""
        folder.check_files()
        lock = locks.take(folder.lock)
        assert lock is not None
        go, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._compute(folder, start, lock, go)
        lock.close()
        os.close(go)
        self.forks.append(Fork(pid))
        process = {"attempt": start.attempt, **identity(pid), "started": time.time(), "device": start.device,
                   "threads": start.threads}
        folder.write_json(folder.process_json, process)
        os.write(write_end, b"g")
        os.close(write_end)
        return LocalAttempt(folder, process, self.forks[-1])  # type: ignore[arg-type]  # a Fork polls like a Popen

    def _compute(self, folder: RunFolder, start: Start, lock: locks.Lock, go: int) -> None:
        """Be the worker, and never return."""
        code = CRASHED_IN_FORK
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.setsid()
            log = os.open(folder.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            torch.set_num_threads(1)
            self.plant()
            code = worker.main(["--runs", str(folder.runs), "--run", folder.id, "--attempt", str(start.attempt), "--device",
                                start.device, "--threads", str(start.threads), "--go", str(go), "--lock", str(lock.descriptor)])
        except Exception:  # noqa: BLE001 - as Python's own end of a process
            traceback.print_exc()
            code = worker.CRASHED
        finally:
            os._exit(code)


def compute_until_over(runs: Path, run_id: str, plant: Callable[[], None] = lambda: None,
                       meanwhile: Callable[[], object] = lambda: None) -> RunState:
    """Let a supervisor with forked workers work until a run is over, and return the state of the run.

    Args:
        runs: folder of all runs.
        run_id: id of a waiting run.
        plant: function that plants faults in the worker.
        meanwhile: function that is called after each tick of the supervisor.
    """
    launcher = ForkLauncher(plant)
    supervisor = Supervisor(runs, launcher=launcher)

    def is_over() -> RunState | None:
        supervisor.tick()
        meanwhile()
        state = requests.status(runs, run_id)
        return state if state.is_over and not supervisor.workers else None

    found: RunState = until(is_over, f"{run_id} is over", PATIENCE_S, EVERY_S)
    return found


class FailingCalls:
    """System calls that write and that fail, or kill the process, for files below a folder."""

    NAMES = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "utime", "ftruncate")
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def __init__(self, folder: Path, count: Path, *, at: int | None, error: int = 0, lasting: bool = False) -> None:
        """Describe which calls fail.

        Args:
            folder: folder of the files.
            count: file into which every call writes its name, so that another process can count them.
            at: number of the first call that fails, from 0; None for no failure.
            error: error number of a failing call; 0 to kill the process before the call.
            lasting: True if all later calls fail as well.
        """
        self.folder, self.count, self.at, self.error, self.lasting = str(folder), count, at, error, lasting
        self.calls = 0

    def plant(self) -> None:
        """Replace the functions of the module `os` in this process."""
        self._log = os.open(self.count, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._write = os.write
        for name in self.NAMES:
            setattr(os, name, self._failing(name, getattr(os, name)))

    def _failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any, **named: Any) -> Any:
            if (name != "open" or arguments[1] & self.WRITING) and self._is_inside(arguments[0], named):
                number, self.calls = self.calls, self.calls + 1
                self._write(self._log, f"{name} {arguments[0]}\n".encode())
                if self.at is not None and (number == self.at or (self.lasting and number > self.at)):
                    if not self.error:
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise OSError(self.error, os.strerror(self.error))
            return call(*arguments, **named)
        return failing

    def _is_inside(self, target: Any, named: dict[str, Any]) -> bool:
        descriptor = target if isinstance(target, int) else next((named[one] for one in ("dir_fd", "src_dir_fd") if one in named),
                                                                 None)
        try:
            place = os.fspath(target) if descriptor is None else os.readlink(f"/proc/self/fd/{descriptor}")
        except (OSError, TypeError):
            return False
        return str(place).startswith(self.folder)


def calls_of(count: Path) -> Iterator[str]:
    """Yield the calls that a worker with `FailingCalls` has made."""
    yield from count.read_text().splitlines()
