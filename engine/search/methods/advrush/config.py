"""Settings of AdvRush (Mok et al., ICCV 2021, arXiv 2108.01289). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.config import normalisation, setting
from engine.errors import ConfigError
from engine.search.config import ADDED, NaturalBilevelConfig
from engine.search.methods.registry import METHODS, Method
from engine.search.registries import FurtherObjective, NaturalWeighting

RAMP_EPOCHS = 5  # after so many, h has its full length


class AdvRushConfig(NaturalBilevelConfig):
    """AdvRush: DARTS in first order, and at the end of the search min over alpha of L_natural + gamma Lambda, Lambda the
    curvature of the loss in the space of images; weights naturally trained.

    The defaults are the released search code's. Differs: images of the weights and alphas splits are disjoint and shuffled,
    where the released code takes both from the whole training set in its order, every alphas batch from its beginning;
    BatchNorm's running statistics, which stage 2 reads, come from the weights batches alone, there from both batches.
    """

    epochs: int = setting(60, "Passes over the weights split.", group="Schedule", source="AdvRush code, README", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step, drawn from each of the weights and alphas splits.", group="Schedule",
                              source="AdvRush code, README", ge=2, le=8192)
    warmup_epochs: int = setting(
        50, "Stage 1: epochs of the natural loss alone, before the curvature comes in. The released code's default; its README "
        "also has a command with 0.", group="Schedule", source="AdvRush code", unit="epochs", ge=0,
        deviation="curvature after {value} epochs")
    channels: int = setting(16, "Channels C of the first cells of the supernet; even.", step=2,
                            group="Supernet", source="AdvRush code", ge=2, le=512)
    unrolled: bool = setting(
        False, "Differs when on (second order): the architecture gradient goes through one unrolled weight step; the released "
        "search is of first order.", group="Deviations", source="AdvRush code")
    weighting: NaturalWeighting = setting(
        "sum", "Differs unless sum: where the weights of natural loss and gamma times curvature come from in stage 2. sum, as "
        "published: 1 each. equal: the same for each; fixed: as set in fixed_natural_weight; the others follow the gradients, as "
        "MGDA does.", group="Deviations", source="AdvRush code")
    added_objectives: tuple[FurtherObjective, ...] = setting(
        (), f"{ADDED} They come in with the curvature.", empty="none", group="Deviations")
    radius_growth: Literal["search", "stage"] = setting(
        "search", "Differs when stage: in which epochs h grows in five equal steps from 0 to curvature_radius. search, as "
        "released: in the first of the search, so that it is full when the curvature comes in after five or more; stage: in the "
        "first with curvature.", group="Deviations", source="AdvRush code")
    curvature_statistics: Literal["running", "batch"] = setting(
        "running", "Differs when batch: what BatchNorm normalises with where the curvature is computed. running, as released: "
        "its running statistics (evaluation mode); batch: the statistics of the batch, as for the natural loss.",
        group="Deviations", source="AdvRush code")
    weights_statistics: Literal["running", "batch"] = setting(
        "running", "Differs when batch: what BatchNorm normalises with in the weight step of stage 2. running, as released: the "
        "code enters evaluation mode for the curvature and does not leave it before the weight step; batch repairs that.",
        group="Deviations", source="AdvRush code")
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
        """True: stage 2 has two objectives at least. See `SearchConfig.weighs`."""
        return True

    @model_validator(mode="after")
    def _curvature_comes_in(self) -> AdvRushConfig:
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(problems={"warmup_epochs":
                f"warmup_epochs must be less than the {self.epochs} epochs, so that the curvature comes in, got "
                f"{self.warmup_epochs}; lower it, search for more epochs, or take darts."})
        return self

    def has_curvature(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, is of stage 2."""
        return epoch >= self.warmup_epochs

    def radius(self, epoch: int) -> float:
        """h in an epoch counted from 0."""
        grown = epoch if self.radius_growth == "search" else max(0, epoch - self.warmup_epochs)
        return self.curvature_radius * min(grown, RAMP_EPOCHS) / RAMP_EPOCHS

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
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
    summary="DARTS on naturally trained weights; in the last epochs alphas also descend the curvature of the loss around the "
            "images, so that small changes of an image change its loss little. No attack anywhere in the search.",
    source="Mok, Na, Choe, Yoon: AdvRush: Searching for Adversarially Robust Neural Architectures, ICCV 2021, arXiv 2108.01289",
    year=2021,
    config=AdvRushConfig,
    implementation="engine.search.methods.advrush.method:AdvRush",
))
