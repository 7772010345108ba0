"""Launchers, which start the worker processes of runs.

`LocalLauncher` starts workers on this machine, detached from the supervisor, so that they continue if the supervisor dies.
Imports no torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from engine.errors import RunError
from engine.files import open_to_append
from engine.run import locks
from engine.run.folder import RunFolder
from engine.run.state import identity

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Start:
    """The parameters of one start of a run's worker. Each start is called an attempt.

    Attributes:
        attempt: number of the attempt, from 1.
        device: "cpu" or "cuda:N".
        threads: number of CPU threads.
    """

    attempt: int
    device: str
    threads: int


class Launcher(Protocol):
    """A way to start workers. `LocalLauncher` is the only implementation so far."""

    def start(self, folder: RunFolder, start: Start) -> subprocess.Popen[bytes]:
        """Start a worker for one attempt of a run, record the worker in process.json, and return the worker's process."""
        ...


class LocalLauncher:
    """A launcher that starts workers on this machine, as detached child processes of the supervisor."""

    def start(self, folder: RunFolder, start: Start) -> subprocess.Popen[bytes]:
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
        command = [sys.executable, "-m", "engine.run.worker", "--runs", str(folder.runs), "--run", folder.id,
                   "--attempt", str(start.attempt), "--device", start.device, "--threads", str(start.threads),
                   "--go", str(ours), "--lock", str(lock.descriptor)]
        # An OpenMP thread that spins while it waits takes the CPU from the dashboard and the tests, which become 4 to 6 times
        # slower (measured).
        environment = os.environ | {"OMP_NUM_THREADS": str(start.threads), "OMP_WAIT_POLICY": "passive",
                                    "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONUNBUFFERED": "1"}
        try:
            with os.fdopen(open_to_append(folder.log, folder.path), "ab") as log:
                worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          start_new_session=True, pass_fds=(ours, lock.descriptor), cwd=CHECKOUT, env=environment)
            try:
                folder.write_json(folder.process_json, {
                    "attempt": start.attempt, **identity(worker.pid), "started": time.time(), "device": start.device,
                    "threads": start.threads})
                os.write(theirs, b"g")
            except (OSError, psutil.Error):
                worker.kill()
                worker.wait()
                raise
            return worker
        finally:
            lock.close()
            os.close(ours)
            os.close(theirs)
