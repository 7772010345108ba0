"""The report of `rampart doctor`: whether this machine has what Rampart needs, and what is missing. Imports no torch."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from engine import queueing, requests
from engine.data import fetching
from engine.errors import RunError
from engine.files import LEAST_FREE_BYTES, free_bytes
from engine.requests import runs_root
from engine.run import device
from engine.search.methods.registry import METHODS
from engine.space.compiled import build as kernels

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report on this machine.

    Attributes:
        subject: name of the thing examined, for example "disk".
        found: state of the subject, for example "12.3 GB free".
        good: True if Rampart can work with this state.
        advice: advice to the user if the state is not good.
    """

    subject: str
    found: str
    good: bool
    advice: str = ""


def doctor(*, runs: Path | str | None = None) -> list[Finding]:
    """Return a report on this machine: the packages, devices, datasets and disk space that Rampart needs.

    Torch is not imported. A separate process asks torch for GPUs.

    Args:
        runs: folder of all runs; None for the default.
    """
    return list(_findings(runs_root(runs)))


def _search_step(gpu: bool) -> str:
    """Return a phrase that says which implementation of the search step this machine uses, and why.

    On a machine without a GPU, the call compiles the kernels if they are not compiled yet.

    Args:
        gpu: True if torch can use a GPU.
    """
    if gpu:
        return "merged PyTorch operations under CUDA graphs, since there is a GPU"
    reason = kernels.unavailable()
    if reason is not None:
        return f"plain PyTorch operations, several times slower than compiled kernels. {reason}"
    return f"kernels compiled by {kernels.compiler_version(kernels.compiler())} for this processor"


def _findings(root: Path) -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()} ({sys.executable})", sys.version_info >= (3, 11),
                  "Python 3.11 or newer is needed.")
    for package in ("torch", "torchattacks", "streamlit", "duckdb", "plotly"):
        try:
            yield Finding(package, metadata.version(package), True)
        except metadata.PackageNotFoundError:
            yield Finding(package, "not installed", False, "Run `make setup`.")
    gpus = device.gpus()
    yield Finding("search step", _search_step(bool(gpus)), True)
    yield Finding("device", ", ".join(gpus) if gpus else "CPU (no GPU that the installed torch can use)", True)
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Finding("threads", f"{device.cores()} cores" + (f"; OMP_NUM_THREADS={threads}" if threads else ""), True)
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    yield Finding("chromium", chromium or "not on the path (only the browser tests need it)", True, "Run `make setup`.")
    datasets = ", ".join(one.name if one.present else f"{one.name} (not here)" for one in fetching.presences())
    yield Finding("datasets", datasets, True)
    yield Finding("methods", ", ".join(METHODS), True)
    folder = next(path for path in (root, *root.parents) if path.exists())
    free = free_bytes(root)
    yield Finding("disk", f"{free / 2**30:.1f} GB free for {root}", free >= LEAST_FREE_BYTES, "Free some space.")
    yield Finding("runs folder", str(root), folder.is_dir() and os.access(folder, os.W_OK),
                  f"Make {folder} writable or choose another (--runs DIR).")
    yield from _launchers(root)
    pid = requests.supervisor_pid(root)
    yield Finding("supervisor", f"process {pid}" if pid else "none now; a launch starts it", True)


def _launchers(root: Path) -> Iterator[Finding]:
    """Yield a finding for each launcher: the use of its devices, or what it lacks. Only the chosen one must be usable."""
    try:
        listed = queueing.launchers(root)
    except RunError as problem:
        yield Finding("launcher", str(problem), False, "Choose a launcher: rampart queue launcher NAME.")
        return
    for one in listed:
        yield Finding(f"launcher {one.name}", ("chosen; " if one.is_chosen else "") + (one.missing or queueing.devices_text(one)),
                      not (one.is_chosen and one.missing), "Or choose another launcher: rampart queue launcher NAME.")
