"""Functions that open, create and replace files safely, and a function that measures free disk space.

A folder may come from someone else, and its files may be symbolic links, pipes or devices. Functions with an argument `inside`
write only to plain files in the folder `inside`, and follow no symbolic link on the way. `inside` itself must not be a symbolic
link, either. Readers open plain files only, so that they never wait for a pipe. Imports no other module of Rampart.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

# Free disk space without which no run starts: enough for the checkpoints of the largest published network.
LEAST_FREE_BYTES = 200 * 2**20


def free_bytes(path: Path) -> int:
    """Return the number of free bytes on the disk of a path. The path does not have to exist yet."""
    path = path.absolute()
    return shutil.disk_usage(next(one for one in (path, *path.parents) if one.exists())).free


def sync(path: Path) -> None:
    """Flush a file or a folder to disk. A new or renamed file survives a power cut only if its folder is flushed as well."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_read(path: Path) -> IO[bytes]:
    """Open a plain file for reading. Unlike `open`, this never waits for the other end of a pipe.

    Raises:
        OSError: the file does not exist, cannot be read, or is not a plain file.
    """
    return os.fdopen(_plain(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path), "rb")


def open_to_append(path: Path, inside: Path, mode: int = 0o644) -> int:
    """Open or create a plain file for reading and appending, and return its file descriptor.

    Args:
        path: path of the file.
        inside: folder that contains the file, directly or in a subfolder. No part of the path below it may be a symbolic link.
        mode: permissions of a new file.

    Raises:
        OSError: the file cannot be opened, is a symbolic link or not a plain file, or is reached through a symbolic link.
    """
    folder = _open_folder(path.parent, inside)
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return _plain(os.open(path.name, flags, mode, dir_fd=folder), path)
    except OSError as problem:
        raise _told(problem, path) from None
    finally:
        os.close(folder)


def touch(path: Path, inside: Path) -> None:
    """Create a file, or set its modification time to now. The arguments and errors are the same as for `open_to_append`."""
    descriptor = open_to_append(path, inside)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, inside: Path) -> None:
    """Create a folder, unless it exists, and flush the parent folder to disk.

    Args:
        path: path of the folder. The parent folder must exist.
        inside: folder that contains `path`, directly or in a subfolder, as for `open_to_append`.

    Raises:
        OSError: the folder cannot be created, or `path` is a symbolic link or a file.
    """
    parent = _open_folder(path.parent, inside)
    try:
        os.mkdir(path.name, dir_fd=parent)
        os.fsync(parent)
    except FileExistsError:
        os.close(_open_folder(path, inside))
    finally:
        os.close(parent)


def keep_private(folder: Path) -> None:
    """Let only the owner enter a folder. The folder of another user stays as it is."""
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


def entry_that_is_no_plain_file(folder: Path) -> str:
    """Look for symbolic links, pipes and devices in a folder and its direct subfolders, and describe the first one found.

    The result is a text such as "events.jsonl is a symbolic link", or "" if there are only plain files and folders. If the folder
    itself is a symbolic link, the result says so.
    """
    if folder.is_symlink():
        return f"{folder.name} is a symbolic link"
    for name, entry in _entries(folder, ""):
        if entry.is_symlink():
            return f"{name} is a symbolic link"
        if not entry.is_file(follow_symlinks=False) and not entry.is_dir(follow_symlinks=False):
            return f"{name} is not a plain file"
    return ""


def _entries(folder: Path | str, above: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield (relative path, entry) for everything in a folder and in its direct subfolders.

    `above` is the start of the relative paths, "" for the folder itself. For a subfolder, the function calls itself with "NAME/".
    Such a call does not descend further.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            yield above + entry.name, entry
            if not above and entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{entry.name}/")


def _plain(descriptor: int, path: Path) -> int:
    """Return `descriptor` if it belongs to a plain file. Otherwise close it and raise OSError."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return descriptor


def _open_folder(path: Path, inside: Path | None) -> int:
    """Open a folder and return its descriptor.

    If `inside` is given, neither `inside` nor any part of the path below it may be a symbolic link.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if inside is None:
        return os.open(path, flags)
    reached = inside
    try:
        descriptor = os.open(inside, flags | os.O_NOFOLLOW)
        for part in path.relative_to(inside).parts:
            reached, above = reached / part, descriptor
            try:
                descriptor = os.open(part, flags | os.O_NOFOLLOW, dir_fd=above)
            finally:
                os.close(above)
    except OSError as problem:
        raise _told(problem, reached) from None
    return descriptor


def _told(problem: OSError, path: Path) -> OSError:
    """Return a copy of `problem` that names the path. If the path is a symbolic link, the message says that it is one."""
    if path.is_symlink():
        return OSError(errno.ELOOP, f"{path.name} is a symbolic link", str(path))
    return OSError(problem.errno, problem.strerror, str(path))


@contextmanager
def atomic_write(path: Path, *, inside: Path | None = None, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Yield a temporary file that is open for writing. When the `with` block ends, the file replaces `path`.

    The file is flushed to disk before it is renamed, and the folder is flushed afterwards. If the block raises an error, `path`
    is unchanged. A symbolic link at `path` is replaced, not followed.

    Args:
        path: path of the file.
        inside: folder that contains the file, as for `open_to_append`; None to allow symbolic links on the way.
        mode: permissions of the file before the process's umask is applied; 0o600 for a secret.

    Raises:
        OSError: the disk is full, the folder is not writable, or it is reached through a symbolic link. `path` is unchanged.
    """
    folder = _open_folder(path.parent, inside)
    temporary = f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}"
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, mode, dir_fd=folder), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def atomic_write_bytes(path: Path, data: bytes | memoryview, *, inside: Path | None = None, mode: int = 0o666) -> None:
    """Replace the content of the file `path` with `data`, atomically (`atomic_write`)."""
    with atomic_write(path, inside=inside, mode=mode) as file:
        file.write(data)


def atomic_write_json(path: Path, value: Any, *, inside: Path | None = None, mode: int = 0o666) -> None:
    """Replace the content of the file `path` with `value` as indented JSON, atomically (`atomic_write`).

    Half of a surrogate pair, which UTF-8 cannot store, becomes a question mark.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    atomic_write_bytes(path, text.encode(errors="replace"), inside=inside, mode=mode)
