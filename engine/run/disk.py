"""The exit codes and the messages of a worker whose disk is full or broken. Imports no torch."""

from __future__ import annotations

import errno
import os

# Exit codes of a worker. They tell the supervisor the cause even if nothing could be written.
DISK_FULL, DISK_BROKEN = 5, 8
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BROKEN = (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN,
          errno.EREMOTEIO, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)  # the last three: something else took the place of a file
_RESUME = "and resume; the run continues from its last checkpoint."


def exit_code(problem: BaseException) -> int | None:
    """Return the exit code for an error that means a full or broken disk; None for any other error."""
    number = problem.errno if isinstance(problem, OSError) else None
    return DISK_FULL if number in FULL else DISK_BROKEN if number in BROKEN else None


def cause(code: int, problem: BaseException | None = None) -> str:
    """Return a sentence that says why a worker with the exit code `code` has ended, and what the user can do.

    Args:
        code: `DISK_FULL` or `DISK_BROKEN`.
        problem: the error, if it is known.
    """
    if code == DISK_FULL:
        return f"Disk full: the run could not write to its folder. Free some space {_RESUME}"
    why = f" ({os.strerror(problem.errno)})" if isinstance(problem, OSError) and problem.errno else ""
    return f"The disk failed: the run could not use its files{why}. Repair the disk or make the folder writable, {_RESUME}"
