"""The data folder, and datasets that lie in it ready to be used: two arrays and a record each.

    $RAMPART_DATA                    default: ~/.cache/rampart/data
        NAME/                        official files as they were downloaded
        folders/NAME/                image folders, one folder a class
        prepared/NAME/dataset.json   what lies beside it: written last, so that it never speaks of half a file
        prepared/NAME/images-HASH.npy, labels-HASH.npy

Arrays are read as a memory map, so that opening a dataset costs nothing and every process shares one copy. Imports numpy only
where arrays are touched.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from engine.errors import DataError, shortened

if TYPE_CHECKING:
    from engine.data.dataset import Block, Dataset

SCHEMA = 1
RECORD = "dataset.json"
# What a run relies on; checked against the facts a dataset is known by.
FACTS = ("classes", "image_shape", "images", "test_images")
Progress = Callable[[str, int, int], None]
MAKE_ROOM = "free some space, or choose another data folder (environment variable RAMPART_DATA)."


def data_home() -> Path:
    """The data folder: the environment variable RAMPART_DATA, else ~/.cache/rampart/data."""
    chosen = os.environ.get("RAMPART_DATA")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "rampart" / "data"


def prepared_place(name: str) -> Path:
    """Where the arrays of a dataset lie."""
    return data_home() / "prepared" / name


def record_of(name: str) -> dict[str, Any] | None:
    """The record of a prepared dataset; None when there is none that can be read with both its arrays in full."""
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
    """Why a dataset cannot be used here and what to do, one sentence; "" when it is there."""
    if dataset.read is None:
        return ""
    record = record_of(dataset.name)
    if record is not None and all(_plain(getattr(dataset, fact)) == record.get(fact) for fact in FACTS):
        return ""
    if dataset.sources:
        size = sum(source.bytes for source in dataset.sources)
        get = (f"run `rampart dataset fetch {dataset.name}` ({size / 1e6:.0f} MB to download), or add `--from DIR` when "
               f"{' and '.join(source.file for source in dataset.sources)} lie{'' if len(dataset.sources) > 1 else 's'} in a "
               "folder DIR already")
    else:
        get = f"run `rampart dataset fetch {dataset.name} --from DIR` with its folder of class folders"
    return f"The dataset {dataset.title} must lie prepared in {prepared_place(dataset.name)} and does not; {get}."


def load(name: str) -> tuple[Any, Any]:
    """(images uint8 [N, C, H, W], labels int64 [N]) of a prepared dataset, as read-only memory maps.

    Raises:
        DataError: it is not there, or not what its record says.
    """
    import numpy as np

    record, place = record_of(name), prepared_place(name)
    if record is None:
        raise DataError(f"The dataset {name} must be prepared in {place} and is not; run `rampart dataset fetch {name}` "
                        "(add `--from DIR` for an image folder).")
    try:
        images, labels = (np.load(place / Path(file).name, mmap_mode="r", allow_pickle=False) for file in record["files"])
    except (OSError, ValueError) as problem:
        raise DataError(f"The arrays in {place} must be those that were prepared and cannot be read ({problem}); run "
                        f"`rampart dataset fetch {name}` again.") from None
    return images, labels


def write(name: str, blocks: Iterable[Block], facts: Mapping[str, Any], *,
          progress: Progress = lambda what, done, total: None) -> dict[str, Any]:
    """Writes the arrays of a dataset and then its record; an older preparation is replaced only when all is in place.

    Args:
        name: of the dataset.
        blocks: its images, those of the official test set last.
        facts: `FACTS`, and whatever else the record is to keep. `images` and `test_images` must be what the blocks hold.
        progress: called with ("preparing", images so far, all images).

    Returns:
        The record.

    Raises:
        DataError: the blocks hold something else than the facts say, or the disk is full.
    """
    place = prepared_place(name)
    drafts: list[Path] = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        _check_space(place, math.prod(facts["image_shape"]) * facts["images"])
        draft = place / f".images.{os.getpid()}.{secrets.token_hex(3)}"
        drafts.append(draft)
        with draft.open("xb") as file:
            labels, digest = _write_images(file, name, blocks, facts, progress)
            file.flush()
            os.fsync(file.fileno())
        # The same sixteen characters that a run records of the data it used.
        digest.update(labels.tobytes())
        fingerprint = digest.hexdigest()[:16]
        files = [f"images-{fingerprint}.npy", f"labels-{fingerprint}.npy"]
        os.replace(draft, place / files[0])
        _replace(place / files[1], _npy(labels), drafts)
        record = {"schema": SCHEMA, "name": name, **{key: _plain(value) for key, value in facts.items()}, "hash": fingerprint,
                  "files": {file: (place / file).stat().st_size for file in files}, "prepared": time.time()}
        _replace(place / RECORD, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode(), drafts)
    except OSError as problem:
        raise DataError(f"The dataset {name} must be written to {place} and could not be ({problem.strerror or problem}); "
                        f"{MAKE_ROOM}") from None
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    for old in place.iterdir():
        if old.suffix == ".npy" and old.name not in files:
            old.unlink(missing_ok=True)  # who reads it as a memory map keeps it until it ends
    return record


def _write_images(file: IO[bytes], name: str, blocks: Iterable[Block], facts: Mapping[str, Any],
                  progress: Progress) -> tuple[Any, Any]:
    """Writes blocks one behind the other as one array; (labels int64 [N], hash of all images). Plain writes, since a memory
    map that grows on a full disk kills the process."""
    import numpy as np

    shape, total = tuple(facts["image_shape"]), facts["images"]
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (total, *shape)})
    labels, done, in_test, digest = [], 0, 0, hashlib.sha256()
    for block in blocks:
        if block.images.shape[1:] != shape or block.images.dtype != np.uint8 or len(block.images) != len(block.labels):
            raise DataError(f"The images of {name} must be bytes of shape {shape} with a label each, got {block.images.dtype} of "
                            f"shape {block.images.shape[1:]}; restore its files.")
        content = np.ascontiguousarray(block.images)
        file.write(content.data)
        digest.update(content.reshape(-1).data)
        labels.append(np.asarray(block.labels, dtype=np.int64))
        done += len(content)
        in_test += len(content) if block.test else 0
        progress("preparing", done, total)
    found = np.concatenate(labels) if labels else np.zeros(0, dtype=np.int64)
    if (done, in_test) != (total, facts["test_images"] or 0):
        raise DataError(f"The dataset {name} must hold {total} images, {facts['test_images'] or 0} of them in its test set, got "
                        f"{done} and {in_test}; restore its files.")
    present = sorted({int(label) for label in np.unique(found)})
    if present != list(range(facts["classes"])):
        raise DataError(f"The dataset {name} must hold the labels 0 to {facts['classes'] - 1}, each at least once, got "
                        f"{shortened(present)}; restore its files.")
    return found, digest


def _check_space(place: Path, wanted: int) -> None:
    free = shutil.disk_usage(place).free
    if free < wanted + 2**24:
        raise DataError(f"Preparing the images takes {wanted / 1e6:.0f} MB on the disk of {place}, {free / 1e6:.0f} MB are "
                        f"free; {MAKE_ROOM}")


def _npy(array: Any) -> bytes:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _replace(path: Path, content: bytes, drafts: list[Path]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}")
    drafts.append(draft)
    with draft.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
