"""The data folder, and the prepared datasets in it. A prepared dataset consists of two arrays and a record.

    $RAMPART_DATA                    default: ~/.cache/rampart/data
        NAME/                        official files as downloaded
        folders/NAME/                image folders, with one folder per class
        prepared/NAME/dataset.json   the record of the two arrays, written after both arrays are complete
        prepared/NAME/images-HASH.npy, labels-HASH.npy

Arrays are memory-mapped, so opening a dataset takes almost no time, and all processes share one copy in memory. The module
imports numpy only inside functions that use arrays.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from engine.errors import DataError, shortened
from engine.files import atomic_write, atomic_write_bytes, atomic_write_json, free_bytes

if TYPE_CHECKING:
    from engine.data.dataset import Block, Dataset

SCHEMA = 1
RECORD = "dataset.json"
# Entries of a record on which runs rely. A record is valid only if these agree with the description of the dataset.
FACTS = ("classes", "image_shape", "images", "test_images")
Progress = Callable[[str, int, int], None]
MAKE_ROOM = "free some space, or choose another data folder (environment variable RAMPART_DATA)."


def data_home() -> Path:
    """Return the data folder: the environment variable RAMPART_DATA, or ~/.cache/rampart/data if it is not set."""
    chosen = os.environ.get("RAMPART_DATA")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "rampart" / "data"


def prepared_place(name: str) -> Path:
    """Return the folder for the prepared arrays of a dataset. The folder need not exist."""
    return data_home() / "prepared" / name


def record_of(name: str) -> dict[str, Any] | None:
    """Return the content of a prepared dataset's dataset.json as {name: value}.

    Return None if this file is missing or unreadable, or if an array of the dataset is missing or incomplete.
    """
    place = prepared_place(name)
    try:
        record: dict[str, Any] = json.loads((place / RECORD).read_bytes())
        files = record["files"]
        if record["schema"] != SCHEMA or any((place / Path(file).name).stat().st_size != size for file, size in files.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record


def absence(dataset: Dataset) -> str:
    """Return a sentence that explains why a dataset cannot be used and how to get it, or "" if it can be used."""
    if dataset.package is not None and (missing := dataset.package.absence()):
        return f"The dataset {dataset.title} is read from {missing}."
    if dataset.read is None:
        return ""
    record = record_of(dataset.name)
    if record is not None and all(_plain(getattr(dataset, fact)) == record.get(fact) for fact in FACTS):
        return ""
    if dataset.sources:
        size = sum(source.bytes for source in dataset.sources)
        get = (f"run `rampart dataset fetch {dataset.name}` ({size / 1e6:.0f} MB to download), or add `--from DIR` if "
               f"{' and '.join(source.file for source in dataset.sources)} {'are' if len(dataset.sources) > 1 else 'is'} already "
               "in a folder DIR")
    else:
        get = f"run `rampart dataset fetch {dataset.name} --from DIR` with its folder of class folders"
    return f"The dataset {dataset.title} must be prepared in {prepared_place(dataset.name)} and is not; {get}."


def load(name: str) -> tuple[Any, Any]:
    """Open a prepared dataset as read-only memory maps.

    Returns:
        images: uint8 [N, C, H, W].
        labels: int64 [N].

    Raises:
        DataError: the dataset is not prepared, or its arrays cannot be read.
    """
    import numpy as np

    record, place = record_of(name), prepared_place(name)
    if record is None:
        raise DataError(f"The dataset {name} must be prepared in {place} and is not; run `rampart dataset fetch {name}` "
                        "(add `--from DIR` for an image folder).")
    try:
        images, labels = (np.load(place / Path(file).name, mmap_mode="r", allow_pickle=False) for file in record["files"])
    except (OSError, ValueError) as problem:
        raise DataError(f"The prepared arrays in {place} cannot be read ({problem}); run "
                        f"`rampart dataset fetch {name}` again.") from None
    return images, labels


def write(name: str, blocks: Iterable[Block], facts: Mapping[str, Any], *,
          progress: Progress = lambda what, done, total: None) -> dict[str, Any]:
    """Write the arrays of a dataset and then its record (dataset.json). Return the record as {name: value}.

    Until the new arrays and the record are complete, an older preparation of the dataset stays usable.

    Args:
        name: name of the dataset.
        blocks: images of the dataset with their labels. Blocks of the official test set come last.
        facts: entries for the record. The entries listed in `FACTS` are required and must match the blocks.
        progress: function called with ("preparing", number of images written, number of all images).

    Raises:
        DataError: the blocks do not match the facts, or the disk is full.
    """
    place = prepared_place(name)
    draft = place / "images.npy"  # name of the file until the hash of its content is known
    try:
        place.mkdir(parents=True, exist_ok=True)
        _check_space(place, math.prod(facts["image_shape"]) * facts["images"])
        with atomic_write(draft) as file:
            labels, digest = _write_images(file, name, blocks, facts, progress)
        # These 16 characters are also the hash of the data that runs record.
        digest.update(labels.tobytes())
        fingerprint = digest.hexdigest()[:16]
        files = [f"images-{fingerprint}.npy", f"labels-{fingerprint}.npy"]
        os.replace(draft, place / files[0])
        atomic_write_bytes(place / files[1], _npy(labels))
        record = {"schema": SCHEMA, "name": name, **{key: _plain(value) for key, value in facts.items()}, "hash": fingerprint,
                  "files": {file: (place / file).stat().st_size for file in files}, "prepared": time.time()}
        atomic_write_json(place / RECORD, record)
    except OSError as problem:
        raise DataError(f"The dataset {name} must be written to {place} and could not be ({problem.strerror or problem}); "
                        f"{MAKE_ROOM}") from None
    finally:
        draft.unlink(missing_ok=True)
    for old in place.iterdir():
        if old.suffix == ".npy" and old.name not in files:
            old.unlink(missing_ok=True)  # processes that have mapped the old file into memory can still read it
    return record


def _write_images(file: IO[bytes], name: str, blocks: Iterable[Block], facts: Mapping[str, Any],
                  progress: Progress) -> tuple[Any, Any]:
    """Write the images of all blocks to a file as one array.

    The function does not write through a memory map, because a full disk would then kill the process.

    Returns:
        labels: labels of the images, int64 [N].
        digest: hash object, updated with the pixels of all images.
    """
    import numpy as np

    shape, total = tuple(facts["image_shape"]), facts["images"]
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (total, *shape)})
    labels, done, in_test, digest = [], 0, 0, hashlib.sha256()
    for block in blocks:
        if block.images.shape[1:] != shape or block.images.dtype != np.uint8 or len(block.images) != len(block.labels):
            raise DataError(f"The images of {name} must be bytes of shape {shape}, each with a label, got {block.images.dtype} "
                            f"of shape {block.images.shape[1:]}; restore its files.")
        content = np.ascontiguousarray(block.images)
        file.write(content.data)
        digest.update(content.reshape(-1).data)
        labels.append(np.asarray(block.labels, dtype=np.int64))
        done += len(content)
        in_test += len(content) if block.test else 0
        progress("preparing", done, total)
    all_labels = np.concatenate(labels) if labels else np.zeros(0, dtype=np.int64)
    if (done, in_test) != (total, facts["test_images"] or 0):
        raise DataError(f"The dataset {name} must hold {total} images, {facts['test_images'] or 0} of them in its test set, got "
                        f"{done} and {in_test}; restore its files.")
    present = sorted({int(label) for label in np.unique(all_labels)})
    if present != list(range(facts["classes"])):
        raise DataError(f"The dataset {name} must hold the labels 0 to {facts['classes'] - 1}, each at least once, got "
                        f"{shortened(present)}; restore its files.")
    return all_labels, digest


def _check_space(place: Path, wanted: int) -> None:
    free = free_bytes(place)
    if free < wanted + 2**24:
        raise DataError(f"Preparing the images needs {wanted / 1e6:.0f} MB on the disk of {place}, got {free / 1e6:.0f} MB free; "
                        f"{MAKE_ROOM}")


def _npy(array: Any) -> bytes:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """Convert a tuple to a list, as JSON does. Return any other value unchanged."""
    return list(value) if isinstance(value, tuple) else value
