"""Removal of the temporary folders and half-written files that killed processes leave.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PURPOSES = ("sql", "preflight", "import", "export", "peers")
# A process in another container may share the folder for temporary files, and its id means nothing here.
OLD_S = 3600.0
OLD_WITHOUT_OWNER_S = 86_400.0  # older versions did not put the process id into the name
_FOLDER = re.compile(rf"rampart-(?:{'|'.join(PURPOSES)})-(?:(\d+)-)?[a-z0-9_]+")
_UNFINISHED = re.compile(r"\..+\.(\d+)\.[0-9a-f]{6}")  # the names that `engine.files.atomic_write` gives


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield a new folder for temporary files, which is removed at the end. Folders that killed processes have left are removed.

    Args:
        purpose: one of `PURPOSES`.
    """
    remove_folders(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=scratch_prefix(purpose), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def scratch_prefix(purpose: str) -> str:
    """Return a prefix for names of temporary folders.

    The prefix contains this process's id, so that `remove_folders` can tell whether the process has ended.
    """
    assert purpose in PURPOSES
    return f"rampart-{purpose}-{os.getpid()}-"


def remove_folders(place: Path) -> None:
    """Remove this user's folders for temporary files in `place` that are old and whose processes have ended."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if (found := _FOLDER.fullmatch(entry.name)) is not None:
                with contextlib.suppress(OSError):
                    _remove_folder(entry, found[1])


def _remove_folder(entry: os.DirEntry[str], owner: str | None) -> None:
    status = entry.stat(follow_symlinks=False)
    age = time.time() - status.st_mtime
    is_left = age > OLD_WITHOUT_OWNER_S if owner is None else age > OLD_S and not psutil.pid_exists(int(owner))
    if is_left and entry.is_dir(follow_symlinks=False) and status.st_uid == os.getuid():
        shutil.rmtree(entry.path, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove the half-written files that killed processes have left in `folder`. No other process may write files in it now."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _UNFINISHED.fullmatch(entry.name)
            if found is not None and int(found[1]) != os.getpid() and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
