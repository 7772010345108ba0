"""The dataset Tiny-ImageNet-200, with 110,000 photographs of 64x64 pixels in 200 classes (Stanford CS231n).

Classes are numbered in the order of their WordNet ids. The labels of the dataset's own test images were never published.
Therefore its 10,000 validation images are used as the test set, as in the papers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from engine.data import prepared
from engine.data.archives import Pictures, opened
from engine.data.dataset import OFFICIAL_FRACTIONS, Block, Dataset, Source, few_images
from engine.data.pictures import square
from engine.errors import DataError

SIDE = 64
AT_ONCE = 500


def read(places: Sequence[Path]) -> Iterator[Block]:
    """Yield the images in blocks of up to 500, training images first.

    Args:
        places: one path, of the archive or of the folder to which it was unpacked.

    Raises:
        DataError: a picture, the list of classes or a list of labels is missing or cannot be read.
    """
    with opened(places[0]) as files:
        classes = {word: number for number, word in enumerate(sorted(files.read("wnids.txt").decode("ascii", "replace").split()))}
        train = [(name, classes[name.split("/")[1]]) for name in files.names()
                 if name.startswith("train/") and name.lower().endswith(".jpeg") and name.split("/")[1] in classes]
        yield from _blocks(files, train, test=False)
        yield from _blocks(files, _validation(files, classes), test=True)


def _validation(files: Pictures, classes: dict[str, int]) -> list[tuple[str, int]]:
    """Return the name and label of each validation image, from the list val/val_annotations.txt.

    Each line of the list contains a file name, a WordNet id and a bounding box, separated by tabs. The box is ignored.
    """
    labelled = []
    for line in files.read("val/val_annotations.txt").decode("ascii", "replace").splitlines():
        file, word = (line.split("\t") + ["", ""])[:2]
        if word not in classes:
            raise DataError(f"Each line of val/val_annotations.txt in {files.place} must name an image and one of the classes of "
                            f"wnids.txt, got {line[:60]!r}; restore it.")
        labelled.append((f"val/images/{file}", classes[word]))
    return labelled


def _blocks(files: Pictures, labelled: list[tuple[str, int]], test: bool) -> Iterator[Block]:
    import numpy as np

    for start in range(0, len(labelled), AT_ONCE):
        part = labelled[start : start + AT_ONCE]
        images = np.stack([square(files.read(name), SIDE, f"{name} in {files.place}") for name, _ in part])
        yield Block(images, np.array([label for _, label in part], dtype=np.int64), test)


TINY_IMAGENET = Dataset(
    name="tiny-imagenet", title="Tiny-ImageNet-200",
    description="110,000 colour photographs of 64x64 pixels in 200 classes; tested on its official validation set of 10,000.",
    classes=200, image_shape=(3, SIDE, SIDE), images=110_000, test_images=10_000,
    epsilon=8 / 255, step_size=None, split_fractions=OFFICIAL_FRACTIONS, load=partial(prepared.load, "tiny-imagenet"),
    published=True,
    out_of_distribution="svhn",
    # From the ARNAS code, train_tiny_imagenet.
    retraining={"channels": 84, "layers": 14, "epochs": 90, "batch_size": 26, "cutout": 0, "milestones": "1/3, 2/3"},
    quick=few_images(64, 10),
    origin="Stanford CS231n, from ImageNet",
    # The authors publish no checksum. That of berenslab/t-simcne (cnexp/dataset/tiny_imagenet.py) and of Tuee22/jitML
    # (JitML.SL.Dataset), which downloaded the file independently.
    sources=(Source("tiny-imagenet-200.zip", "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
                    "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821", 248_100_043, "tiny-imagenet-200"),),
    read=read)
