"""The bell: a folder in which requests tell the supervisor which runs to look at, so that it need not look at all of them.

A request is written into the folder of its run and takes effect without the bell as well, only later: the supervisor looks at all
runs in turn. Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engine.run.folder import ID_PATTERN, check_id


def ring(runs: Path, run_id: str) -> None:
    """Tell the supervisor of the runs folder `runs` that there is a request for a run. A full disk is no error."""
    folder = runs / "control" / "bell"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / check_id(run_id)).touch()


def rung(runs: Path) -> set[str]:
    """Return the ids of the runs for which `ring` has been called since the last call of this function."""
    folder = f"{runs}/control/bell"
    try:
        names = [name for name in os.listdir(folder) if ID_PATTERN.fullmatch(name)]
    except OSError:
        return set()
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/{name}")
    return set(names)
