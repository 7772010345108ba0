"""Writer and reader of the file events.jsonl. The worker appends each event as one line of JSON with one `os.write`.

Only complete lines count, and readers ignore everything after the last newline. If a crash leaves an incomplete line, the next
`EventWriter` removes it. If only part of a line fits on a full disk, this part is removed at once. Imports no torch.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import RunLogError
from engine.files import open_to_append, open_to_read, sync
from engine.run.event import Event, Stamp
from engine.run.event_kinds import header
from engine.run.values import flaw_in_json, printable

_decode = json.JSONDecoder().decode  # `json.loads` without its options, which take time on every line


def storable(value: Any) -> Any:
    """Replace everything in `value` that JSON or UTF-8 cannot store, at any depth, and return the result.

    NaN and infinity become None. Half of a surrogate pair becomes a question mark.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    return value


def encode(record: dict[str, Any]) -> bytes:
    """Return an event's JSON object as one line of events.jsonl. Values that cannot be stored are replaced (`storable`)."""
    try:
        text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = ""
    if not text or "\\ud" in text:  # escaped text holds a pair of surrogates for every rare character, or half of one
        text = json.dumps(storable(record), separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def parse(line: bytes) -> dict[str, Any]:
    """Return the JSON object in one line of events.jsonl. `engine.run.event_kinds.read` converts such an object to an event.

    Raises:
        RunLogError: the line is not UTF-8, not JSON, not a JSON object, or holds half of a surrogate pair.
    """
    try:
        record = _decode(line.decode())
    except (ValueError, RecursionError) as problem:
        raise RunLogError(f"a line must be one JSON object, and this is not ({problem})") from None
    if not isinstance(record, dict):
        raise RunLogError(f"a line must be one JSON object, got {type(record).__name__}")
    if b"\\u" in line and (flaw := flaw_in_json(line, record)):  # the types of the fields check the numbers
        raise RunLogError(f"a line must be as the worker writes it, and {flaw}")
    return record


def cut_torn_tail(descriptor: int) -> int:
    """Cut off everything after the last newline of an open file, and return the new length of the file in bytes.

    Args:
        descriptor: file descriptor, open for reading and writing.
    """
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


class Extent(NamedTuple):
    """The state of an events.jsonl at some time: its length in bytes, and the CRC-32 of its content; None if that is unknown."""

    length: int
    crc32: int | None = None


def begins_with(path: Path, extent: Extent) -> bool:
    """Return True if a file still holds what it held earlier. If not, lines are missing or damaged.

    Args:
        path: path of an events.jsonl. The file does not have to exist.
        extent: the earlier state. Without a CRC-32, only the end of its last line is looked for.
    """
    if extent.length == 0:
        return True
    try:
        with open_to_read(path) as file:
            if extent.crc32 is not None:
                return _crc32(file.fileno(), extent.length) == extent.crc32
            file.seek(extent.length - 1)
            return file.read(1) == b"\n"
    except FileNotFoundError:
        return False


def _crc32(descriptor: int, length: int) -> int | None:
    """Return the CRC-32 of the first `length` bytes of an open file; None if it is shorter."""
    crc32 = position = 0
    while position < length:
        part = os.pread(descriptor, min(1 << 20, length - position), position)
        if not part:
            return None
        crc32, position = zlib.crc32(part, crc32), position + len(part)
    return crc32


class EventWriter:
    """The writer of a run's events.jsonl. During one attempt (start of the worker), no other writer exists."""

    def __init__(self, path: Path, run_id: str, attempt: int) -> None:
        """Open or create events.jsonl. Cut off an incomplete last line, and write the header line if the file is empty.

        Args:
            path: path of the run's events.jsonl.
            run_id: id of the run, for the header line.
            attempt: number of this start of the worker, from 1.
        """
        self.attempt = attempt
        self._descriptor = open_to_append(path, path.parent)
        length = cut_torn_tail(self._descriptor)
        self._crc32 = _crc32(self._descriptor, length) or 0
        if length == 0:
            self._append(encode(header(run_id)))
            sync(path.parent)

    def write(self, event: Event, *, step: int, epoch: int) -> None:
        """Append one event, stamped with the current time, the attempt, and the given progress of the run.

        Args:
            event: the event.
            step: number of completed steps.
            epoch: epoch of the latest step, from 1; 0 before the first step.

        Raises:
            OSError: the disk is full. The file still ends with the previous line.
        """
        stamp = Stamp(round(time.time(), 3), self.attempt, step, epoch)
        self._append(encode({"event": event.kind, **stamp._asdict(), **event.to_json()}))

    def sync(self) -> Extent:
        """Flush the file to disk, so that its events survive a power cut, and return its state."""
        os.fsync(self._descriptor)
        return Extent(os.fstat(self._descriptor).st_size, self._crc32)

    def close(self) -> None:
        """Flush the file to disk and close it. A second call does nothing."""
        if self._descriptor >= 0:
            self.sync()
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, "events.jsonl could not take a whole line")
        self._crc32 = zlib.crc32(line, self._crc32)


def read_events(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read the complete lines of an events.jsonl from byte `offset` on. Lines that cannot be parsed are skipped.

    This function is for callers that follow a single run, such as `--wait`. For queries about runs, use `engine.log`.

    Returns:
        The JSON objects of the lines, in the order of the file.
        The offset to pass in the next call.
    """
    try:
        with open_to_read(path) as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return list(_parsed(data[:end])), offset + end


def _parsed(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            yield parse(line)
        except RunLogError:
            continue
