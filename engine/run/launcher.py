"""Launchers start worker processes: here on this machine, detached, to outlive the supervisor. Imports no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from engine.files import atomic_write_json
from engine.run.folder import RunFolder
from engine.run.state import identity

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Start:
    """The start parameters of one attempt of a run.

    Attributes:
        attempt: number of the attempt, from 1.
        device: "cpu" or "cuda:N".
        threads: CPU threads.
    """

    attempt: int
    device: str
    threads: int


class Launcher(Protocol):
    """A way to start workers. `LocalLauncher` is the only one so far."""

    def start(self, folder: RunFolder, start: Start) -> subprocess.Popen[bytes]:
        """Start one attempt and record it in process.json."""
        ...


class LocalLauncher:
    """Starts workers as detached child processes of the supervisor."""

    def start(self, folder: RunFolder, start: Start) -> subprocess.Popen[bytes]:
        """Start the worker, which waits until process.json is written.

        The worker waits for one byte on a pipe. If the supervisor is killed before process.json is in place, the pipe closes
        and the worker exits without a trace. So a run never has two workers or an unrecorded one.

        Raises:
            OSError: the process could not be started, or process.json could not be written; no worker is left running.
        """
        ours, theirs = os.pipe()
        command = [sys.executable, "-m", "engine.run.worker", "--runs", str(folder.runs), "--run", folder.id,
                   "--attempt", str(start.attempt), "--device", start.device, "--threads", str(start.threads),
                   "--go", str(ours)]
        # An OpenMP thread that spins while it waits starves the dashboard and the tests (measured: 4 to 6 times slower).
        environment = os.environ | {"OMP_NUM_THREADS": str(start.threads), "OMP_WAIT_POLICY": "passive",
                                    "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONUNBUFFERED": "1"}
        try:
            with folder.log.open("ab") as log:
                worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          start_new_session=True, pass_fds=(ours,), cwd=CHECKOUT, env=environment)
            try:
                atomic_write_json(folder.process_json, {
                    "attempt": start.attempt, **identity(worker.pid), "started": time.time(), "device": start.device,
                    "threads": start.threads})
                os.write(theirs, b"g")
            except (OSError, psutil.Error):
                worker.kill()
                worker.wait()
                raise
            return worker
        finally:
            os.close(ours)
            os.close(theirs)
