"""Images as tensors on the device, and batches of indices into them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data import DATASETS, Dataset
from engine.data.splits import Splits, steps_in_epoch
from engine.errors import ConfigError


def load_split(dataset: Dataset | str, splits: Splits, name: str | tuple[str, ...],
               device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
    """One split, or several joined, in memory.

    Args:
        dataset: description or registry name.
        splits: from `make_splits` on this dataset's labels.
        name: "weights", "alphas", "select" or "test", or a tuple of them. The caller records an opening of "test".
        device: where the tensors go.

    Returns:
        images float32 [N, C, H, W] in 0..1 and labels int64 [N].

    Raises:
        ConfigError: an unknown split, or a dataset whose content does not fit its description.
    """
    dataset = DATASETS[dataset] if isinstance(dataset, str) else dataset
    images, labels = _arrays(dataset.name) if dataset.name in DATASETS else checked(dataset)
    indices = splits.indices(*((name,) if isinstance(name, str) else name))
    return torch.from_numpy(images[indices]).to(device), torch.from_numpy(labels[indices]).to(device)


def batches(images: int, batch_size: int, generator: torch.Generator, limit: int | None = None) -> Iterator[Tensor]:
    """One pass in random order.

    Args:
        images: number of images to index.
        batch_size: images per batch; the last one may be smaller, and is left out when it holds a single image.
        generator: decides the order, for example `generator_for(seed, "order", epoch)`.
        limit: stop after this many batches.

    Yields:
        int64 [b] indices on the generator's device; as many as `steps_in_epoch` says.
    """
    order = torch.randperm(images, generator=generator, device=generator.device)
    for step in range(steps_in_epoch(images, batch_size, limit)):
        yield order[step * batch_size : (step + 1) * batch_size]


def checked(dataset: Dataset) -> tuple[Any, Any]:
    """The dataset's arrays (images float32 [N, C, H, W], labels int64 [N]) after a check against its description.

    Raises:
        ConfigError: what was expected and what the files hold.
    """
    images, labels = dataset.load()
    expected = (dataset.images, *dataset.image_shape)
    if images.shape != expected or images.dtype != np.float32:
        raise ConfigError(f"{dataset.title} must hold float32 images of shape {expected}, got {images.dtype} of shape "
                          f"{images.shape}; restore the dataset's files.")
    if labels.shape != (dataset.images,) or labels.dtype != np.int64:
        raise ConfigError(f"{dataset.title} must hold {dataset.images} int64 labels, got {labels.dtype} of shape "
                          f"{labels.shape}; restore the dataset's files.")
    if images.min() < 0 or images.max() > 1:
        raise ConfigError(f"{dataset.title} must hold pixels in 0..1, got {images.min()} to {images.max()}; scale them.")
    if set(np.unique(labels)) != set(range(dataset.classes)):
        raise ConfigError(f"{dataset.title} must hold the labels 0 to {dataset.classes - 1}, each at least once, got "
                          f"{np.unique(labels).tolist()}; restore the dataset's files.")
    return images, labels


@lru_cache(maxsize=1)
def _arrays(name: str) -> tuple[Any, Any]:
    """One dataset is kept: the splits of a run are taken from the same arrays."""
    return checked(DATASETS[name])
