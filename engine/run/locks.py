"""Locks on files. The kernel releases a lock when its process ends, even if it is killed, so a crash leaves no lock.

A lock is an `flock`. It works between all processes of a machine, even between containers that share the folder but do not know
each other's process ids. Imports no torch.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

PATIENCE_S = 2.0  # `is_held` in another process takes the lock for some microseconds
PAUSE_S = 0.01
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of file systems that do not support locks


class Lock:
    """An exclusive lock on a file, held until `close` is called or the process ends.

    Attributes:
        path: path of the locked file.
        descriptor: file descriptor that holds the lock. A child process that inherits it holds the lock as well.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Create the object for a lock that `descriptor` already holds. Use `take` to take a new lock.

        The descriptor is made non-inheritable, so that child processes do not hold the lock by accident.
        """
        self.path, self.descriptor = path, descriptor
        os.set_inheritable(descriptor, False)
        self._file = identity_of(os.fstat(descriptor))

    def is_in_place(self) -> bool:
        """Return True if the locked file is still the one at its path.

        If not, its folder has been deleted, moved or replaced, and the lock protects nothing any more.
        """
        try:
            return identity_of(os.lstat(self.path)) == self._file
        except OSError:
            return False

    def close(self) -> None:
        """Release the lock, unless a child process holds it as well."""
        os.close(self.descriptor)


def identity_of(status: os.stat_result) -> list[int]:
    """Return [device, inode] of a file. A copy of the file has other numbers."""
    return [status.st_dev, status.st_ino]


def take(path: Path, patience_s: float = PATIENCE_S, *, required: bool = True) -> Lock | None:
    """Lock a file, which is created if it does not exist. Return None if another process holds the lock.

    Args:
        path: path of the file.
        patience_s: number of seconds to wait for the lock.
        required: False to return an object that locks nothing if the file system does not support locks.

    Raises:
        OSError: the file cannot be opened or is a symbolic link, or its file system does not support locks.
    """
    deadline = time.monotonic() + patience_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            lock = Lock(path, descriptor) if _flock(descriptor, fcntl.LOCK_EX) else None
        except OSError as problem:
            if not required and problem.errno in WITHOUT_LOCKS:
                return Lock(path, descriptor)
            os.close(descriptor)
            raise
        if lock is not None and lock.is_in_place():
            return lock
        os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(PAUSE_S)


def is_held(path: Path) -> bool:
    """Return True if a process holds the lock on a file. The file does not have to exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _flock(descriptor, fcntl.LOCK_SH)
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
