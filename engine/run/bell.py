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

from engine.files import touch
from engine.run.folder import ID_PATTERN, check_id
from engine.run.state import modified

EXPECTED_S = 60.0  # for this long after `expect_launch`, a launch is expected


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


def expect_launch(runs: Path) -> None:
    """Tell the supervisor of the runs folder `runs` that a run is expected to start soon. Disk errors are ignored."""
    with contextlib.suppress(OSError):
        (runs / "control").mkdir(parents=True, exist_ok=True)
        touch(runs / "control" / "expected", runs)


def is_launch_expected(runs: Path) -> bool:
    """Return True if `expect_launch` was called within the last `EXPECTED_S` seconds."""
    return abs(time.time() - (modified(runs / "control" / "expected") or 0.0)) < EXPECTED_S
