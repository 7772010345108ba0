"""Fetching of datasets: downloading missing files, checking them and preparing the arrays that runs read.

This module does not import torch.
"""

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
    """A report on whether a dataset is available on this machine.

    Attributes:
        name: name of the dataset.
        title: name shown on pages.
        classes: number of classes; None for an image folder that is not prepared.
        images: number of images; None for an image folder that is not prepared.
        image_shape: (channels, height, width); None for an image folder that is not prepared.
        present: True if runs can use the dataset.
        place: folder of the prepared arrays; empty if the dataset comes with a Python package.
        advice: one sentence that explains how to get the dataset; empty if it is available.
        command: shell command that gets the dataset; empty if it is available.
    """

    name: str
    title: str
    classes: int | None
    images: int | None
    image_shape: tuple[int, ...] | None
    present: bool
    place: str
    advice: str
    command: str


def fetch(name: str, *, source: Path | None = None, side: int | None = None,
          progress: Progress = lambda what, done, total: None) -> Presence:
    """Prepare one dataset for use by runs, downloading its official files if they are missing.

    A dataset that is already prepared is prepared again only if `source` or `side` is given, or if the data folder has an image
    folder of this name.

    Args:
        name: name of a built-in dataset, of an image folder in the subfolder folders/ of the data folder, or of a new image
            folder.
        source: for a built-in dataset, the folder that contains the official files or their unpacked folders; nothing is
            downloaded then. For an image folder, the folder that contains one folder per class. None to use the data folder.
        side: height and width to which the images of an image folder are resized. None to use the value of an earlier
            preparation, or 32 if there is none. For a built-in dataset, this must be None.
        progress: function called with (activity, amount done, total amount). The amounts are bytes during a download and images
            during the preparation.

    Returns:
        A report on the prepared dataset.

    Raises:
        DataError: an argument is invalid, a file is missing or damaged or cannot be downloaded, the Python package that contains
            the dataset is not installed, or the disk is full.
    """
    if name in DATASETS.built_in:
        if side is not None:
            raise DataError(f"The side can be chosen only for an image folder, and {name} has a fixed size; leave --side out.")
        fetch_official(DATASETS[name], source, progress)
    else:
        fetch_folder(name, source, side, progress)
    return presence(DATASETS[name])


def presences() -> list[Presence]:
    """Return a report on every dataset.

    The order is: built-in datasets, prepared image folders, and image folders in the data folder that are not prepared.
    """
    known = [presence(dataset) for _, dataset in DATASETS.items()]
    names = {dataset.name for dataset in known}
    try:
        waiting = sorted(path.name for path in (prepared.data_home() / "folders").iterdir() if path.is_dir())
    except OSError:
        waiting = []
    return known + [
        Presence(name, name, None, None, None, False, str(prepared.prepared_place(name)),
                 f"The image folder {name} is not prepared; run `rampart dataset fetch {name} --side {DEFAULT_SIDE}`.",
                 f"rampart dataset fetch {name}")
        for name in waiting if name not in names and folders.NAME.fullmatch(name)]


def presence(dataset: Dataset) -> Presence:
    """Return a report on whether one dataset is available on this machine."""
    missing = prepared.absence(dataset)
    command = dataset.package.command if dataset.package else f"rampart dataset fetch {dataset.name}"
    place = "" if dataset.read is None else str(prepared.prepared_place(dataset.name))
    return Presence(dataset.name, dataset.title, dataset.classes, dataset.images, dataset.image_shape, not missing, place,
                    missing, command if missing else "")


def fetch_official(dataset: Dataset, folder: Path | None = None,
                   progress: Progress = lambda what, done, total: None) -> None:
    """Prepare a dataset from its official files. Do nothing if the dataset has no official files.

    A dataset that is already prepared is prepared again only if `folder` is given. Nothing is done for a dataset that comes with
    an installed Python package.

    Args:
        dataset: description of the dataset.
        folder: folder that contains the official files; None to use the data folder and download files that are missing.
        progress: function called with (activity, amount done, total amount), in bytes or images.

    Raises:
        DataError: a file is missing or damaged or cannot be downloaded, the Python package is not installed, or the disk is full.
    """
    if dataset.package is not None and (missing := prepared.absence(dataset)):
        raise DataError(missing)
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
            "sources": [{"url": source.url, "sha256": source.sha256} for source in dataset.sources]}, progress=progress)


def fetch_folder(name: str, folder: Path | None = None, side: int | None = None,
                 progress: Progress = lambda what, done, total: None) -> None:
    """Prepare a dataset from an image folder, whose images are resized to squares.

    A dataset that is already prepared is prepared again only if `folder` or `side` is given, or if the data folder has an image
    folder of this name.

    Args:
        name: name of the dataset.
        folder: folder that contains one folder per class; None to use the folder folders/NAME in the data folder.
        side: height and width of the resized images; None to use the value of an earlier preparation, or 32 if there is none.
        progress: function called with (activity, images done, total images).

    Raises:
        DataError: the name or the side is invalid, the folder is unsuitable, a picture cannot be decoded, or the disk is full.
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
    """Lock the preparation of a dataset during the `with` block, so that no two processes write the same files.

    Raises:
        DataError: another process is preparing the dataset, or the data folder is not writable.
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
