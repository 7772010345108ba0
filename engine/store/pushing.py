"""From a run's folder to a store, on the machine that computes the run. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine import requests
from engine.errors import RunError
from engine.files import open_to_read
from engine.run.folder import RunFolder, read_json
from engine.run.state import compute, is_copy, is_working
from engine.store.objects import DOCUMENTS, FILE, FOLDERS, PART_BYTES, REQUESTS, TRIES, VERSION, Store, Version, sha256


def push(runs: Path, run_id: str, store: Store) -> bool:
    """Copy what has changed in a run's folder to the store, and carry out the requests to stop that are there for its attempt.

    A run that was pulled, and has not been resumed here since, is left alone: another machine computes it.

    Returns:
        True if a new version was written.

    Raises:
        RunError: the store cannot be used, the run's files cannot be read, or the store has a later attempt.
    """
    folder = RunFolder(runs, run_id)
    process = read_json(folder.process_json) or {}
    state = None if is_working(folder, process) else _state(folder)
    if not folder.exists() or is_copy(folder, process) or (state and store.pushed.get(run_id) == state):
        return False
    newest = store.newest(run_id)
    number, before = newest or (0, Version(0))
    for attempt in range(TRIES):
        try:
            version, sources = read_folder(folder, before)
            if version != before or newest is None:
                _upload(store, run_id, number, before, version, sources)
            break
        except FileNotFoundError as problem:  # a checkpoint has just been renamed
            if attempt == TRIES - 1:
                raise RunError(f"The files of run {run_id} must stay while they are read ({problem}); push again.") from None
        except OSError as problem:
            raise RunError(f"The files of run {run_id} must be readable to be pushed ({problem}).") from None
    _carry_out(store, folder, version.attempt)
    store.pushed[run_id] = state
    return newest is None or version != before


@dataclass(frozen=True)
class Source:
    """Where the content of an object is: a file from one byte to another, or to its end."""

    path: Path
    first: int = 0
    end: int | None = None

    def read(self) -> bytes:
        """Return the content.

        Raises:
            FileNotFoundError: the file does not exist any more.
        """
        with open_to_read(self.path) as file:
            file.seek(self.first)
            return file.read(-1 if self.end is None else self.end - self.first)


def read_folder(folder: RunFolder, before: Version) -> tuple[Version, dict[str, Source]]:
    """Read the state of a run's folder.

    Args:
        folder: the run's folder.
        before: the version of the folder in the store.

    Returns:
        The version of the folder.
        {name of an object: where its content is}.

    Raises:
        RunError: the store has a later attempt, or events that are in the store have changed here.
        OSError: a file cannot be read, or has just been renamed.
    """
    process = read_json(folder.process_json) or {}
    attempt, working = int(process.get("attempt", 0)), is_working(folder, process)
    if before.attempt > attempt:
        raise RunError(f"Attempt {attempt} of run {folder.id} must be the latest to be pushed, and the store has attempt "
                       f"{before.attempt}; pull the run, or remove it from the store.")
    files = {path: hash_of(folder.path / path) for path in _paths(folder)}
    parts = _parts(folder, before)  # read last, so that they cover every checkpoint
    sources = {name: Source(folder.path / path) for path, name in files.items()}
    sources |= {name: Source(folder.events, first, end) for first, end, name in parts}
    return Version(attempt, working, before.beats + 1 if working else 0, tuple(parts), files), sources


def _paths(folder: RunFolder) -> list[str]:
    names = [*DOCUMENTS, *(f"{name}/{one.name}" for name in FOLDERS if (folder.path / name).is_dir()
                           for one in (folder.path / name).iterdir())]
    return sorted(name for name in names if FILE.fullmatch(name) and (folder.path / name).is_file())


def _state(folder: RunFolder) -> object:
    """Return a value that changes with the files of a run. Files may be gone meanwhile, and then it is None."""
    try:
        return [(name, one.st_mtime_ns, one.st_size, one.st_ino) for name in [*_paths(folder), "events.jsonl"]
                if (folder.path / name).exists() for one in [os.stat(folder.path / name)]]
    except FileNotFoundError:
        return None


def hash_of(path: Path) -> str:
    """Return the hash of a file. It is computed again when the file has changed."""
    status = os.stat(path)
    return _hash(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=100_000)
def _hash(path: Path, mtime_ns: int, size: int, inode: int) -> str:
    return sha256(Source(path).read())


def _parts(folder: RunFolder, before: Version) -> list[tuple[int, int, str]]:
    """Return the parts of events.jsonl, which end with complete lines. Of those in the store, only the last are read again."""
    closed = [part for part in before.events if part[1] - part[0] >= PART_BYTES]
    start = closed[-1][0] if closed else 0
    try:
        data = Source(folder.events, start).read()
    except FileNotFoundError:
        data = b""
    data = data[:data.rfind(b"\n") + 1]
    for first, end, name in before.events:
        if first >= start and sha256(data[first - start:end - start]) != name:
            raise RunError(f"The events of run {folder.id} must only grow, and bytes {first} to {end} are not those in the "
                           "store; another machine has computed the run. Pull it, or remove it from the store.")
    parts, first = list(closed), closed[-1][1] if closed else 0
    while first < start + len(data):
        at = first - start
        end = start + (data.find(b"\n", at + PART_BYTES - 1) + 1 or len(data))
        parts.append((first, end, sha256(data[at:end - start])))
        first = end
    return parts


def _upload(store: Store, run_id: str, number: int, before: Version, version: Version, sources: Mapping[str, Source]) -> None:
    """Write the objects that the store lacks, then the version, and remove what neither this version nor the one before names.

    Raises:
        FileNotFoundError: a file has changed since its hash was computed.
    """
    stored = set(store.names(f"{run_id}/objects"))
    for name in sorted(version.objects - (before.objects & stored)):  # what no version names may be half-written
        data = sources[name].read()
        if sha256(data) != name:
            raise FileNotFoundError(f"{sources[name].path.name} has changed")
        store.put(f"{run_id}/objects/{name}", data)
    text = version.to_bytes()
    store.put(f"{run_id}/versions/{number + 1:09d}-{sha256(text)}.json", text)
    _clean_up(store, run_id, stored - version.objects - before.objects, number)


def _clean_up(store: Store, run_id: str, objects: Collection[str], number: int) -> None:
    """Remove objects that no version names, and versions older than `number`, which may still be read."""
    for name in objects:
        store.remove(f"{run_id}/objects/{name}")
    for name in store.names(f"{run_id}/versions"):
        if (match := VERSION.fullmatch(name)) and int(match[1]) < number:
            store.remove(f"{run_id}/versions/{name}")


def _carry_out(store: Store, folder: RunFolder, attempt: int) -> None:
    """Stop or kill the run if another machine has asked for it during this attempt. Remove requests for earlier attempts."""
    for name in store.names(f"{folder.id}/requests"):
        about, _, what = name.partition("-")
        if not about.isdecimal() or what not in REQUESTS:
            continue
        if int(about) < attempt:
            store.remove(f"{folder.id}/requests/{name}")
        elif int(about) == attempt and not folder.request(what).exists() and compute(folder).can_stop:
            (requests.force_stop if what == "force" else requests.request_stop)(folder.runs, folder.id)
