"""Limits on the memory that a foreign file may take while it is read. Imports no torch."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from engine.errors import CheckpointError
from engine.exchange.reading import unreadable

LARGEST_FILE = 4 * 2**30  # bytes
SPARE = 2**30  # bytes of address space that reading may take, besides twice the size of the file


@contextmanager
def bounded_memory(path: Path, largest: int = LARGEST_FILE) -> Iterator[None]:
    """Limit the memory of this process while the `with` block reads the file `path`. More memory raises a MemoryError.

    Args:
        path: the file.
        largest: maximum size of the file in bytes. The check matters because a sparse file can be huge without using disk space.

    Raises:
        CheckpointError: the file is larger than `largest`.
        ConfigError: the file does not exist or cannot be read.
    """
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise unreadable(path, problem) from None
    if size > largest:
        raise CheckpointError(f"{path.name} must have at most {largest // 2**20:,} MiB, got {size // 2**20:,} MiB; is it the "
                              "right file?")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = psutil.Process().memory_info().vms + 2 * size + SPARE
    bounds = [one for one in (wanted, soft, hard) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
