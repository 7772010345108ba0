"""The contents of a dataset: hashes, the size and balance of its splits, and images to show. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from engine.data.dataset import SPLITS, Dataset
from engine.data.splits import make_splits

SAMPLE_CLASSES, SAMPLES = 10, 5


@dataclass(frozen=True)
class SplitSummary:
    """The content of one split.

    Attributes:
        name: "weights", "alphas", "select" or "test".
        hash: hash of the positions of the split's images in the dataset (16 hex digits).
        per_class: number of images of each class.
    """

    name: str
    hash: str
    per_class: tuple[int, ...]

    @property
    def images(self) -> int:
        """Number of images in the split."""
        return sum(self.per_class)


@dataclass(frozen=True)
class Summary:
    """The content of a dataset that is on this machine.

    Attributes:
        data_hash: hash of all images and labels, which every run records.
        split_hash: hash of all four splits together, which every run records.
        splits: the four splits.
        samples: images of the weights split to show on pages, uint8 [classes, images, C, H, W], for at most the first ten
            classes. If a class has too few images, they are repeated.
    """

    data_hash: str
    split_hash: str
    splits: tuple[SplitSummary, ...]
    samples: Any


def data_hash(dataset: Dataset) -> str:
    """Return a hash of all images and labels of a dataset: 16 hex digits."""
    digest = hashlib.sha256()
    for array in dataset.load():
        digest.update(memoryview(array).cast("B"))  # reads memory or a mapped file without a copy
    return digest.hexdigest()[:16]


def summary(dataset: Dataset, split_seed: int = 0) -> Summary:
    """Read a dataset and return its summary.

    Args:
        dataset: description of the dataset, which must be on this machine.
        split_seed: seed that divides the images into splits.

    Raises:
        DataError: the dataset is not on this machine, or cannot be read.
    """
    import numpy as np

    images, labels = dataset.load()
    splits = make_splits(labels, dataset.split_fractions, split_seed, test_images=dataset.test_images)
    parts = tuple(SplitSummary(name, hashlib.sha256(splits.indices(name).tobytes()).hexdigest()[:16],
                               tuple(np.bincount(labels[splits.indices(name)], minlength=dataset.classes).tolist()))
                  for name in SPLITS)
    shown = [np.resize(splits.weights[labels[splits.weights] == label], SAMPLES)
             for label in range(min(dataset.classes, SAMPLE_CLASSES))]
    samples = np.asarray(images[np.concatenate(shown)])
    if samples.dtype != np.uint8:
        samples = np.rint(255 * samples).astype(np.uint8)
    return Summary(data_hash(dataset), splits.hash, parts, samples.reshape(len(shown), SAMPLES, *dataset.image_shape))
