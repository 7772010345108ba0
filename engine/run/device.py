"""The devices of this machine and their assignment to runs. By default, a device has at most one run at a time.

Imports no torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

CPU_SLOTS = RUNS_PER_GPU = 1


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


@cache
def gpus() -> tuple[str, ...]:
    """Return the names of the GPUs that the installed torch can use: ("cuda:0", ...).

    If the machine has an NVIDIA device, the first call takes seconds, because a separate process has to import torch.
    """
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return ()
    question = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    try:
        answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, timeout=120, check=True)
        return tuple(f"cuda:{index}" for index in range(int(answer.stdout.split()[-1])))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ()


def free_device(wanted: str, busy: Iterable[str], cpu_slots: int = CPU_SLOTS, runs_per_gpu: int = RUNS_PER_GPU) -> str | None:
    """Return the device that a run may use now, or None if it has to wait.

    Args:
        wanted: "auto", "cpu", "cuda" or "cuda:N". "auto" means any GPU, or the CPU on a machine without GPUs. A GPU that does not
            exist is returned nevertheless, so that the run fails with a message instead of waiting forever.
        busy: devices of the living workers, one entry per worker.
        cpu_slots: number of runs that may use the CPU at the same time.
        runs_per_gpu: number of runs that may use one GPU at the same time. A run gets the GPU with the fewest runs.
    """
    busy = list(busy)
    if uses_cpu(wanted):
        return "cpu" if busy.count("cpu") < cpu_slots else None
    candidates = gpus() if wanted in ("auto", "cuda") else (wanted,)
    device = min(candidates or ("cuda:0",), key=busy.count)
    return device if busy.count(device) < runs_per_gpu else None


def uses_cpu(wanted: str) -> bool:
    """Return True if a run with this setting `device` uses the CPU on this machine."""
    return wanted == "cpu" or (wanted == "auto" and not gpus())
