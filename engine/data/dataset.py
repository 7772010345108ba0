"""Descriptions of datasets: the facts about a dataset that are known without opening its files.

This module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from engine.data.packages import Package

SPLITS = ("weights", "alphas", "select", "test")
# Fractions of the training images in the splits weights, alphas and select, for datasets with an official test set. As in the
# papers, weights and alphas have equally many images. The split select is an addition, because the papers select networks on the
# test set.
OFFICIAL_FRACTIONS = (0.475, 0.475, 0.05)


def few_images(images: int, autoattack_images: int) -> dict[str, dict[str, Any]]:
    """Return values for `Dataset.quick`, {kind of run: {setting: value}}, that make runs use only a few images of each split.

    Args:
        images: number of images in each split.
        autoattack_images: number of test images that AutoAttack attacks.
    """
    return {"search": {"images": images}, "retrain": {"images": images},
            "attack": {"images": images, "autoattack_images": autoattack_images}}


@dataclass(frozen=True)
class Source:
    """An official file of a dataset, which can be downloaded.

    Attributes:
        file: name of the file in the data folder.
        url: address from which the file is downloaded.
        sha256: published SHA-256 checksum of the file in hex.
        bytes: published size of the file in bytes.
        unpacked: name of the folder that unpacking the file creates; empty if the file is not an archive.
    """

    file: str
    url: str
    sha256: str
    bytes: int
    unpacked: str = ""


@dataclass(frozen=True)
class Block:
    """A group of consecutive images of a dataset, all from the training set or all from the official test set.

    In a sequence of blocks, the training images come first.

    Attributes:
        images: pixels, uint8 [n, C, H, W].
        labels: class of each image, integers [n].
        test: True if the images belong to the official test set.
    """

    images: Any
    labels: Any
    test: bool = False


class ChannelStatistics(NamedTuple):
    """The mean and standard deviation of each image channel, with which a network normalises its input.

    Attributes:
        mean: mean of each channel, for pixels in 0..1.
        std: standard deviation of each channel, for pixels in 0..1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A description of a dataset and of the default settings that fit it.

    Attributes:
        name: name in the registry, for example "digits".
        title: name shown on pages.
        description: one sentence about the dataset.
        classes: number of classes.
        image_shape: (channels, height, width) of the images.
        images: number of images in all four splits together.
        epsilon: default L-infinity radius of attacks, for pixels in 0..1.
        step_size: default step size of attacks with several steps, for pixels in 0..1. None to use the published step sizes,
            which differ between the kinds of run.
        split_fractions: fractions, with sum 1, of the images in each of the four `SPLITS`. A dataset with an official test set
            has three fractions, which divide its other images among the first three splits.
        load: function that returns the numpy arrays (images, labels), always in the same order. The images are [N, C, H, W],
            either float32 in 0..1 or uint8 in 0..255. The labels are int64 [N].
        test_images: number of images in the official test set; None if there is none. The official test set comes after all other
            images and becomes the test split.
        defaults: values of further settings (crop padding, flip, ...) for this dataset, keyed by the setting's name.
        retraining: values of settings for this dataset that apply only when a network is retrained.
        quick: values of settings for this dataset that apply only to the preset `quick`, as {kind of run: {setting: value}}.
        out_of_distribution: name of the default second dataset of searches that need out-of-distribution images, for example
            "photographs".
        published: True if the settings come from papers that use this dataset; False if they were chosen for this project.
        channel_statistics: mean and standard deviation of the image channels in the papers' code. None to measure them on the
            images of each run (see `engine.data.loading.channel_statistics`).
        origin: authors and year of the dataset, or of the images from which it was made.
        licence: licence of the images; empty if this project does not know it.
        package: Python package that contains the dataset's files; None if the files come from elsewhere.
        sources: official files of the dataset; empty if the dataset comes with a Python package or is a folder of the user.
        read: function that takes the paths of the official files, or of their unpacked folders, and yields blocks of images. None
            if there are no official files.
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
    quick: dict[str, dict[str, Any]] = field(default_factory=dict)
    out_of_distribution: str = "photographs"
    published: bool = False
    channel_statistics: ChannelStatistics | None = None
    origin: str = ""
    licence: str = ""
    package: Package | None = None
    sources: tuple[Source, ...] = ()
    read: Callable[[Sequence[Path]], Iterator[Block]] | None = field(default=None, repr=False)
