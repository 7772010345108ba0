"""The record (control/supervisor.json) and the lock of a supervisor, which show whether it is alive. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.run import locks
from engine.run.folder import read_json
from engine.run.state import is_alive


def lock_of(runs: Path) -> Path:
    """Return the path of the file that the supervisor of the folder `runs` locks."""
    return runs / "control" / "supervisor.lock"


def take_lock(runs: Path) -> locks.Lock | None:
    """Take the lock of the folder `runs`, or return None if another supervisor holds it. Only one supervisor can hold it."""
    return locks.take(lock_of(runs), patience_s=0.0)


def record_of(runs: Path) -> Path:
    """Return the path of the record of the supervisor of the folder `runs`, which other processes read to find the supervisor."""
    return runs / "control" / "supervisor.json"


def living(runs: Path) -> dict[str, Any] | None:
    """Return the record of the supervisor of the folder `runs`, or None if no supervisor is alive.

    The supervisor is alive if the recorded process is alive or if a process holds the lock. The lock reveals a supervisor in
    another container, whose process id is unknown here. In a copy of a runs folder, the record names the supervisor of the
    original folder. Such a record stores the identity of another lock file, and its process does not count.
    """
    record = _read(runs)
    if not record:
        return None
    is_ours = record.get("lock") in (None, _file(lock_of(runs)))
    return record if (is_ours and is_alive(record)) or locks.is_held(lock_of(runs)) else None


def recorded_pid(runs: Path) -> object:
    """Return the process id in the record of the supervisor of the folder `runs`, alive or not; None without a record."""
    return _read(runs).get("pid")


def _read(runs: Path) -> dict[str, Any]:
    try:
        return read_json(record_of(runs)) or {}
    except RunError:
        return {}


def _file(path: Path) -> list[int] | None:
    try:
        return locks.identity_of(os.lstat(path))
    except OSError:
        return None
