"""The bell: a folder in which `ring` leaves the ids of runs that have new requests, so that the supervisor sees them at once.

The request itself is a file in the folder of the run. A request whose run is not in the bell also takes effect, but later,
because the supervisor looks at only a part of all runs at a time. A second file tells the supervisor that a launch is expected.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from engine.files import atomic_write_bytes, open_to_read
from engine.run.folder import ID_PATTERN, check_id
from engine.run.state import modified

EXPECTED_S = 60.0  # for this long after `expect_launch`, a launch is expected
MOST_DIGITS = 4  # of a number of threads


def ring(runs: Path, run_id: str) -> None:
    """Tell the supervisor of the runs folder `runs` that there is a request for a run. Disk errors are ignored."""
    folder = runs / "control" / "bell"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / check_id(run_id)).touch()


def rung(runs: Path) -> set[str]:
    """Return the ids of the runs for which `ring` has been called since the last call of this function. Empty the bell."""
    folder = f"{runs}/control/bell"
    try:
        names = [name for name in os.listdir(folder) if ID_PATTERN.fullmatch(name)]
    except OSError:
        return set()
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/{name}")
    return set(names)


def expect_launch(runs: Path, threads: int) -> None:
    """Tell the supervisor of the runs folder `runs` that a run is expected to start soon. Disk errors are ignored.

    Args:
        runs: folder of all runs.
        threads: number of CPU threads of the run; 0 for as many as the device gives.
    """
    with contextlib.suppress(OSError):
        (runs / "control").mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(runs / "control" / "expected", str(threads).encode(), inside=runs)


def expected_threads(runs: Path) -> int | None:
    """Return the `threads` of `expect_launch` if it was called within the last `EXPECTED_S` seconds, or else None."""
    path = runs / "control" / "expected"
    if abs(time.time() - (modified(path) or 0.0)) >= EXPECTED_S:
        return None
    try:
        with open_to_read(path) as file:
            content = file.read(MOST_DIGITS)
        return int(content) if content.isdigit() else None
    except OSError:
        return None
