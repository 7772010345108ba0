"""The setting of searches that also look at images of another dataset. Imports no torch."""

from __future__ import annotations

from pydantic import model_validator

from engine.config import SearchConfig, setting
from engine.data import DATASETS, Dataset, image_source


class OutOfDistributionConfig(SearchConfig):
    """A search with a batch of out-of-distribution images in every step: of another dataset, fitted to its own image shape.

    They are not augmented and their labels are not read; none is of that dataset's select or test split. A class that needs
    them only sometimes overrides `out_of_distribution`.
    """

    second_dataset: str | None = setting(
        None, "Another dataset, whose images are out of distribution; read only where an objective looks at such images. "
        "photographs, patches of two pictures, lie everywhere. empty for the usual one (E2RNAS of 2021: SVHN for CIFAR; ours: "
        "SVHN for Tiny-ImageNet, CIFAR-10 for SVHN, photographs for all others).", group="Data")

    @property
    def out_of_distribution(self) -> Dataset | None:
        """See `SearchConfig.out_of_distribution`."""
        return image_source(self.second_dataset or DATASETS[self.dataset].out_of_distribution)

    @model_validator(mode="after")
    def _second_dataset_is_another(self) -> OutOfDistributionConfig:
        if self.second_dataset:
            image_source(self.second_dataset)
        if self.second_dataset == self.dataset:
            raise ValueError(f"second_dataset must be another than dataset, so that its images are out of distribution, got "
                             f"{self.second_dataset!r} for both; choose another or leave it empty")
        return self
