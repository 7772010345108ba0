"""What is known about a dataset without opening it: plain facts, no torch, no numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SPLITS = ("weights", "alphas", "select", "test")
# With an official test set: its training images in halves for weights and alphas, as published, but for a held-out twentieth
# for select (the papers choose on the test set).
OFFICIAL_FRACTIONS = (0.475, 0.475, 0.05)


@dataclass(frozen=True)
class Source:
    """One official file of a dataset.

    Attributes:
        file: its name in the data folder.
        url: where it comes from.
        md5: its checksum, as its authors or the usual libraries give it.
        bytes: its size.
        unpacked: name of the folder that an archive unpacks to, "" for a file that is none.
    """

    file: str
    url: str
    md5: str
    bytes: int
    unpacked: str = ""


@dataclass(frozen=True)
class Block:
    """Some images in the order in which a dataset keeps them: all for training first, then the official test set.

    Attributes:
        images: uint8 [n, C, H, W].
        labels: integers [n].
        test: whether they are of the official test set.
    """

    images: Any
    labels: Any
    test: bool = False


class ChannelStatistics(NamedTuple):
    """What a network subtracts from each image channel and divides it by.

    Attributes:
        mean, std: one number per channel, of pixels in 0..1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
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
        step_size: default step of iterated attacks in search, training and attack runs, pixel space; None: the published step of
            each kind of run, which fits the published epsilon.
        split_fractions: fraction of all images in each of `SPLITS`; sums to 1. With an official test set: fractions of the
            other images in the first three.
        load: () -> (images, labels int64 [N]) as numpy arrays, always in the same order; images are float32 [N, C, H, W] in
            0..1, or uint8 that is divided by 255 batch by batch.
        test_images: size of the official test set, which is the test split and lies behind all others; None when there is none.
        defaults: values of further settings (crop padding, flip, ...) that this dataset asks for, by setting name.
        retraining: the same, for retrainings alone.
        quick: the same, for the preset `quick` alone: larger images than those of digits take fewer of them to stay quick.
        out_of_distribution: name of the dataset whose images a search takes that looks at images of another one too, unless it
            says which; see `image_source`. The default lies everywhere.
        published: whether it is one of the papers' datasets with their settings, so that nothing of it differs from them.
        channel_statistics: mean and standard deviation of the channels as the papers' code has them; None: what the images of a
            run give (`engine.data.loading.channel_statistics`).
        sources: official files; none when it comes with a package or from a folder of the user's.
        read: places of the sources, in their order, each a file or the folder it unpacks to -> blocks of images.
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
