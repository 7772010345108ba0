"""Makes a dataset ready to be used: downloads what is missing, checks it and prepares the arrays. Imports no torch."""

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
        name, title, classes, images: as in `Dataset`; classes and images are None of an image folder that is not prepared.
        image_shape: (channels, height, width), None as well.
        present: whether a run can use it.
        place: where its arrays lie; "" for one that comes with a package.
        advice: how to get it, one sentence; "" when it is there.
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
    """Makes one dataset ready. Does nothing when it is ready and nothing else is asked for.

    Args:
        name: a dataset of the registry, or the name of an image folder: one below folders/ of the data folder, or a new one.
        source: where the official files, or what they unpack to, lie already; nothing is downloaded then. For an image folder:
            the folder of class folders.
        side: height and width of an image folder's images; 32 unless given or declared before.
        progress: called with (what is being done, done, total): bytes of a download, images of the preparation.

    Raises:
        DataError: what was expected, what came, what to do.
    """
    if name in DATASETS.built_in:
        if side is not None:
            raise DataError(f"The side is that of an image folder's images, {name} has its own; leave --side out.")
        fetch_official(DATASETS[name], source, progress)
    else:
        fetch_folder(name, source, side, progress)
    return presence(DATASETS[name])


def presences() -> list[Presence]:
    """Every dataset: those that everybody has, prepared image folders, and image folders that wait to be prepared."""
    known = [presence(dataset) for _, dataset in DATASETS.items()]
    names = {one.name for one in known}
    try:
        waiting = sorted(path.name for path in (prepared.data_home() / "folders").iterdir() if path.is_dir())
    except OSError:
        waiting = []
    return known + [
        Presence(name, name, None, None, None, False, str(prepared.prepared_place(name)),
                 f"The image folder {name} is not prepared; run `rampart dataset fetch {name} --side {DEFAULT_SIDE}`.")
        for name in waiting if name not in names and folders.NAME.fullmatch(name)]


def presence(dataset: Dataset) -> Presence:
    """Whether one dataset can be used here."""
    missing = prepared.absence(dataset)
    comes_with_package = dataset.name in DATASETS.built_in and not dataset.sources
    return Presence(dataset.name, dataset.title, dataset.classes, dataset.images, dataset.image_shape, not missing,
                    "" if comes_with_package else str(prepared.prepared_place(dataset.name)), missing)


def fetch_official(dataset: Dataset, folder: Path | None = None,
                   progress: Progress = lambda what, done, total: None) -> None:
    """`fetch` of a dataset with official files; `folder` is where they lie already.

    Raises:
        DataError: as `fetch`.
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
                raise DataError(f"{folder} must hold {source.file}{unpacked}, and does not; name the folder that does, or "
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
    """`fetch` of an image folder.

    Raises:
        DataError: as `fetch`.
    """
    folders.check_name(name, DATASETS.built_in)
    before = prepared.record_of(name)
    own = prepared.data_home() / "folders" / name
    if folder is None and not own.is_dir():
        if before is not None and side is None:
            return
        raise DataError(f"{unknown_name('dataset', name, DATASETS)} An image folder becomes one with `rampart dataset "
                        f"fetch {name} --from DIR`.")
    side = side or (before["image_shape"][1] if before else DEFAULT_SIDE)
    low, high = folders.SIDES
    if not low <= side <= high:
        raise DataError(f"The side of an image folder's images must be {low} to {high} pixels, got {side}; give such a number.")
    with _alone(name):
        found = folders.scan(folder or own)
        images, test = len(found.train) + len(found.test), len(found.test) or None
        prepared.write(name, folders.blocks(found, side), {
            "title": name, "classes": len(found.classes), "image_shape": (3, side, side), "images": images, "test_images": test,
            "class_names": list(found.classes), "folder": str((folder or own).absolute())}, progress=progress)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Two processes that fetch one dataset would write one file."""
    place = prepared.prepared_place(name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise DataError(f"The data folder must be one that can be written, and {problem.filename or place} could not be "
                        f"({problem.strerror}); change its permissions or choose another (environment variable RAMPART_DATA)."
                        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"Only one process at a time may fetch {name}, and another one does; wait for it.") from None
        yield
    finally:
        os.close(descriptor)
