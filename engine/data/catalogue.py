"""The registry of all datasets.

`DATASETS` contains the built-in datasets and the user's prepared image folders. It looks for the image folders on each access. To
add a built-in dataset, define a `Dataset` in a file of this package and add it to the list below. This module imports neither
torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.data import folders
from engine.data.cifar import CIFAR10, CIFAR100
from engine.data.dataset import Dataset
from engine.data.digits import DIGITS, DIGITS16, DIGITS32
from engine.data.mnist5k import MNIST5K
from engine.data.photographs import PHOTOGRAPHS
from engine.data.svhn import SVHN
from engine.data.tiny_imagenet import TINY_IMAGENET
from engine.errors import ConfigError
from engine.registry import Registry, unknown_name


class DatasetRegistry(Registry[Dataset]):
    """A registry of the built-in datasets and of all image folders prepared in the data folder."""

    def __getitem__(self, name: str) -> Dataset:
        if name not in self._entries and (folder := self._folder(name)) is not None:
            return folder
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or self._folder(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([*self._entries, *(name for name in folders.prepared_names() if name not in self.built_in)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def items(self) -> list[tuple[str, Dataset]]:
        """Return all (name, dataset) pairs: built-in datasets in registration order, then the user's image folders."""
        return [(name, self[name]) for name in self]

    def _folder(self, name: object) -> Dataset | None:
        return None if name in self.built_in else folders.prepared_folder(name)

    @property
    def built_in(self) -> tuple[str, ...]:
        """The names of all built-in datasets. An image folder cannot have one of these names."""
        return (*self._entries, *UNLABELLED)


DATASETS: DatasetRegistry = DatasetRegistry("dataset")
# Datasets without classes. Only searches that need images from a second dataset can use them.
UNLABELLED: Registry[Dataset] = Registry("dataset without classes")

for _dataset in (DIGITS, DIGITS16, DIGITS32, MNIST5K, CIFAR10, CIFAR100, SVHN, TINY_IMAGENET):
    DATASETS.add(_dataset.name, _dataset)
UNLABELLED.add(PHOTOGRAPHS.name, PHOTOGRAPHS)


def image_sources() -> list[str]:
    """Return the names of all datasets, with and without classes.

    A search can use any of them as the source of out-of-distribution images.
    """
    return [*DATASETS, *UNLABELLED]


def image_source(name: str) -> Dataset:
    """Return the dataset with this name. The dataset need not have classes.

    Raises:
        ConfigError: there is no such dataset.
    """
    if name in UNLABELLED:
        return UNLABELLED[name]
    if name in DATASETS:
        return DATASETS[name]
    raise ConfigError(unknown_name("dataset", name, image_sources()))
