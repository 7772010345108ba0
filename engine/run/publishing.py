"""Creation of the folders of all runs of a launch: either all of them appear, or none. Imports no torch."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.files import atomic_write_json, sync
from engine.run.folder import RunFolder, check_id, read_json
from engine.run.values import flaw_in


def publish(runs: Path, records: Sequence[Mapping[str, Any]], key: str | None) -> list[str]:
    """Write the folders of all runs of a launch, and return their ids. Each folder is written under a temporary name first.

    Args:
        runs: folder of all runs.
        records: content of run.json for each run.
        key: text that identifies the launch; None for no such text. If an earlier launch used the same key, nothing is written,
            and the ids of the earlier launch are returned.

    Raises:
        FileExistsError: another run already has one of the ids. All new folders have been removed again.
        RunError: a record holds a value that no file can hold, or the folders cannot be written. All new folders have been
            removed again.
    """
    ids = [check_id(record["id"]) for record in records]
    if flaw := flaw_in(list(records)):
        raise RunError(f"The settings of a run must be text and numbers that a file can hold, and {flaw}; correct it and launch "
                       "again.")
    drafts: list[Path] = []
    published: list[Path] = []
    claimed = False
    try:
        for record in records:
            draft = runs / f".draft-{record['id']}-{secrets.token_hex(3)}"
            drafts.append(draft)
            (draft / "control").mkdir(parents=True)
            atomic_write_json(draft / "run.json", record)
        if key is not None:
            earlier = _claim(runs, key, ids)
            if earlier is not None:
                return earlier
            claimed = True
        for position in _in_order_of_appearance(records):
            drafts[position].rename(runs / ids[position])
            published.append(runs / ids[position])
        sync(runs)
        return ids
    except OSError as problem:
        for folder in published:
            shutil.rmtree(folder, ignore_errors=True)
        if claimed and key is not None:  # frees the key, so that it does not return the ids of runs that do not exist
            _key_file(runs, key).unlink(missing_ok=True)
        if problem.errno in (errno.EEXIST, errno.ENOTEMPTY):  # a rename never replaces the folder of a run
            raise FileExistsError(problem.errno, problem.strerror) from None
        raise RunError(f"The run could not be written to {runs} ({problem.strerror or problem}); nothing was launched: "
                       "free some space or make the folder writable.") from None
    finally:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)


def _in_order_of_appearance(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the positions of the records in the order in which their folders may appear.

    Followers come first, in reverse order. No follower can start before the run that it follows exists, so the launch can still
    be removed on an error. The runs that can start at once come last, in the order in which they will start.
    """
    new = {record["id"] for record in records}
    follows = [record.get("parent") in new for record in records]
    positions = range(len(records))
    return [*(one for one in reversed(positions) if follows[one]), *(one for one in positions if not follows[one])]


def _key_file(runs: Path, key: str) -> Path:
    """Return the path of the file that stores the ids of the runs launched with `key` (a text that identifies a launch)."""
    return runs / "control" / "keys" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _claim(runs: Path, key: str, ids: list[str]) -> list[str] | None:
    """Store `ids` as the ids of the runs launched with `key`, unless an earlier launch has used the key.

    Args:
        runs: folder of all runs.
        key: text that identifies the launch.
        ids: ids of the runs of this launch.

    Returns:
        None if the key is new; otherwise the ids of the earlier launch.

    Raises:
        RunError: the key was used, but the runs of the earlier launch do not exist.
    """
    path = _key_file(runs, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.parent / f".{secrets.token_hex(8)}"
    mine.write_text(json.dumps({"ids": ids}))
    try:
        for _ in range(2):
            try:
                os.link(mine, path)  # unlike a rename, this fails if the name is taken
                return None
            except FileExistsError:
                earlier = (read_json(path) or {}).get("ids", [])
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                if earlier and all(RunFolder(runs, run_id).exists() for run_id in earlier):
                    return list(earlier)
                time.sleep(0.02)
            path.unlink(missing_ok=True)  # the process that claimed the key died before it wrote the folders
        raise RunError(f"The launch token {key!r} was used, but its runs are not in {runs}; click Launch again.")
    finally:
        mine.unlink(missing_ok=True)
