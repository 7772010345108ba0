"""Fetching of datasets: downloads missing files, checks them and prepares the arrays. Imports no torch."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.data import folders, prepared
from engine.data.archives import locate
from engine.data.catalogue import DATASETS
from engine.data.dataset import Dataset
from engine.data.download import check, download
from engine.data.prepared import Progress
from engine.errors import DataError
from engine.registry import unknown_name

DEFAULT_SIDE = 32


@dataclass(frozen=True)
class Presence:
    """A dataset on this machine.

    Attributes:
        name, title, classes, images: as in `Dataset`; classes and images are None for an image folder that is not prepared.
        image_shape: (channels, height, width); None for such a folder, too.
        present: True if a run can use it.
        place: folder of its arrays; "" if it comes with a package.
        advice: one sentence on how to get it; "" if it is present.
    """

    name: str
    title: str
    classes: int | None
    images: int | None
    image_shape: tuple[int, ...] | None
    present: bool
    place: str
    advice: str


def fetch(name: str, *, source: Path | None = None, side: int | None = None,
          progress: Progress = lambda what, done, total: None) -> Presence:
    """Prepare one dataset, downloading its official files if they are missing.

    A dataset that is ready is prepared again only if `source` or `side` is given or its image folder is in the data folder.

    Args:
        name: a dataset of the registry, or an image folder: one in folders/ of the data folder, or a new one.
        source: folder that already contains the official files, or what they unpack to; then nothing is downloaded. For an image
            folder: the folder of class folders.
        side: height and width of an image folder's images; defaults to that of an earlier preparation, then to 32.
        progress: called with (activity, done, total), in bytes for a download and in images for the preparation.

    Raises:
        DataError: an invalid argument, a file that is missing, damaged or cannot be downloaded, or a full disk.
    """
    if name in DATASETS.built_in:
        if side is not None:
            raise DataError(f"The side can be chosen only for an image folder, and {name} has a fixed size; leave --side out.")
        fetch_official(DATASETS[name], source, progress)
    else:
        fetch_folder(name, source, side, progress)
    return presence(DATASETS[name])


def presences() -> list[Presence]:
    """Return every dataset: built-in ones, prepared image folders, and image folders waiting to be prepared."""
    known = [presence(dataset) for _, dataset in DATASETS.items()]
    names = {dataset.name for dataset in known}
    try:
        waiting = sorted(path.name for path in (prepared.data_home() / "folders").iterdir() if path.is_dir())
    except OSError:
        waiting = []
    return known + [
        Presence(name, name, None, None, None, False, str(prepared.prepared_place(name)),
                 f"The image folder {name} is not prepared; run `rampart dataset fetch {name} --side {DEFAULT_SIDE}`.")
        for name in waiting if name not in names and folders.NAME.fullmatch(name)]


def presence(dataset: Dataset) -> Presence:
    """Return the presence of one dataset on this machine."""
    missing = prepared.absence(dataset)
    comes_with_package = dataset.name in DATASETS.built_in and not dataset.sources
    return Presence(dataset.name, dataset.title, dataset.classes, dataset.images, dataset.image_shape, not missing,
                    "" if comes_with_package else str(prepared.prepared_place(dataset.name)), missing)


def fetch_official(dataset: Dataset, folder: Path | None = None,
                   progress: Progress = lambda what, done, total: None) -> None:
    """Fetch a dataset with official files; with `folder`, use the files in that folder.

    Raises:
        DataError: as in `fetch`.
    """
    if dataset.read is None or (folder is None and not prepared.absence(dataset)):
        return
    with _alone(dataset.name):
        home = prepared.data_home() / dataset.name
        places = []
        for source in dataset.sources:
            place = locate(source, folder or home)
            if place is None and folder is not None:
                unpacked = f" or the folder {source.unpacked} it unpacks to" if source.unpacked else ""
                raise DataError(f"{folder} must hold {source.file}{unpacked} and does not; name the folder that does, or "
                                "leave --from out to download it.")
            if place is None:
                place = download(source, home, progress)
            elif place.is_file():
                check(source, place)
            places.append(place)
        prepared.write(dataset.name, dataset.read(places), {
            "title": dataset.title, **{fact: getattr(dataset, fact) for fact in prepared.FACTS},
            "sources": [{"url": source.url, "md5": source.md5} for source in dataset.sources]}, progress=progress)


def fetch_folder(name: str, folder: Path | None = None, side: int | None = None,
                 progress: Progress = lambda what, done, total: None) -> None:
    """Fetch an image folder.

    Raises:
        DataError: as in `fetch`.
    """
    folders.check_name(name, DATASETS.built_in)
    before = prepared.record_of(name)
    own = prepared.data_home() / "folders" / name
    if folder is None and not own.is_dir():
        if before is not None and side is None:
            return
        raise DataError(f"{unknown_name('dataset', name, DATASETS)} To add an image folder, run `rampart dataset "
                        f"fetch {name} --from DIR`.")
    side = side or (before["image_shape"][1] if before else DEFAULT_SIDE)
    low, high = folders.SIDES
    if not low <= side <= high:
        raise DataError(f"The side of an image folder's images must be {low} to {high} pixels, got {side}; change --side.")
    with _alone(name):
        scan = folders.scan(folder or own)
        images, test = len(scan.train) + len(scan.test), len(scan.test) or None
        prepared.write(name, folders.blocks(scan, side), {
            "title": name, "classes": len(scan.classes), "image_shape": (3, side, side), "images": images, "test_images": test,
            "class_names": list(scan.classes), "folder": str((folder or own).absolute())}, progress=progress)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Lock the preparation of a dataset, so that no two processes write the same files.

    Raises:
        DataError: another process holds the lock, or the data folder is not writable.
    """
    place = prepared.prepared_place(name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise DataError(f"The data folder must be writable and {problem.filename or place} is not ({problem.strerror}); change "
                        "its permissions or choose another folder (environment variable RAMPART_DATA).") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"Only one process at a time can fetch {name}, and another one is running; wait for it.") from None
        yield
    finally:
        os.close(descriptor)
