"""Descriptions of datasets: plain facts, known without opening the data. Imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SPLITS = ("weights", "alphas", "select", "test")
# For datasets with an official test set. As published, weights and alphas share the training images equally; in addition, a
# twentieth is held out for select, because the papers select on the test set.
OFFICIAL_FRACTIONS = (0.475, 0.475, 0.05)


@dataclass(frozen=True)
class Source:
    """One official file of a dataset.

    Attributes:
        file: its name in the data folder.
        url: its download address.
        md5: its checksum, as published by its authors or by common libraries.
        bytes: its size.
        unpacked: name of the folder that an archive unpacks to; "" if the file is not an archive.
    """

    file: str
    url: str
    md5: str
    bytes: int
    unpacked: str = ""


@dataclass(frozen=True)
class Block:
    """Consecutive images of a dataset. All training images come before the official test set.

    Attributes:
        images: uint8 [n, C, H, W].
        labels: integers [n].
        test: True for images of the official test set.
    """

    images: Any
    labels: Any
    test: bool = False


class ChannelStatistics(NamedTuple):
    """The mean and standard deviation by which a network normalises each image channel.

    Attributes:
        mean, std: one number per channel, for pixels in 0..1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The description of a dataset.

    Attributes:
        name: registry name, for example "digits".
        title: name shown on the page.
        description: one sentence.
        classes: number of classes.
        image_shape: (channels, height, width).
        images: number of images in all four splits together.
        epsilon: default L-infinity radius of attacks, pixel space 0..1.
        step_size: default step of iterated attacks in all kinds of run, pixel space; None for the published step of each kind,
            which fits the published epsilon.
        split_fractions: fraction of all images in each of `SPLITS`; sums to 1. With an official test set: fractions of the
            other images in the first three splits.
        load: () -> (images, labels int64 [N]) as numpy arrays, always in the same order; images are float32 [N, C, H, W] in
            0..1, or uint8, which each batch divides by 255.
        test_images: size of the official test set, which is the test split and comes after all other images; None if there is
            none.
        defaults: values of other settings (crop padding, flip, ...) for this dataset, by setting name.
        retraining: the same, for retraining runs only.
        quick: the same, for the preset `quick` only, because larger images than those of digits need smaller settings.
        out_of_distribution: default second dataset of searches that use one (a name for `image_source`). "photographs" needs no
            download.
        published: True if it is one of the papers' datasets with their settings; False if its settings are ours.
        channel_statistics: mean and standard deviation of the channels in the papers' code; None to measure them on the images
            of a run (`engine.data.loading.channel_statistics`).
        sources: official files; empty if the dataset comes with a package or from a user's folder.
        read: (path of each source, a file or the folder it unpacks to) -> blocks of images.
    """

    name: str
    title: str
    description: str
    classes: int
    image_shape: tuple[int, int, int]
    images: int
    epsilon: float
    step_size: float | None
    split_fractions: tuple[float, ...]
    load: Callable[[], tuple[Any, Any]] = field(repr=False)
    test_images: int | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    retraining: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)
    out_of_distribution: str = "photographs"
    published: bool = False
    channel_statistics: ChannelStatistics | None = None
    sources: tuple[Source, ...] = ()
    read: Callable[[Sequence[Path]], Iterator[Block]] | None = field(default=None, repr=False)
