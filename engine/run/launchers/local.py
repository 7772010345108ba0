"""The launcher that starts workers on this machine, detached from the supervisor, so that they outlive it. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from engine.errors import RunError
from engine.files import open_to_append
from engine.run import device, locks
from engine.run.folder import RunFolder
from engine.run.launchers.contract import End, Start
from engine.run.launchers.spare import PROGRAM, Spare, free_memory
from engine.run.state import FRESH_HEARTBEAT_S, boot_id, identity, is_alive, is_working, modified

CHECKOUT = Path(__file__).resolve().parents[3]
# Free memory without which no spare worker is started, and without which it ends. It takes 0.3 GB.
SPARE_NEEDS_BYTES, SPARE_ENDS_BYTES = 2_000_000_000, 1_000_000_000
SPARE_LOOK_S = 3.0  # seconds between two looks at the spare
SPARE_AFTER_S = 1.0  # a spare starts after this time, because between two runs of a study nothing computes for a moment
# An OpenMP thread that spins while it waits takes the CPU from the dashboard and the tests, which become 4 to 6 times slower
# (measured).
WORKER_VARIABLES = {"OMP_WAIT_POLICY": "passive", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONUNBUFFERED": "1"}


class LocalAttempt:
    """A worker on this machine.

    Attributes:
        child: the worker as a child process of this supervisor; None if an earlier supervisor started it.
    """

    def __init__(self, folder: RunFolder, process: dict[str, Any], child: subprocess.Popen[bytes] | None) -> None:
        """Begin to watch a worker.

        Args:
            folder: folder of the run.
            process: content of process.json, which describes the worker.
            child: the worker as a child process; None if it is not a child of this process.
        """
        self.folder, self.process, self.child = folder, process, child
        self._oom_kills = oom_kills()

    def waits(self) -> str:
        """Return "", because a worker starts at once."""
        return ""

    def end(self) -> End | None:
        """Return how the worker has ended, with its exit code if it was a child of this process; None if it is alive."""
        code = self.child.poll() if self.child is not None else None
        if code is None and (self.child is not None or is_working(self.folder, self.process)):
            return None
        if code == -signal.SIGKILL and oom_kills() > self._oom_kills:
            return End(code, "Out of memory: the kernel killed the worker (signal 9). Use fewer channels or smaller batches.")
        return End(code)

    def kill(self) -> None:
        """Kill the worker and its children, which form a process group."""
        if is_alive(self.process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(self.process["pid"]), signal.SIGKILL)


class LocalLauncher:
    """A launcher that starts workers on this machine, as detached child processes of the supervisor."""

    name = "local"
    _spare: Spare | None = None
    _next_look = 0.0  # value of `time.monotonic()` before which the spare is not looked at

    def resources(self) -> device.Resources:
        """Return the CPU and the GPUs of this machine. The first call takes seconds if there may be a GPU."""
        return device.of_this_machine()

    def expect(self, threads: int | None) -> bool:
        """Keep a spare worker while a run is expected to start soon, and end it afterwards. Return True if there is one.

        A machine with GPUs keeps none: a worker must know its GPU before it imports torch. A machine with little free memory
        keeps none either. Every few seconds, a spare that has died, has older code or another number of threads is replaced.

        Args:
            threads: number of CPU threads of the run, 0 for as many as the machine has; None if no run is expected.
        """
        now = time.monotonic()
        if threads is None:
            self._next_look = now + SPARE_AFTER_S
            self._end_spare()
        elif now >= self._next_look and not device.gpus():
            self._next_look = now + SPARE_LOOK_S
            variables, free = variables_of(Start(1, "cpu", threads or self.resources().threads)), free_memory()
            if self._spare is not None and (free < SPARE_ENDS_BYTES or not self._spare.suits(variables)):
                self._end_spare()
            if self._spare is None and free > SPARE_NEEDS_BYTES:
                self._spare = Spare(variables)
        return self._spare is not None

    def _end_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.end()

    def start(self, folder: RunFolder, start: Start) -> LocalAttempt:
        """Start a worker and record it in process.json. The worker computes nothing before it is recorded.

        The worker inherits the lock of the run's folder and holds it as long as it runs.

        The worker first waits for one byte on a pipe. If the supervisor is killed before process.json is written, the pipe
        closes, and the worker exits without having written anything. Therefore a run never has two workers, and every worker that
        computes is recorded.

        Raises:
            RunError: another worker holds the lock of the run's folder, or the folder holds links or special files.
            OSError: the process could not be started, or process.json could not be written. No worker is left running.
            psutil.Error: the worker died before it was recorded.
        """
        folder.check_files()
        lock = locks.take(folder.lock)
        if lock is None:
            raise RunError(f"Another worker still computes run {folder.id}; it starts when that one has ended.")
        ours, theirs = os.pipe()
        try:
            with os.fdopen(open_to_append(folder.log, folder.path), "ab") as log:
                worker = self._spare_worker(folder, start, log=log.fileno(), go=ours, lock=lock.descriptor)
                worker = worker or subprocess.Popen(
                    [*self.program(folder, start), "--go", str(ours), "--lock", str(lock.descriptor)], stdin=subprocess.DEVNULL,
                    stdout=log, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(ours, lock.descriptor), cwd=CHECKOUT,
                    env=os.environ | variables_of(start))
            try:
                process = start.record(self.name) | identity(worker.pid)
                folder.write_json(folder.process_json, process)
                os.write(theirs, b"g")
            except (OSError, psutil.Error):
                worker.kill()
                worker.wait()
                raise
            return LocalAttempt(folder, process, worker)
        finally:
            lock.close()
            os.close(ours)
            os.close(theirs)

    def _spare_worker(self, folder: RunFolder, start: Start, **descriptors: int) -> subprocess.Popen[bytes] | None:
        """Let the spare compute a run, and return its process; None if there is no spare, or if it does not suit the run."""
        spare = self._spare
        with contextlib.suppress(OSError):
            if spare is not None and spare.suits(variables_of(start)):
                worker = spare.become_worker(self.program(folder, start)[len(PROGRAM):], **descriptors)
                self._spare = None
                return worker
        self._end_spare()
        return None

    def program(self, folder: RunFolder, start: Start) -> list[str]:
        """Return the command of a worker, without the descriptors that it inherits. The worker sees its GPU as "cuda:0",
        and the others of the run as "cuda:1" and so on.
        """
        return worker_command(folder, start, "cuda:0" if visible(start.device) else start.device)

    def reconnect(self, folder: RunFolder, process: dict[str, Any]) -> LocalAttempt | None:
        """Return the worker that process.json records; None if it may live on another machine that shares the folder."""
        if (not is_working(folder, process) and process.get("boot_id") != boot_id()
                and time.time() - (modified(folder.heartbeat) or 0.0) < FRESH_HEARTBEAT_S):
            return None
        return LocalAttempt(folder, process, None)


def worker_command(folder: RunFolder, start: Start, device: str) -> list[str]:
    """Return the command that starts a worker, for a process whose working folder is `CHECKOUT`.

    `device` is the device as the worker sees it.
    """
    return [*PROGRAM, "--runs", str(folder.runs), "--run", folder.id,
            "--attempt", str(start.attempt), "--device", device, "--threads", str(start.threads),
            *(["--processes", str(start.processes)] if start.processes > 1 else [])]


def variables_of(start: Start) -> dict[str, str]:
    """Return the environment variables of a worker, besides those of the supervisor."""
    return WORKER_VARIABLES | {"OMP_NUM_THREADS": str(start.threads)} | visible(start.device, *start.others)


def visible(*names: str) -> dict[str, str]:
    """Return the environment variable that hides all other GPUs; {} for a CPU, and if a GPU does not exist.

    The GPUs of `device.gpu_table` are those that this process sees. If CUDA_VISIBLE_DEVICES is set, a number counts within it.
    """
    if not set(names) <= set(device.gpus()):
        return {}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [int(name.partition(":")[2]) for name in names]
    return {"CUDA_VISIBLE_DEVICES": ",".join(seen.split(",")[number].strip() if seen else str(number) for number in numbers)}


def oom_kills() -> int:
    """Return the number of processes that the kernel has killed in this process's control group because memory ran out.

    Return 0 if the number cannot be read.
    """
    try:
        lines = Path("/sys/fs/cgroup/memory.events").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0


def local_launcher(runs: Path, settings: Mapping[str, Any]) -> LocalLauncher:
    """Return the launcher `local`, for the registry. It has no settings, and is the same for all runs folders."""
    return LocalLauncher()
