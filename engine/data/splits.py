"""The four disjoint splits of a dataset, and the arithmetic of batches that forms and command line need.

Splits depend only on the labels and one seed: the images of each class are shuffled and dealt to the splits in proportion. An
official test set is the test split, and none of its images is in another split. Differs: the released search codes have no
select split, and halve the training images in file order (the setting `halves` of searches). Imports no torch, and numpy only
inside functions that use arrays, so that the page can call the others.
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
    """The images of each split.

    Attributes:
        weights, alphas, select, test: ascending indices into the dataset, int64.
        hash: 16 hex characters over all four, stored with every run; equal hashes mean equal splits.
    """

    weights: np.ndarray
    alphas: np.ndarray
    select: np.ndarray
    test: np.ndarray
    hash: str

    def indices(self, *names: str) -> np.ndarray:
        """Return the indices of one or more splits, concatenated in the order of `names`.

        Raises:
            ConfigError: a name that is not one of `SPLITS`.
        """
        import numpy as np

        for name in names:
            if name not in SPLITS:
                raise ConfigError(f"There is no split {name!r}; known are: {', '.join(SPLITS)}.")
        return np.concatenate([getattr(self, name) for name in names])


def stable_seed(seed: int, *key: int | str) -> int:
    """Return a seed in 0..2**63-1 for one purpose, the same in every process, Python version and platform.

    Args:
        seed: the run's seed.
        key: purpose of the random numbers, for example ("order", 3). Different keys give unrelated seeds.
    """
    for part in key:
        if not isinstance(part, (int, str)):
            raise TypeError(f"a key must hold integers and strings, got {part!r}")
    text = json.dumps([int(seed), *key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_splits(labels: np.ndarray, fractions: Sequence[float], seed: int, images: int | None = None,
                test_images: int | None = None) -> Splits:
    """Deal all images to the four splits, every class in proportion.

    The sizes are exactly those of `split_sizes`; a class's share of a split is exact up to two images.

    Args:
        labels: [N] class of every image.
        fractions: share of each of `SPLITS`; sums to 1. With `test_images`: shares of the other images in the first three.
        seed: the only source of randomness.
        images: keep only this many images of each split, again in proportion; None for all.
        test_images: size of the official test set, which is at the end of the dataset and becomes the test split; None: the test
            split is dealt, too.
    """
    import numpy as np

    labels = np.asarray(labels)
    dealt = len(labels) - (test_images or 0)
    order = _by_class(labels[:dealt], stable_seed(seed, "splits"))
    totals = _apportion(dealt, fractions)
    # Split s claims its j-th image at time (j + 1/2) / size. Sorted by time, the claims of all splits interleave evenly, so
    # any run of consecutive images, in particular a class, is divided in proportion.
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
    """Apply `make_splits` to a registered dataset, which this reads."""
    dataset = DATASETS[dataset] if isinstance(dataset, str) else dataset
    return make_splits(dataset.load()[1], dataset.split_fractions, seed, images, dataset.test_images)


def halved_in_file_order(splits: Splits) -> Splits:
    """Return the splits with the images of weights and alphas shared out in the dataset's order, as the released codes do.

    What is held out stays the same, and so does the hash.
    """
    import numpy as np

    both = np.sort(splits.indices("weights", "alphas"))
    return replace(splits, weights=both[:len(splits.weights)], alphas=both[len(splits.weights):])


def stratified_subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return ascending positions of `count` images, every class in proportion, or all positions if there are no more.

    Args:
        labels: [N] class of every image.
        count: number of images to select.
        seed: the only source of randomness.
    """
    import numpy as np

    labels = np.asarray(labels)
    if count >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    order = _by_class(labels, stable_seed(seed, "subset"))
    return np.sort(order[_evenly(len(labels), count)]).astype(np.int64)


def split_sizes(dataset: Dataset | str, images: int | None = None) -> dict[str, int]:
    """Return the number of images in each split without opening the dataset.

    Args:
        dataset: description or registry name.
        images: the setting of the same name: at most this many images of each split.
    """
    dataset = DATASETS[dataset] if isinstance(dataset, str) else dataset
    totals = _apportion(dataset.images - (dataset.test_images or 0), dataset.split_fractions)
    totals += [] if dataset.test_images is None else [dataset.test_images]
    return {name: total if images is None else min(total, images) for name, total in zip(SPLITS, totals, strict=True)}


def steps_in_epoch(images: int, batch_size: int, limit: int | None = None) -> int:
    """Return the number of batches in one pass; a last batch of a single image is dropped (BatchNorm cannot train on it).

    Args:
        images: images in the split.
        batch_size: images in a full batch.
        limit: maximum number of batches.
    """
    full, rest = divmod(images, batch_size)
    steps = full + (rest > 1)
    return steps if limit is None else min(steps, limit)


def _apportion(total: int, fractions: Sequence[float]) -> list[int]:
    """Return whole numbers in proportion to `fractions` that sum to `total` (largest remainders)."""
    exact = [total * fraction / sum(fractions) for fraction in fractions]
    sizes = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda split: (sizes[split] - exact[split], split))
    for split in by_remainder[: total - sum(sizes)]:
        sizes[split] += 1
    return sizes


def _by_class(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all positions ordered by class and shuffled within each class."""
    import numpy as np

    # The legacy generator, whose stream is frozen; those of numpy's newer generators may change between versions.
    shuffled = np.random.RandomState(seed % 2**32).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _evenly(total: int, count: int) -> np.ndarray:
    """Return `count` positions spread evenly over range(total)."""
    import numpy as np

    return ((2 * np.arange(count) + 1) * total) // (2 * count)


def _hash(parts: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, part in zip(SPLITS, parts, strict=True):
        digest.update(name.encode() + len(part).to_bytes(8, "big") + part.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
