"""An object store with copies of runs: what is in it, under which names, and how it is read and written.

The machine that computes a run pushes it: `pushing` copies what has changed in the run's folder to the store, and carries out the
requests to stop that it finds there. Another machine pulls it: `pulling` brings its copy of the folder up to date, and leaves its
own requests to stop in the store. On both sides, the folder stays the only record of the run. Both functions can be killed at
any moment and called again.

    STORE/RUN/objects/SHA256                 a part of events.jsonl or another file
    STORE/RUN/versions/NUMBER-SHA256.json    one state of the folder: which objects are its parts and files
    STORE/RUN/requests/ATTEMPT-NAME          a request to stop an attempt of the run

Objects and versions are named by the hash of their content. So they never change, are read once, and a damaged or half-written
one is noticed, whatever the store promises. A version is written after its objects.

Events are append-only: a part of at least `PART_BYTES` is closed and stays, and only the last part is replaced by a longer one.
Each part begins where the one before ends. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import fsspec

from engine.errors import RunError
from engine.run.folder import ID_PATTERN

SCHEMA = 1
FOLDERS = ("checkpoint", "results")
# In the order in which they are written, so that a run is never seen before its events, nor its end before its results.
DOCUMENTS = ("environment.json", "log.txt", "process.json", "exit.json", "run.json")
FILE = re.compile(rf"(?:{'|'.join(FOLDERS)})/[A-Za-z0-9][\w.-]{{0,100}}|{'|'.join(map(re.escape, DOCUMENTS))}")
VERSION = re.compile(r"([0-9]{9})-([0-9a-f]{64})\.json")
SHA256 = re.compile(r"[0-9a-f]{64}")
REQUESTS = ("stop", "force")
TRIES = 3  # the folder, or the store, may change while it is read
PART_BYTES = 1 << 20


@dataclass(frozen=True)
class Version:
    """One state of a run's folder.

    Attributes:
        attempt: number of the latest attempt; 0 before the first.
        is_working: True if its worker was alive.
        beats: number of pushes since the worker began, so that each push of a working run is a new version.
        events: parts of events.jsonl: (first byte, byte after the last, SHA-256).
        files: {path in the folder: SHA-256} of all other files.
    """

    attempt: int
    is_working: bool = False
    beats: int = 0
    events: tuple[tuple[int, int, str], ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    @property
    def objects(self) -> set[str]:
        """The names of all objects of this version."""
        return {name for _, _, name in self.events} | set(self.files.values())

    def to_bytes(self) -> bytes:
        """Return the version as JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Version:
        """Return the version in a JSON text. `where` names it in messages.

        Raises:
            RunError: the text has another form, or the parts of events.jsonl have gaps.
        """
        try:
            record = json.loads(data)
            made = cls(int(record["attempt"]), bool(record["is_working"]), int(record["beats"]),
                       tuple((int(first), int(end), str(name)) for first, end, name in record["events"]),
                       {str(path): str(name) for path, name in record["files"].items()})
            good = (record["schema"] == SCHEMA and all(map(SHA256.fullmatch, made.objects))
                    and all(map(FILE.fullmatch, made.files)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            good = False
        if not good:
            raise RunError(f"{where} must be as `rampart store push` writes it, and it is not; push the run again.")
        ends = [0, *(end for _, end, _ in made.events)]
        if any(first != before or end <= first for (first, end, _), before in zip(made.events, ends, strict=False)):
            raise RunError(f"{where} must list the parts of events.jsonl in order and without gaps, and it does not; push the "
                           "run again.")
        return made


class Store:
    """A folder in an object store that fsspec can open.

    Attributes:
        url: its URL.
        pushed: {run id: state of the files of a run without a worker, when this process pushed it}.
    """

    def __init__(self, url: str) -> None:
        """Open the store at a URL such as "s3://bucket/runs" or "file:///mnt/runs". Nothing is read yet.

        Raises:
            RunError: fsspec knows no such kind of store, or a package for it is missing.
        """
        self.url = url
        self.pushed: dict[str, object] = {}
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as problem:
            raise RunError(f"The store must be a URL that fsspec can open, such as s3://bucket/runs, got {url!r:.100} "
                           f"({problem}).") from None

    def put(self, path: str, data: bytes) -> None:
        """Write an object."""
        with self._trouble():
            place = f"{self._root}/{path}"
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(place, data)

    def get(self, path: str) -> bytes | None:
        """Return an object, or None if there is none."""
        with self._trouble():
            try:
                data: bytes = self._files.cat_file(f"{self._root}/{path}")
            except FileNotFoundError:
                return None
            return data

    def names(self, folder: str = "") -> list[str]:
        """Return the names of everything in a folder, sorted; [] if there is no such folder."""
        with self._trouble():
            self._files.invalidate_cache()
            try:
                found = self._files.ls(f"{self._root}/{folder}".rstrip("/"), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(str(one).rstrip("/").rpartition("/")[2] for one in found)

    def remove(self, path: str) -> None:
        """Remove an object, if there is one."""
        with self._trouble(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{path}")

    def run_ids(self) -> list[str]:
        """Return the ids of all runs in the store, oldest first."""
        return [name for name in self.names() if ID_PATTERN.fullmatch(name)]

    def newest(self, run_id: str) -> tuple[int, Version] | None:
        """Return the newest version of a run and its number; None if there is none. Half-written versions do not count.

        Raises:
            RunError: the version is not as `push` writes it.
        """
        for name in reversed(self.names(f"{run_id}/versions")):
            match = VERSION.fullmatch(name)
            data = self.get(f"{run_id}/versions/{name}") if match else None
            if match and data is not None and sha256(data) == match[2]:
                return int(match[1]), Version.from_bytes(data, f"Version {int(match[1])} of run {run_id} in the store")
        return None

    def read(self, run_id: str, name: str, what: str) -> bytes:
        """Return the object of a run with this hash. `what` names its content in messages.

        Raises:
            RunError: the object is missing or damaged.
        """
        data = self.get(f"{run_id}/objects/{name}")
        if data is None or sha256(data) != name:
            raise RunError(f"{what} of run {run_id} must be in the store, and is {'missing' if data is None else 'damaged'} "
                           "there; remove the run from the store and push it again from the machine that computed it.")
        return data

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        """Turn errors of the store into a sentence."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ImportError) as problem:
            raise RunError(f"The store {self.url} must be reachable and is not ({problem}); check its address and "
                           "access.") from None


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
