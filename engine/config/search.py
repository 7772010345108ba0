"""Settings shared by all search methods. The settings of a single method are in `engine.search.methods`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from engine.architecture.placement import RULES, PlacementName
from engine.config.early_stop import stop_minutes
from engine.config.fields import WidthRatio, normalisation, placement_setting, setting, width_ratio_setting
from engine.config.run import RunConfig
from engine.errors import ConfigError, in_sentence

# Values of settings that older searches ran with before the settings existed. Listed are the settings whose default differs
# from this value in at least one method.
OLDER_VALUES = {"cutout": 0, "normalise": False}


class SearchConfig(RunConfig):
    """Settings that all search methods have. Each method has a subclass that adds its own settings."""

    # False for a method without architecture weights. Such a method trains separate networks, its candidates, and measures each
    # of them on the select split.
    on_supernet: ClassVar[bool] = True

    epochs: int = setting(50, "Passes over the weights split.",
                          group="Schedule", silent=True, source="ARNAS code", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", silent=True, source="ARNAS code", ge=2, le=8192)
    steps_per_epoch: int | None = setting(None, "Number of steps per epoch.", empty="a full pass",
                                          group="Schedule", silent=True, ge=1)
    schedule_ahead: bool = setting(
        False, "Differs when on: epoch e, counted from 0, uses the cosine schedule's learning rate of epoch e + 1. The released "
        "codes do so with PyTorch 1.1 or newer, because they advance the schedule before the epoch.", group="Schedule")
    alphas_batches: Literal["pass", "fresh"] = setting(
        "pass", "Differs when fresh: selects the order of the alphas batches. pass: one pass over the alphas split per epoch; "
        "fresh, as in the released ARNAS code: each batch is drawn from a new shuffle, so images repeat within an epoch. No "
        "effect on random search, which has no alphas.", group="Schedule",
        titles={"pass": "one pass per epoch", "fresh": "new shuffle every step"})
    halves: Literal["seed", "file_order"] = setting(
        "seed", "Differs when file_order: divides the images of the search into the weights and alphas splits. seed: at random, "
        "every class in proportion; file_order, as in the released codes: the first half in the dataset's order for weights, the "
        "second for alphas. If the dataset is sorted by class, these halves have different classes. The select split is held out "
        "either way.", group="Data",
        titles={"seed": "drawn by seed", "file_order": "in file order"})
    channels: int = setting(24, "Channels C of the first cells of the supernet; even.", step=2, group="Supernet", silent=True,
                            source="ARNAS code", ge=2, le=512)
    layers: int = setting(8, "Number of cells of the supernet.", group="Supernet", silent=True, source="ARNAS code", ge=4, le=64)
    placement: PlacementName = placement_setting("normal", "DARTS code")
    width_ratio: WidthRatio = width_ratio_setting("1:2:4", "DARTS code")
    weights_learning_rate: float = setting(0.025, "Learning rate of SGD on the weights in the first epoch.",
                                           group="Weights", source="ARNAS code", gt=0, le=10)
    weights_learning_rate_min: float = setting(0.001, "Learning rate at the end of the cosine schedule.", group="Weights",
                                               source="ARNAS code", ge=0, le=10)
    momentum: float = setting(0.9, "Momentum of SGD.", group="Weights", source="ARNAS code", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "Weight decay of SGD.", group="Weights", source="ARNAS code", ge=0, le=1)
    gradient_clip: float = setting(5.0, "Largest norm of the weight gradient.", group="Weights", source="ARNAS code", gt=0)
    crop_padding: int = setting(4, "Padding before a random crop; 0 for no crop.", group="Augmentation",
                                source="ARNAS code", unit="pixels", ge=0, le=64)
    flip: bool = setting(True, "Random horizontal flip.", group="Augmentation", source="ARNAS code")
    cutout: int = setting(0, "Side length of a random square that is blanked; 0 for none.", group="Augmentation",
                          source="ARNAS code", unit="pixels", ge=0, le=64)
    normalise: bool = normalisation(False, "ARNAS code")
    stop_minutes: float | None = stop_minutes(
        "A search with architecture weights ends after the current step, a random search after the candidate in training.")

    @property
    def out_of_distribution(self) -> str | None:
        """Name of the second dataset, which gives the out-of-distribution images of a search; None if the search uses none.

        Methods that use such images inherit from `engine.search.config.OutOfDistributionConfig`.
        """
        return None

    def datasets(self) -> tuple[str, ...]:
        """Return the names of all datasets that the run reads, beginning with the setting `dataset`."""
        return (*super().datasets(), *([self.out_of_distribution] if self.out_of_distribution else []))

    @classmethod
    def of_record(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the recorded settings of a run, completed by the settings that did not exist when the run was launched.

        Each added setting gets the value with which a search behaves as it did in the older version.
        """
        return OLDER_VALUES | dict(values)

    def supernet_settings(self) -> dict[str, Any]:
        """Return additional keyword arguments for `engine.space.supernet.Supernet`. Most methods need none."""
        return {}

    @classmethod
    def weighs(cls, values: Mapping[str, Any]) -> bool:
        """Return True if a search with these settings computes weights of several objectives in some or all of its steps.

        Args:
            values: {name: value} of the search's settings, possibly recorded by an older version.
        """
        return not cls.model_fields.keys().isdisjoint(("weighting", "solver"))

    def training_epoch(self, epoch: int) -> tuple[int, int]:
        """Convert an epoch of the search to an epoch in the training of one network.

        The two epochs differ if the method trains several networks one after another. Random numbers depend on the returned
        epoch, so all networks see the same images in the same order. The learning rate depends on both returned numbers.

        Args:
            epoch: epoch of the search, counted from 0.

        Returns:
            position: epoch in the training of the current network, counted from 0.
            epochs: number of epochs of this training. If it equals `position`, the network is measured in this epoch, not
                trained.
        """
        return epoch, self.epochs

    @field_validator("channels")
    @classmethod
    def _is_even(cls, channels: int) -> int:
        if channels % 2:
            raise ConfigError(f"channels must be even (a reduction splits them into two halves), got {channels}; "
                              f"use {channels + 1}.")
        return channels

    def deviations(self) -> list[str]:
        """Return phrases for the name of the run, one for each deviation from the published method.

        The phrases concern settings that all methods share.
        """
        fields, names = type(self).model_fields, super().deviations()
        if self.placement != fields["placement"].default:
            names.append(in_sentence(RULES[self.placement].title))
        if self.width_ratio != fields["width_ratio"].default:
            names.append(f"widths {self.width_ratio}")
        if self.normalise != fields["normalise"].default:
            names.append("images normalised" if self.normalise else "images not normalised")
        if self.schedule_ahead:
            names.append("learning rate one epoch ahead")
        if self.alphas_batches == "fresh" and self.on_supernet:
            names.append("fresh alphas batches")
        if self.halves == "file_order":
            names.append("halves in file order")
        return names
