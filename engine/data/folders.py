"""Datasets made from image folders, which contain one folder of pictures per class.

The pictures may have any sizes and are resized to squares of equal size. Classes are ordered by name and pictures by path, so
equal folders give equal arrays.

An image folder has an official test set if it contains exactly the folders `train` and `test` (or `train` and `val`), with the
same classes in both. The test set is `test` (or `val`). Without an official test set, all pictures are divided among the four
splits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.data import prepared
from engine.data.dataset import OFFICIAL_FRACTIONS, Block, Dataset, few_images
from engine.data.pictures import ENDINGS, square
from engine.errors import DataError, shortened

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
# Fractions of the four splits without an official test set: those of the dataset digits, with a fifth of the images for the test.
FRACTIONS = (0.34, 0.34, 0.12, 0.20)
FEWEST = 20  # pictures per class, so that every split contains every class
SIDES = (8, 512)
AT_ONCE = 200


@dataclass(frozen=True)
class Scan:
    """A list of the classes and pictures in an image folder.

    Attributes:
        classes: names of the classes. The position of a name is the label of the class.
        train: (path, label) of every picture that is not in the official test set.
        test: (path, label) of every picture in the official test set; empty if there is none.
    """

    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]


def scan(folder: Path) -> Scan:
    """List the classes and pictures of a folder without opening any file.

    Raises:
        DataError: the folder does not contain class folders, or a class has too few pictures.
    """
    if not folder.is_dir():
        raise DataError(f"An image folder must be a folder of class folders, and {folder} does not exist; name one with --from "
                        "DIR.")
    try:
        inside = {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
        held_out = next((name for name in ("test", "val") if set(inside) == {"train", name}), None)
        if held_out is None:
            classes = _classes(folder)
            return Scan(tuple(classes), _labelled(classes, FEWEST), ())
        train, test = _classes(inside["train"]), _classes(inside[held_out])
    except OSError as problem:
        raise DataError(f"The image folder {folder} cannot be read ({problem}); change its permissions.") from None
    if list(train) != list(test):
        odd = sorted(set(train) ^ set(test))
        raise DataError(f"train and {held_out} in {folder} must hold the same classes, got {shortened(odd)} in one of them only; "
                        "give both the same class folders.")
    return Scan(tuple(train), _labelled(train, FEWEST), _labelled(test, 1))


def blocks(found: Scan, side: int) -> Iterator[Block]:
    """Decode the pictures of an image folder and yield them in blocks of up to 200 images, training images first.

    Args:
        found: pictures to decode.
        side: height and width to which pictures are resized.

    Raises:
        DataError: a file cannot be read or decoded. The message contains its path.
    """
    import numpy as np

    for labelled, test in ((found.train, False), (found.test, True)):
        for start in range(0, len(labelled), AT_ONCE):
            part = labelled[start : start + AT_ONCE]
            images = np.stack([square(_content(path), side, str(path)) for path, _ in part])
            yield Block(images, np.array([label for _, label in part], dtype=np.int64), test)


def check_name(name: str, taken: Collection[str]) -> None:
    """Check that a name is allowed for an image folder.

    Args:
        name: name to check.
        taken: names of the built-in datasets, which are not allowed.

    Raises:
        DataError: the name is taken, is longer than 40 characters, begins with a hyphen or underscore, or contains characters
            other than lower-case letters, digits, hyphens and underscores.
    """
    if name in taken or not NAME.fullmatch(name):
        raise DataError(f"The name of an image folder must be 1 to 40 lower-case letters, digits, hyphens or underscores and "
                        f"none of {', '.join(taken)}, got {name!r}; choose another.")


def prepared_names() -> list[str]:
    """Return the sorted names of the image folders that are prepared on this machine."""
    place = prepared.prepared_place("any").parent
    try:
        names = sorted(path.name for path in place.iterdir())
    except OSError:
        return []
    return [name for name in names if prepared_folder(name) is not None]


def prepared_folder(name: object) -> Dataset | None:
    """Return the dataset that was prepared from the image folder of this name, or None if there is none."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return None
    record = prepared.record_of(name)
    if record is None:
        return None
    try:
        channels, height, width = (int(size) for size in record["image_shape"])
        images, classes = int(record["images"]), int(record["classes"])
        test = None if record["test_images"] is None else int(record["test_images"])
    except (KeyError, TypeError, ValueError):
        return None
    # The padding 4 and the cutout 16 of 32x32 images scale with the size. The auxiliary head needs at least 17 pixels.
    defaults = {"crop_padding": max(1, height // 8), "cutout": height // 2} | ({"auxiliary_weight": 0.0} if height < 17 else {})
    return Dataset(
        name=name, title=name, description=f"{images:,} pictures of an image folder, resized to {height}x{width} pixels.",
        classes=classes, image_shape=(channels, height, width), images=images, test_images=test, epsilon=8 / 255, step_size=None,
        split_fractions=FRACTIONS if test is None else OFFICIAL_FRACTIONS, load=partial(prepared.load, name), defaults=defaults,
        quick=few_images(128, 16))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Return {class name: sorted paths of its pictures}, with the class names in sorted order.

    Pictures are recognised by the ending of the file name. Hidden files and files outside class folders are ignored.
    """
    classes = {}
    places = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for place in sorted(places, key=lambda path: path.name):
        pictures = {path.relative_to(place).as_posix(): path for path in place.rglob("*")
                    if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()}
        if place.name != (shown := place.name.encode(errors="replace").decode()):
            raise DataError(f"The name of a class folder must be text in UTF-8, {shown} in {folder} is not; rename it.")
        classes[place.name] = [pictures[name] for name in sorted(pictures)]
    if len(classes) < 2:
        raise DataError(f"An image folder must hold at least two class folders, {folder} holds {len(classes)}; give the folder "
                        "that contains them.")
    return classes


def _labelled(classes: dict[str, list[Path]], fewest: int) -> tuple[tuple[Path, int], ...]:
    for name, pictures in classes.items():
        if len(pictures) < fewest:
            raise DataError(f"Each class folder must hold at least {fewest} pictures, {name!r} holds {len(pictures)}; add some "
                            "or remove the folder.")
    return tuple((path, label) for label, pictures in enumerate(classes.values()) for path in pictures)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path} cannot be read ({problem.strerror}); change its permissions.") from None
