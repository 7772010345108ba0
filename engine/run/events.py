"""events.jsonl: one JSON line per event, appended by the worker with one `os.write` each.

A line is complete or it is not there: a tail torn by a crash is cut when the file is opened again, a short write (full
disk) is taken back at once. Readers may therefore ignore everything behind the last newline. Imports no torch.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = 1


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity replaced by None, because JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def encode(event: dict[str, Any]) -> bytes:
    """One line, ending in a newline, without NaN."""
    try:
        text = json.dumps(event, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(finite(event), separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def cut_torn_tail(descriptor: int) -> int:
    """Cuts everything behind the last newline of an open file and returns the file's length then."""
    size = os.fstat(descriptor).st_size
    position, end = size, size
    while position > 0:
        start = max(0, position - 65_536)
        newline = os.pread(descriptor, position - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        position = end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end


class EventWriter:
    """The only writer of a run's events.jsonl during one attempt."""

    def __init__(self, path: Path, run_id: str, attempt: int) -> None:
        """Opens (or creates) `path`, cuts a torn tail, writes the header into an empty file.

        Args:
            path: the run's events.jsonl.
            run_id: for the header line.
            attempt: 1 for the first start of a worker, one more for each later one.
        """
        self.attempt = attempt
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if cut_torn_tail(self._descriptor) == 0:
            self._append(encode({"event": "header", "schema": SCHEMA, "run": run_id}))

    def write(self, event: str, *, step: int, epoch: int, **fields: Any) -> None:
        """Appends one event with the common fields (time, attempt, step, epoch).

        Raises:
            OSError: the disk is full; then the file ends at the previous line.
        """
        common = {"event": event, "t": round(time.time(), 3), "attempt": self.attempt, "step": step, "epoch": epoch}
        self._append(encode(common | fields))

    def close(self) -> None:
        """Makes everything written durable and closes the file."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, "events.jsonl could not take a whole line")


def read_events(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Complete events behind `offset` (bytes) and the offset to go on from; unreadable lines are left out.

    For readers that follow one run, such as `--wait`; whoever asks questions about runs uses `engine.log`.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return list(_parsed(data[:end])), offset + end


def _parsed(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event
