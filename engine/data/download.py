"""Download of one official file of a dataset, with progress reports, a checksum and a limit on its size.

A file is called FILE.part until it is complete and its size and checksum are correct. If a download is interrupted, the next
call resumes it from this file (HTTP Range).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from engine.data.dataset import Source
from engine.data.prepared import MAKE_ROOM, Progress
from engine.errors import DataError
from engine.files import free_bytes

CHUNK = 2**18
TIMEOUT_S = 30
# Largest number of connections made for one file. A connection that delivers no byte ends the download at once.
MOST_RESUMES = 20


def download(source: Source, folder: Path, progress: Progress = lambda what, done, total: None) -> Path:
    """Download an official file to `folder` unless it is already there, verify its size and checksum, and return its path.

    Args:
        source: description of the file.
        folder: target folder, created if missing.
        progress: function called with (file name, bytes so far, total bytes) during the download.

    Raises:
        DataError: the server cannot be reached or reports an error, the size or the checksum is wrong, or the disk is full. The
            message suggests a remedy.
    """
    target = folder / source.file
    if target.exists():
        check(source, target)
        return target
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        resumed = part.exists() and part.stat().st_size > 0
        _check_space(source, part)
        _fetch(source, part, progress)
        if resumed and sha256_of(part) != source.sha256:
            part.unlink()  # the partial file was not part of the official file, so start again
            _fetch(source, part, progress)
        try:
            check(source, part)
        except DataError:
            part.unlink()
            raise
        os.replace(part, target)
    except urllib.error.URLError as problem:
        raise _unreachable(source, folder, problem) from None
    except OSError as problem:
        raise DataError(f"{source.file} must be written to {folder} and could not be ({problem.strerror or problem}); the "
                        f"partial download is kept: {MAKE_ROOM}") from None
    return target


def check(source: Source, path: Path) -> None:
    """Check that the file at `path` has the size and the checksum of the official file.

    Raises:
        DataError: the file cannot be read, or has a different size or checksum.
    """
    try:
        size = path.stat().st_size
        found = sha256_of(path) if size == source.bytes else ""
    except OSError as problem:
        raise DataError(f"{path} cannot be read ({problem.strerror or problem}); change its permissions.") from None
    if found != source.sha256:
        expected, got = ((f"the SHA-256 checksum {source.sha256}", found) if found else
                         (f"{source.bytes:,} bytes", f"{size:,} bytes"))
        raise DataError(f"{source.file} must have {expected}, and {path} has {got}; delete that file if it still exists and run "
                        f"the command again, or get the file from {source.url} by other means.")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(source: Source, part: Path, progress: Progress) -> None:
    """Download the missing bytes of a file and append them to `part`. Reconnect if the connection breaks."""
    for _ in range(MOST_RESUMES):
        before = part.stat().st_size if part.exists() else 0
        try:
            if _one_connection(source, part, before, progress):
                return
        except (http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            if (part.stat().st_size if part.exists() else 0) <= before:
                raise urllib.error.URLError(problem) from None
    raise urllib.error.URLError(f"the connection broke {MOST_RESUMES} times")


def _one_connection(source: Source, part: Path, have: int, progress: Progress) -> bool:
    """Append the bytes of a file from position `have` on to `part`, over one connection. Return True when the file is complete,
    or longer than the official one.

    Raises:
        URLError: the server cannot be reached, or sends a different part of the file than requested.
        ConnectionError: the connection broke before the file was complete.
    """
    headers = {"User-Agent": "rampart", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(source.url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as problem:
        with problem:
            if problem.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                return True  # all bytes are there already; the checksum shows whether they are correct
        raise
    with answer:
        starts_here = answer.status == http.client.PARTIAL_CONTENT and _start(answer.headers.get("Content-Range")) == have
        if answer.status == http.client.PARTIAL_CONTENT and not starts_here:
            raise urllib.error.URLError("it answered with another part of the file than requested")
        done = have if starts_here else 0  # a server without Range support sends the whole file
        length = answer.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else max(source.bytes, done)
        with part.open("ab" if starts_here else "wb") as file:
            while done <= source.bytes and (chunk := answer.read(CHUNK)):
                file.write(chunk)
                done += len(chunk)
                progress(source.file, done, total)
            file.flush()
            os.fsync(file.fileno())
    if done <= source.bytes and length.isdigit() and done < total:
        raise ConnectionError("the connection broke")
    return True


def _start(content_range: str | None) -> int | None:
    """Return the first byte position in a Content-Range header, for example 100 in "bytes 100-199/200"; None if there is none."""
    first = (content_range or "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _check_space(source: Source, part: Path) -> None:
    missing = source.bytes - (part.stat().st_size if part.exists() else 0)
    free = free_bytes(part.parent)
    if free < missing:
        raise DataError(f"{source.file} needs {missing / 1e6:.0f} MB more on the disk of {part.parent}, got {free / 1e6:.0f} MB "
                        f"free; {MAKE_ROOM}")


def _unreachable(source: Source, folder: Path, problem: urllib.error.URLError) -> DataError:
    if isinstance(problem, urllib.error.HTTPError):
        return DataError(f"{source.url} must return the file and returned {problem.code} ({problem.reason}); try again later, "
                         f"or put {source.file} into {folder} by other means and run the command again.")
    return DataError(f"{source.file} must be downloaded from {source.url}, which cannot be reached ({problem.reason}); connect "
                     "to the network and run the command again (the partial download is kept), or put the file into "
                     f"{folder} by other means.")
