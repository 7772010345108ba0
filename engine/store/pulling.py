"""From a store to the copy of a run, on a machine that does not compute the run. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import RunError
from engine.files import atomic_write_bytes, make_folder, open_to_append, touch
from engine.run.events import cut_torn_tail
from engine.run.folder import RunFolder, check_id, read_json
from engine.run.state import compute, is_copy
from engine.store.objects import DOCUMENTS, REQUESTS, TRIES, Store, Version, sha256
from engine.store.pushing import hash_of


def pull(runs: Path, run_id: str, store: Store) -> bool:
    """Bring the copy of a run up to date with the store, and leave this machine's requests to stop there.

    A run that is computed here is left alone, as is one that has been resumed here since it was pulled.

    Returns:
        True if a newer version was pulled.

    Raises:
        RunError: the store cannot be used, something in it is missing or damaged, or the run was resumed on two machines.
    """
    folder = RunFolder(runs, check_id(run_id))
    for attempt in range(TRIES):
        newest = store.newest(run_id)
        # A run that has not been started has no attempt. If it were copied, this machine would start it as well.
        if newest is None or newest[1].attempt == 0 or (folder.exists() and not folder.pulled_json.exists()):
            return False
        number, version = newest
        try:
            changed = _take(folder, store, number, version)
            break
        except RunError:
            # A push may have removed objects of an older version meanwhile.
            if attempt == TRIES - 1 or store.newest(run_id) == newest:
                raise
    if is_copy(folder, read_json(folder.process_json) or {}):
        _ask(folder, store, version)
    return changed


def _take(folder: RunFolder, store: Store, number: int, version: Version) -> bool:
    """Change the folder to a version, unless it has it. Return True if it was changed."""
    pulled, identity = read_json(folder.pulled_json) or {"number": 0, "attempt": 0}, sha256(version.to_bytes())
    here = int((read_json(folder.process_json) or {}).get("attempt", 0))
    if here > int(pulled["attempt"]) or folder.request("resume").exists():
        if version.attempt > int(pulled["attempt"]):
            raise RunError(f"Run {folder.id} must be resumed on one machine only, and both this one and another have resumed it; "
                           "move one of the two folders away.")
        return False
    if number < int(pulled["number"]) or identity == pulled.get("version"):
        return False
    make_folder(folder.runs, folder.runs.parent)
    make_folder(folder.path, folder.runs)
    folder.write_json(folder.pulled_json, pulled | {"attempt": version.attempt})
    if version.attempt > here:  # requests for the last attempt are no requests for this one
        for name in REQUESTS:
            folder.request(name).unlink(missing_ok=True)
    append_events(folder, store, version)
    for path in sorted(version.files, key=lambda path: DOCUMENTS.index(path) if path in DOCUMENTS else -1):
        _replace(folder, store, path, version.files[path])
    if "exit.json" not in version.files:
        folder.exit_json.unlink(missing_ok=True)
    if version.is_working:
        touch(folder.heartbeat, folder.path)
    folder.write_json(folder.pulled_json, {"number": number, "version": identity, "attempt": version.attempt})
    return True


def append_events(folder: RunFolder, store: Store, version: Version) -> None:
    """Append the events of a version that are not in the folder's events.jsonl.

    Raises:
        RunError: a part is missing or damaged in the store, or the folder has other events.
    """
    descriptor = open_to_append(folder.events, folder.path)
    try:
        size = cut_torn_tail(descriptor)  # of an interrupted call
        for first, end, name in version.events:
            if end <= size:
                continue
            data = store.read(folder.id, name, f"Bytes {first} to {end} of the events")
            if len(data) != end - first or os.pread(descriptor, size - first, first) != data[:size - first]:
                raise RunError(f"The events of run {folder.id} must be those in the store as far as they go, and bytes {first} "
                               f"to {size} are not; move the folder away and pull again.")
            os.write(descriptor, data[size - first:])
            size = end
        if version.events and size > version.events[-1][1]:
            raise RunError(f"The events of run {folder.id} must be those in the store, and the folder has {size} bytes where the "
                           f"store has {version.events[-1][1]}; move the folder away and pull again.")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(folder: RunFolder, store: Store, path: str, name: str) -> None:
    """Replace a file of the folder by an object, unless it has that content."""
    target = folder.path / path
    if target.is_file() and hash_of(target) == name:
        return
    data = store.read(folder.id, name, path)
    if target.parent != folder.path:
        make_folder(target.parent, folder.path)
    atomic_write_bytes(target, data, inside=folder.path)


def _ask(folder: RunFolder, store: Store, version: Version) -> None:
    """Leave the requests to stop that were made here in the store, each once, while the run is not over."""
    asked = [name for name in REQUESTS if folder.request(name).exists()]
    if not asked or compute(folder).is_over:
        return
    known = store.names(f"{folder.id}/requests")
    for name in asked:
        if f"{version.attempt}-{name}" not in known:
            store.put(f"{folder.id}/requests/{version.attempt}-{name}", b"{}")
