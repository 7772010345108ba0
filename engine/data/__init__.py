"""Datasets and their four disjoint splits.

`DATASETS` holds one `Dataset` description per name: plain facts that the page and the command line need (no torch, no
numpy). The images themselves are read by `Dataset.load`, which imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.registry import Registry

SPLITS = ("weights", "alphas", "select", "test")


@dataclass(frozen=True)
class Dataset:
    """What is known about a dataset without opening it.

    Attributes:
        name: registry name, for example "digits".
        title: what the page calls it.
        description: one sentence.
        classes: number of classes.
        image_shape: (channels, height, width).
        images: number of images in all four splits together.
        epsilon: default L-infinity radius of attacks, pixel space 0..1.
        step_size: default step of iterated attacks in search and training, pixel space.
        split_fractions: fraction of all images in each of `SPLITS`; sums to 1.
        defaults: values of further settings (crop padding, flip, ...) that this dataset asks for, by setting name.
        load: () -> (images float32 [N, C, H, W] in 0..1, labels int64 [N]) as numpy arrays, always in the same order.
    """

    name: str
    title: str
    description: str
    classes: int
    image_shape: tuple[int, int, int]
    images: int
    epsilon: float
    step_size: float
    split_fractions: tuple[float, float, float, float]
    load: Callable[[], tuple[Any, Any]] = field(repr=False)
    defaults: dict[str, Any] = field(default_factory=dict)


DATASETS: Registry[Dataset] = Registry("dataset")

from engine.data import digits  # noqa: E402, F401  (registers itself)
