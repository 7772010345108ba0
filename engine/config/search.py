"""Settings that all search methods share. A method's own are in `engine.search.methods`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.architecture.placement import RULES, PlacementName
from engine.config.fields import (
    WidthRatio,
    in_sentence,
    normalisation,
    placement_setting,
    setting,
    width_ratio_setting,
)
from engine.config.run import RunConfig
from engine.errors import ConfigError

# Values that searches ran with before these were settings, where they are not every method's default.
OLDER_VALUES = {"cutout": 0, "normalise": False}


class SearchConfig(RunConfig):
    """What every search method shares; a method's own class adds to it."""

    # False for a method without architecture weights: it trains networks of their own, its candidates, and measures each on the
    # select split.
    on_supernet: ClassVar[bool] = True

    epochs: int = setting(50, "Passes over the weights split.", group="Schedule", source="ARNAS code", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", source="ARNAS code", ge=2, le=8192)
    steps_per_epoch: int | None = setting(None, "Stop each epoch after this many steps.", empty="a full pass",
                                          group="Schedule", ge=1)
    schedule_ahead: bool = setting(
        False, "Differs when on: epoch e, counted from 0, has the cosine schedule's learning rate of epoch e + 1. The released "
        "codes have it with PyTorch 1.1 or newer, because they advance the schedule before the epoch.", group="Schedule")
    alphas_batches: Literal["pass", "fresh"] = setting(
        "pass", "Differs when fresh: every alphas batch is the start of a fresh shuffle of the alphas split, so that images "
        "repeat within an epoch, as in the released ARNAS code. pass: the alphas batches of an epoch are one pass without "
        "repetition. No effect on random search, which has no alphas.", group="Schedule",
        titles={"pass": "one pass an epoch", "fresh": "fresh shuffle every step"})
    halves: Literal["seed", "file_order"] = setting(
        "seed", "Differs when file_order: the weights split is the first half of both splits' images in the dataset's own order "
        "and the alphas split the second, as in the released codes. On a dataset stored class by class, the halves then hold "
        "different classes. seed: both are drawn by the seed, every class in proportion. The select split is held out either "
        "way.", group="Data",
        titles={"seed": "drawn by seed", "file_order": "in file order"})
    channels: int = setting(24, "Channels C of the first cells of the supernet; even.", step=2, group="Supernet",
                            source="ARNAS code", ge=2, le=512)
    layers: int = setting(8, "Cells of the supernet.", group="Supernet", source="ARNAS code", ge=4, le=64)
    placement: PlacementName = placement_setting("normal", "DARTS code")
    width_ratio: WidthRatio = width_ratio_setting("1:2:4", "DARTS code")
    weights_learning_rate: float = setting(0.025, "Learning rate of SGD on the weights at the first epoch.",
                                           group="Weights", source="ARNAS code", gt=0, le=10)
    weights_learning_rate_min: float = setting(0.001, "Its value at the end of the cosine schedule.", group="Weights",
                                               source="ARNAS code", ge=0, le=10)
    momentum: float = setting(0.9, "Momentum of SGD.", group="Weights", source="ARNAS code", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "Weight decay of SGD.", group="Weights", source="ARNAS code", ge=0, le=1)
    gradient_clip: float = setting(5.0, "Largest norm of the weight gradient.", group="Weights", source="ARNAS code", gt=0)
    crop_padding: int = setting(4, "Random crop after padding by this many pixels; 0 for none.", group="Augmentation",
                                source="ARNAS code", unit="pixels", ge=0, le=64)
    flip: bool = setting(True, "Random horizontal flip.", group="Augmentation", source="ARNAS code")
    cutout: int = setting(0, "Side of the square that is blanked; 0 for none.", group="Augmentation", source="ARNAS code",
                          unit="pixels", ge=0, le=64)
    normalise: bool = normalisation(False, "ARNAS code")

    @property
    def out_of_distribution(self) -> str | None:
        """Name of the dataset that adds a batch of out-of-distribution images to every step; None for none.

        `engine.search.config.OutOfDistributionConfig` has the setting that names it.
        """
        return None

    def datasets(self) -> tuple[str, ...]:
        """Return the names of the datasets whose images the run reads, its own first."""
        return (*super().datasets(), *([self.out_of_distribution] if self.out_of_distribution else []))

    @classmethod
    def of_record(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run's record in today's terms: a setting younger than the run has the value it ran with."""
        return OLDER_VALUES | dict(values)

    def supernet_settings(self) -> dict[str, Any]:
        """Arguments of `engine.space.supernet.Supernet` beside the cell kinds, the primitives and the sizes."""
        return {}

    @classmethod
    def weighs(cls, values: Mapping[str, Any]) -> bool:
        """Whether a search weighs several objectives, at least in one of its stages.

        Args:
            values: of its settings, perhaps by an older version.
        """
        return not cls.model_fields.keys().isdisjoint(("weighting", "solver"))

    def training_epoch(self, epoch: int) -> tuple[int, int]:
        """(which epoch of the training of one network it is, from 0; epochs of that training) of an epoch of the search.

        They decide the learning rate, and the first decides all random numbers: networks trained one after the other meet the
        same images in the same order. In a pair of equal numbers the training is over.
        """
        return epoch, self.epochs

    @model_validator(mode="after")
    def _channels_are_even(self) -> SearchConfig:
        if self.channels % 2:
            raise ConfigError(problems={"channels":
                f"channels must be even (a reduction splits them in two halves), got {self.channels}; "
                f"take {self.channels + 1}."})
        return self

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
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
