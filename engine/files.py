"""Functions that replace files atomically, and a function that measures free disk space. Imports no other module of Rampart."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def free_bytes(path: Path) -> int:
    """Return the number of free bytes on the disk of a path. The path does not have to exist yet."""
    path = path.absolute()
    return shutil.disk_usage(next(one for one in (path, *path.parents) if one.exists())).free


def sync_directory(path: Path) -> None:
    """Flush the folder `path` to disk, so that a new or renamed file in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a temporary file that is open for writing. When the `with` block ends, the file replaces `path`.

    The file is flushed to disk before it is renamed, and the folder is flushed afterwards. If the block raises an error, `path`
    is unchanged.

    Raises:
        OSError: the disk is full or the folder is not writable. `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def atomic_write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Replace the content of the file `path` with `data`, atomically (`atomic_write`)."""
    with atomic_write(path) as file:
        file.write(data)


def atomic_write_json(path: Path, value: Any) -> None:
    """Replace the content of the file `path` with `value` as indented JSON, atomically (`atomic_write`).

    Half of a surrogate pair, which UTF-8 cannot store, becomes a question mark.
    """
    atomic_write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="replace"))
