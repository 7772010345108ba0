"""The division of a dataset into four disjoint splits (weights, alphas, select, test), and the number of batches in a split.

The images of each class are shuffled and divided among the splits in fixed proportions, so the splits depend only on the labels
and a seed. An official test set, if there is one, becomes the test split unchanged.

Differs: the code of the published searches has no select split. It divides the training images into halves in file order, which
the setting `halves` of a search can also do.

The module does not import torch, and imports numpy only inside functions that use arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.data.catalogue import DATASETS
from engine.data.dataset import SPLITS, Dataset
from engine.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Splits:
    """The division of a dataset's images into the four splits.

    Each split is an array of positions in the dataset, int64 and ascending.

    Attributes:
        weights: images on which weights are trained.
        alphas: images on which the alphas of a search are trained.
        select: images by which checkpoints and candidates are selected.
        test: images of the final evaluation.
        hash: hash of all four splits (16 hex characters), which every run records. Equal hashes mean equal splits.
    """

    weights: np.ndarray
    alphas: np.ndarray
    select: np.ndarray
    test: np.ndarray
    hash: str

    def indices(self, *names: str) -> np.ndarray:
        """Return the positions of the images in one or more splits, one split after another in the order of `names`.

        Raises:
            ConfigError: a name is not one of `SPLITS`.
        """
        import numpy as np

        for name in names:
            if name not in SPLITS:
                raise ConfigError(f"There is no split {name!r}; known are: {', '.join(SPLITS)}.")
        return np.concatenate([getattr(self, name) for name in names])


def stable_seed(seed: int, *key: int | str) -> int:
    """Return a seed in 0..2**63-1 for one purpose. Equal arguments give equal seeds on every platform and Python version.

    Args:
        seed: seed of the run.
        key: integers and strings that name the purpose of the random numbers, for example ("order", 3). Different keys give
            unrelated seeds.
    """
    for part in key:
        if not isinstance(part, (int, str)):
            raise TypeError(f"a key must hold integers and strings, got {part!r}")
    text = json.dumps([int(seed), *key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_splits(labels: np.ndarray, fractions: Sequence[float], seed: int, images: int | None = None,
                test_images: int | None = None) -> Splits:
    """Divide the images of a dataset among the four splits, so that each split has the same proportions of classes.

    The number of images of one class in a split deviates from the exact proportion by at most two. `split_sizes` computes the
    sizes of the splits without dividing the images.

    Args:
        labels: class of every image, [N].
        fractions: fractions, with sum 1, of the images in each of the four `SPLITS`. If `test_images` is given, three fractions,
            which divide the other images among the first three splits.
        seed: seed of all random numbers.
        images: maximum number of images in each split, chosen with unchanged proportions of classes; None to keep all.
        test_images: number of images in the official test set; None if there is none. The official test set is at the end of the
            dataset and becomes the test split.
    """
    import numpy as np

    labels = np.asarray(labels)
    dealt = len(labels) - (test_images or 0)
    order = _by_class(labels[:dealt], stable_seed(seed, "splits"))
    totals = _apportion(dealt, fractions)
    # The j-th image of a split is assigned the time (j + 1/2) / size. Sorted by these times, the images of all splits alternate
    # evenly. Therefore any sequence of consecutive images, such as those of one class, is divided in proportion.
    times = np.concatenate([(np.arange(size) + 0.5) / max(size, 1) for size in totals])
    owners = np.repeat(np.arange(len(totals)), totals)[np.argsort(times, kind="stable")]
    chosen = [order[owners == split] for split in range(len(totals))]
    if test_images is not None:
        chosen.append(dealt + _by_class(labels[dealt:], stable_seed(seed, "splits", "test")))
    parts = []
    for indices in chosen:
        if images is not None and images < len(indices):
            indices = indices[_evenly(len(indices), images)]
        parts.append(np.sort(indices).astype(np.int64))
    weights, alphas, select, test = parts
    return Splits(weights, alphas, select, test, hash=_hash(parts))


def splits_of(dataset: Dataset | str, seed: int, images: int | None = None) -> Splits:
    """Read the labels of a dataset and divide its images among the four splits with `make_splits`.

    Args:
        dataset: description of the dataset, or its name in the registry.
        seed: seed of all random numbers.
        images: maximum number of images in each split; None to keep all.
    """
    dataset = DATASETS[dataset] if isinstance(dataset, str) else dataset
    return make_splits(dataset.load()[1], dataset.split_fractions, seed, images, dataset.test_images)


def halved_in_file_order(splits: Splits) -> Splits:
    """Divide the images of the weights and alphas splits anew, in the order of the dataset instead of at random.

    As in the code of the published searches, the weights split gets the first images, and the alphas split gets the remaining
    ones. Both splits keep their sizes. The other two splits and the attribute `hash` stay unchanged.
    """
    import numpy as np

    both = np.sort(splits.indices("weights", "alphas"))
    return replace(splits, weights=both[:len(splits.weights)], alphas=both[len(splits.weights):])


def stratified_subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose `count` images at random, with unchanged proportions of classes, and return their ascending positions.

    If there are at most `count` images, all positions are returned.

    Args:
        labels: class of every image, [N].
        count: number of images to choose.
        seed: seed of all random numbers.
    """
    import numpy as np

    labels = np.asarray(labels)
    if count >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    order = _by_class(labels, stable_seed(seed, "subset"))
    return np.sort(order[_evenly(len(labels), count)]).astype(np.int64)


def split_sizes(dataset: Dataset | str, images: int | None = None) -> dict[str, int]:
    """Return {name of a split: its number of images} for a dataset, without opening the dataset.

    Args:
        dataset: description of the dataset, or its name in the registry.
        images: maximum number of images in each split; None to keep all.
    """
    dataset = DATASETS[dataset] if isinstance(dataset, str) else dataset
    totals = _apportion(dataset.images - (dataset.test_images or 0), dataset.split_fractions)
    totals += [] if dataset.test_images is None else [dataset.test_images]
    return {name: total if images is None else min(total, images) for name, total in zip(SPLITS, totals, strict=True)}


def steps_in_epoch(images: int, batch_size: int, limit: int | None = None) -> int:
    """Return the number of batches in one pass over some images.

    A last batch of a single image is dropped and not counted, because BatchNorm cannot train on a single image.

    Args:
        images: number of images.
        batch_size: number of images in a full batch.
        limit: maximum number of batches; None for no limit.
    """
    full, rest = divmod(images, batch_size)
    steps = full + (rest > 1)
    return steps if limit is None else min(steps, limit)


def _apportion(total: int, fractions: Sequence[float]) -> list[int]:
    """Divide `total` into whole numbers in proportion to `fractions`, by the largest-remainder method."""
    exact = [total * fraction / sum(fractions) for fraction in fractions]
    sizes = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda split: (sizes[split] - exact[split], split))
    for split in by_remainder[: total - sum(sizes)]:
        sizes[split] += 1
    return sizes


def _by_class(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the positions of all images, ordered by class and in random order within each class."""
    import numpy as np

    # numpy's legacy generator draws the same numbers in every version. The newer generators may not.
    shuffled = np.random.RandomState(seed % 2**32).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _evenly(total: int, count: int) -> np.ndarray:
    """Return `count` whole numbers spread evenly over 0..total-1."""
    import numpy as np

    return ((2 * np.arange(count) + 1) * total) // (2 * count)


def _hash(parts: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, part in zip(SPLITS, parts, strict=True):
        digest.update(name.encode() + len(part).to_bytes(8, "big") + part.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
