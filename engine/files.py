"""Files that are replaced in one step, and the free space of a disk. Imports nothing of ours."""

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
    """Return the free space on the disk of a path, which need not exist yet."""
    path = path.absolute()
    return shutil.disk_usage(next(one for one in (path, *path.parents) if one.exists())).free


def sync_directory(path: Path) -> None:
    """Make a rename or a new file in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces `path` when the block ends: temporary file, fsync, rename, fsync of the directory.

    Raises:
        OSError: the disk is full or the folder is not writable; then `path` is unchanged.
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
    """Replace `path` by `data` as `atomic_write` does."""
    with atomic_write(path) as file:
        file.write(data)


def atomic_write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as readable JSON, as `atomic_write` does."""
    atomic_write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
