"""Settings of AdvRush (Mok et al., ICCV 2021, arXiv 2108.01289). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.config import normalisation, setting
from engine.errors import ConfigError
from engine.search.config import ADDED, GRADIENT_WEIGHTINGS, NaturalBilevelConfig
from engine.search.methods.registry import METHODS, Method
from engine.search.registries import FurtherObjective, NaturalWeighting

RAMP_EPOCHS = 5  # number of epochs in which h grows to its full length


class AdvRushConfig(NaturalBilevelConfig):
    """Settings of AdvRush, which searches in two stages with naturally trained weights.

    Stage 1 is first-order DARTS. Stage 2 minimises L_natural + gamma Lambda over alpha, where Lambda is the curvature of the loss
    around the images. The defaults come from the released search code.

    Differs in two ways:

    - The weights and alphas splits are disjoint and shuffled. The released code takes both batches from the whole training set in
      its stored order, and takes every alphas batch from the beginning of the set.
    - Only the weights batches update BatchNorm's running statistics, which stage 2 uses. In the released code, both batches do.
    """

    epochs: int = setting(60, "Passes over the weights split.",
                          group="Schedule", silent=True, source="AdvRush code, README", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", silent=True,
                              source="AdvRush code, README", ge=2, le=8192)
    warmup_epochs: int = setting(
        50, "Epochs of stage 1, with the natural loss alone; stage 2 adds the curvature. This is the released code's default; "
        "its README also has a command with 0.", group="Schedule", source="AdvRush code", unit="epochs", ge=0,
        deviation="curvature after {value} epochs")
    channels: int = setting(16, "Channels C of the first cells of the supernet; even.", step=2,
                            group="Supernet", silent=True, source="AdvRush code", ge=2, le=512)
    unrolled: bool = setting(
        False, "Differs when on: selects the order of the architecture gradient. Off, as released: first order; on: second "
        "order, through one unrolled weight step.", group="Deviations", source="AdvRush code")
    weighting: NaturalWeighting = setting(
        "sum", "Differs unless sum: determines the weights of the natural loss and the scaled curvature in stage 2. sum, as "
        f"published: 1 each; equal: equal weights; fixed: fixed_natural_weight; {GRADIENT_WEIGHTINGS}.", group="Deviations",
        source="AdvRush code")
    added_objectives: tuple[FurtherObjective, ...] = setting(
        (), f"{ADDED} They begin with stage 2.", empty="none", group="Deviations")
    radius_growth: Literal["search", "stage"] = setting(
        "search", "Differs when stage: selects the five epochs in which h grows in equal steps from 0 to curvature_radius. "
        "search, as released: the first of the search, so that h is full when stage 2 begins, after five or more epochs; stage: "
        "the first of stage 2.", group="Deviations", source="AdvRush code")
    curvature_statistics: Literal["running", "batch"] = setting(
        "running", "Differs when batch: selects BatchNorm's statistics for the curvature. running, as released: running "
        "statistics (evaluation mode); batch: batch statistics, as for the natural loss.", group="Deviations",
        source="AdvRush code")
    weights_statistics: Literal["running", "batch"] = setting(
        "running", "Differs when batch: selects BatchNorm's statistics in the weight step of stage 2. running, as released: "
        "running statistics, because the released code does not leave evaluation mode after the curvature; batch: batch "
        "statistics.", group="Deviations", source="AdvRush code")
    normalise: bool = normalisation(True, "AdvRush code")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"epochs": 12, "warmup_epochs": 10},
        "quick": {"channels": 8, "layers": 5, "epochs": 16, "warmup_epochs": 6, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "threads": 2},
        # One step of each stage.
        "smoke": {"channels": 4, "layers": 4, "epochs": 2, "warmup_epochs": 1, "steps_per_epoch": 1, "batch_size": 8,
                  "images": 64},
    }

    @classmethod
    def weighs(cls, values: Mapping[str, Any]) -> bool:
        """Return True, because stage 2 of every search weighs at least two objectives."""
        return True

    @model_validator(mode="after")
    def _curvature_comes_in(self) -> AdvRushConfig:
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(problems={"warmup_epochs":
                f"warmup_epochs must be less than the {self.epochs} epochs, so that there is a stage 2, got "
                f"{self.warmup_epochs}; lower it, search for more epochs, or use darts."})
        return self

    def has_curvature(self, epoch: int) -> bool:
        """Return True if an epoch, counted from 0, belongs to stage 2, whose objectives include the curvature."""
        return epoch >= self.warmup_epochs

    def radius(self, epoch: int) -> float:
        """Return h, the length by which images are displaced to measure the curvature, for an epoch counted from 0."""
        grown = epoch if self.radius_growth == "search" else max(0, epoch - self.warmup_epochs)
        return self.curvature_radius * min(grown, RAMP_EPOCHS) / RAMP_EPOCHS

    def inert(self) -> set[str]:
        """Return the names of the settings without effect: the settings of all objectives that are not added.

        The settings of the objective "curvature" are never returned, because AdvRush always has this objective.
        """
        return {name for name in super().inert() if not name.startswith("curvature_")}

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        The inherited deviations come first, then changes to the curvature and to BatchNorm's statistics.
        """
        names = super().deviations()
        if self.radius_growth != "search":
            names.append("h grows in stage 2")
        if self.curvature_statistics != "running":
            names.append("curvature by batch statistics")
        if self.weights_statistics != "running":
            names.append("weights by batch statistics")
        return names


METHODS.add("advrush", Method(
    name="advrush",
    title="AdvRush",
    summary="DARTS on naturally trained weights. In the last epochs, alphas also minimise the curvature of the loss around the "
            "images, so that small changes of an image change its loss little. The search uses no attack.",
    source="Mok, Na, Choe, Yoon: AdvRush: Searching for Adversarially Robust Neural Architectures, ICCV 2021, arXiv 2108.01289",
    year=2021,
    config=AdvRushConfig,
    implementation="engine.search.methods.advrush.method:AdvRush",
))
