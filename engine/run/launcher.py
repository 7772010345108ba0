"""How a worker process is started. Here: on this machine, detached, so that nobody's end is its end. Imports no torch."""

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
    """What one attempt of a run is given.

    Attributes:
        attempt: 1 for the first.
        device: "cpu" or "cuda:N".
        threads: CPU threads.
    """

    attempt: int
    device: str
    threads: int


class Launcher(Protocol):
    """Starts workers somewhere. `local` is the only one so far."""

    def start(self, folder: RunFolder, start: Start) -> subprocess.Popen[bytes]:
        """Starts one attempt and records it in process.json."""
        ...


class LocalLauncher:
    """A detached child process of the supervisor."""

    def start(self, folder: RunFolder, start: Start) -> subprocess.Popen[bytes]:
        """Starts the worker and writes process.json before the worker may do anything.

        The worker waits for one byte on a pipe. Were the supervisor killed before process.json is in place, the pipe
        closes and the worker ends without a trace, so a run can never have two workers or an unknown one.

        Raises:
            OSError: no process could be started or process.json not written; then no worker runs.
        """
        ours, theirs = os.pipe()
        command = [sys.executable, "-m", "engine.run.worker", "--runs", str(folder.runs), "--run", folder.id,
                   "--attempt", str(start.attempt), "--device", start.device, "--threads", str(start.threads),
                   "--go", str(ours)]
        # A waiting OpenMP thread that spins takes the core from the dashboard and the tests (measured: 4 to 6 times slower).
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
