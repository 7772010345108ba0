"""Checkpoint files of a run, written atomically and loaded without executing code from the file.

A run keeps its last two checkpoints. `last.pt` becomes `previous.pt` once a newer checkpoint is complete on disk. If a power cut
or a bad disk corrupts one of the files, the run can still continue from the other file.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import CheckpointError
from engine.files import atomic_write_bytes, make_folder, open_to_read, sync
from engine.run.events import Extent

NEXT, LAST, PREVIOUS, BEST = "next.pt", "last.pt", "previous.pt", "best.pt"
SCHEMA = 1


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to the file `path` atomically, through a temporary file that is flushed to disk and then renamed.

    `path` must be in a subfolder of a run's folder. Neither folder may be a symbolic link.

    Raises:
        OSError: the disk is full. `path` is unchanged.
    """
    # The state is serialized in memory first, because torch would report a full disk as an unspecific error.
    atomic_write_bytes(path, as_bytes({"schema": SCHEMA, **state}), inside=path.parents[1])


def as_bytes(state: Mapping[str, Any]) -> memoryview:
    """Return a state in the form in which torch.load(..., weights_only=True) reads it."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getbuffer()


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` as last.pt in `folder`. The former last.pt becomes previous.pt.

    Raises:
        OSError: the disk is full. Both files are unchanged.
    """
    make_folder(folder, folder.parent)
    write(folder / NEXT, state)
    _take_over(folder)  # if the process is killed during this, `load` does it


def _take_over(folder: Path) -> None:
    """Rename last.pt, if it exists, to previous.pt, and then the complete next.pt to last.pt."""
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(folder / NEXT, folder / LAST)
    sync(folder)


def load(folder: Path, device: str | torch.device = "cpu", *, has_events: Callable[[Extent], bool] = lambda events: True
         ) -> tuple[dict[str, Any] | None, list[str]]:
    """Load the newest checkpoint in `folder` that can be read and whose events are complete.

    If an interrupted `save` has left a complete next.pt, it becomes last.pt, which other runs read.

    Args:
        folder: folder of the run's checkpoints.
        device: device of the loaded tensors.
        has_events: function that takes the length and the CRC-32 that events.jsonl had at a checkpoint. It returns False if
            events before that are missing or damaged, for example because the folder was restored from a backup.

    Returns:
        The state in the checkpoint. None if the run has to begin again, because it has no checkpoint, or because events of steps
            before all checkpoints are missing.
        A list of sentences for the user, one for each newer checkpoint that could not be used.

    Raises:
        CheckpointError: there are checkpoints, but none of them can be read.
    """
    refused: dict[Path, CheckpointError] = {}
    paths = [folder / name for name in (NEXT, LAST, PREVIOUS) if (folder / name).exists()]
    for path in paths:
        try:
            state = read(path, device)
            _check_events(path, state, has_events)
        except CheckpointError as problem:
            refused[path] = problem
            continue
        if path.name == NEXT:
            _take_over(folder)
        return state, _set_aside(refused, "The run uses the previous one.")
    if any(isinstance(problem, _EventsMissing) for problem in refused.values()):
        return None, _set_aside(refused, "The run begins again at step 0, so that the events are written again.")
    if refused:
        raise CheckpointError(f"A checkpoint must be readable to resume, and none of {', '.join(p.name for p in paths)} in "
                              f"{folder.parent.name}/checkpoint is; restore one from a backup or launch the run again.")
    return None, []


class _EventsMissing(CheckpointError):
    """An error about a checkpoint that can be read, but whose events are not all in events.jsonl."""


def _check_events(path: Path, state: Mapping[str, Any], has_events: Callable[[Extent], bool]) -> None:
    """Raise `_EventsMissing` if events before a checkpoint are missing. Checkpoints of older versions are not checked."""
    length, crc32 = state.get("events_bytes", 0), state.get("events_crc32")  # older versions wrote no CRC-32
    if not isinstance(length, int) or not isinstance(crc32, int | None) or not has_events(Extent(length, crc32)):
        raise _EventsMissing(f"Events before checkpoint {path.name} are missing: events.jsonl had {length} bytes then, and is "
                             "shorter or damaged.")


def _set_aside(refused: Mapping[Path, CheckpointError], consequence: str) -> list[str]:
    """Rename checkpoints that cannot be used, and return one message for each.

    Without the renaming, the next `save` would keep an unusable last.pt as previous.pt.

    Args:
        refused: {path of a checkpoint: why it cannot be used}.
        consequence: sentence that is appended to each message. It says what the run does instead.
    """
    for path in refused:
        path.rename(path.with_suffix(".corrupt"))
    return [f"{problem} {consequence}" for problem in refused.values()]


def read(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Return the state that `write` has stored in the file `path`.

    Raises:
        CheckpointError: the file is missing or damaged, was not written by Rampart, or contains objects other than tensors and
            plain values.
    """
    try:
        # torch does not verify the archive's checksums, so a flipped bit in a tensor would go unnoticed.
        with open_to_read(path) as file, zipfile.ZipFile(file) as archive:
            check_archive(archive)
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {path.name} in {path.parent.parent.name}; the run has not written one yet."
                              ) from None
    except OSError as problem:
        if problem.errno in (errno.EACCES, errno.EIO, errno.EINVAL):  # EINVAL: the zip directory names a place before the file
            raise CheckpointError(f"Checkpoint {path.name} cannot be read ({problem.strerror}).") from None
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError,
            TypeError, AttributeError, NotImplementedError, LookupError, ArithmeticError, RecursionError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise CheckpointError(f"Checkpoint {path.name} is corrupt and cannot be read ({reason[:120]}).") from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise CheckpointError(f"Checkpoint {path.name} must be written by Rampart (schema {SCHEMA}) and is not.")
    return state


def check_archive(archive: zipfile.ZipFile) -> None:
    """Check the archive that torch has written, before torch reads it.

    torch compresses nothing. A compressed entry of a few megabytes can stand for many gigabytes, which would fill the memory.

    Raises:
        zipfile.BadZipFile: an entry is compressed or has another content than when it was written.
    """
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise zipfile.BadZipFile(f"{entry.filename[:60]} is compressed")
    if (damaged := archive.testzip()) is not None:
        raise zipfile.BadZipFile(f"bad checksum of {damaged[:60]}")


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Turn errors of a `with` block into a `CheckpointError`. The block uses the content of a file, which may have wrong entries.

    Args:
        what: start of the error message, which names the file and its required content. An example is
            "checkpoint/best.pt of <run> must hold its network".

    Raises:
        CheckpointError: an entry of the file is missing, or has the wrong type or shape.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise CheckpointError(f"{what}, and it does not fit ({type(problem).__name__}: {reason}); restore the file from a backup "
                              "or launch that run again.") from None


def tensors_hash(state: Mapping[str, Tensor]) -> str:
    """Return a hash of the names, types, shapes and values of tensors: 12 hex digits, equal in every process."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:12]
