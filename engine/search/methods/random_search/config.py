"""Settings of random search. Imports no torch.

No paper fixes these settings. If the `source` of a setting names ARNAS, the default is the value in ARNAS. All other defaults are
our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from engine.architecture.placement import PlacementName
from engine.config import Pixels, SearchConfig, WidthRatio, placement_setting, setting, width_ratio_setting
from engine.errors import ConfigError
from engine.search.candidates import Ranking
from engine.search.methods.registry import METHODS, Method


class RandomSearchConfig(SearchConfig):
    """Settings of random search: n random genotypes are each trained adversarially for a few epochs, measured and ranked."""

    on_supernet: ClassVar[bool] = False

    candidates: int = setting(
        10, "Number of random genotypes to train, measure and rank. Our default.", group="Schedule", silent=True, ge=1, le=1000)
    epochs: int = setting(
        50, "Epochs of all candidates together; each has an equal share of at least 2. The last epoch of a share measures the "
        "trained network on the select split. Our default: the epochs of ARNAS's search.",
        group="Schedule", silent=True, ge=2, le=100_000)
    channels: int = setting(24, "Channels C of the first cells of each candidate; even.", step=2,
                            group="Candidates", silent=True, source="ARNAS code", ge=2, le=512)
    layers: int = setting(8, "Number of cells of each candidate.",
                          group="Candidates", silent=True, source="ARNAS code", ge=4, le=64)
    placement: PlacementName = placement_setting("accurate_first", "ARNAS code", "The search draws cells of these kinds.",
                                                 group="Candidates")
    width_ratio: WidthRatio = width_ratio_setting("1:2:2", "ARNAS code", group="Candidates")
    ranking: Ranking = setting(
        "adversarial", "Selects the resulting candidate. adversarial, natural: the highest adversarial or natural accuracy on "
        "the select split, with ties broken by the other accuracy; none: the first candidate, a random baseline. Our default.",
        group="Candidates", silent=True)
    inherit_from: str = setting(
        "", "Id of a finished search on a supernet with the same dataset, split_seed, placement and width_ratio. The "
        "architecture of every candidate is also measured with the weights of this supernet, on the same images and under the "
        "same PGD (docs/methods.md). Batches of the select split are then of nearly equal size.",
        group="Candidates", silent=True, empty="not measured")
    epsilon: Pixels = setting(
        8 / 255, "L-infinity radius of the attack in training and in ranking, pixel space. 0 trains on natural images, and needs "
        "another ranking than adversarial.", group="Attack in search", source="ARNAS code", deviation="epsilon {value}")
    step_size: Pixels = setting(0.01, "Step size of PGD in training, pixel space.", group="Attack in search",
                                source="ARNAS code, retraining", deviation="attack step {value}")
    attack_steps: int = setting(7, "Number of PGD steps in training.", group="Attack in search", source="ARNAS code", ge=1,
                                le=1000, deviation="{value} attack steps")
    start_noise: float = setting(0.001, "Standard deviation of the normal noise that PGD starts from in training.",
                                 group="Attack in search", source="ARNAS code, retraining", ge=0, le=1,
                                 deviation="start noise {value}")
    ranking_steps: int = setting(
        20, "Steps of the PGD that measures a candidate (step size epsilon/4, from a random point of the ball). Our default: "
        "that of checkpoint selection in a retraining.", group="Attack in search", silent=True, ge=1, le=1000)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"channels": 16, "candidates": 5, "epochs": 15},
        "quick": {"channels": 8, "layers": 5, "candidates": 6, "epochs": 30, "batch_size": 40, "crop_padding": 0,
                  "weights_learning_rate": 0.1, "ranking_steps": 10, "threads": 1},
        "smoke": {"channels": 4, "layers": 4, "candidates": 2, "epochs": 4, "steps_per_epoch": 2, "batch_size": 8, "images": 64,
                  "attack_steps": 2, "ranking_steps": 3},
    }

    @model_validator(mode="after")
    def _candidates_have_equal_shares(self) -> RandomSearchConfig:
        share = max(self.epochs // self.candidates, 2)
        if self.epochs % self.candidates or self.epochs // self.candidates < 2:
            raise ConfigError(problems={"epochs":
                f"epochs must be a multiple of the {self.candidates} candidates, at least 2 for each (the last one "
                f"measures), got {self.epochs}; use {share * self.candidates} or {(share + 1) * self.candidates}."})
        return self

    @model_validator(mode="after")
    def _ranking_has_an_attack(self) -> RandomSearchConfig:
        if not self.epsilon and self.ranking == "adversarial":
            raise ConfigError(problems={"epsilon":
                "epsilon must be above 0 with the ranking adversarial, got 0; give a radius such as 8/255, or rank candidates "
                "that are trained on natural images by natural accuracy (ranking natural)."})
        return self

    @property
    def candidate_epochs(self) -> int:
        """Number of epochs of each candidate, at least 2. The last epoch measures the candidate, and the others train it."""
        return self.epochs // self.candidates

    def deviations(self) -> list[str]:
        """Return the deviations from the default settings, as phrases for the run name.

        The inherited deviations come first, then the ranking if it was changed.
        """
        ranking = {"adversarial": [], "natural": ["ranked by natural accuracy"], "none": ["unranked"]}[self.ranking]
        return super().deviations() + ranking

    def training_epoch(self, epoch: int) -> tuple[int, int]:
        """Return (position, training_epochs) for an epoch of the search.

        In the epoch that measures the candidate, the two numbers are equal.

        Args:
            epoch: epoch of the search, counted from 0.

        Returns:
            position: position of the epoch among the epochs of its candidate, counted from 0.
            training_epochs: number of epochs that train a candidate.
        """
        return epoch % self.candidate_epochs, self.candidate_epochs - 1


METHODS.add("random_search", Method(
    name="random_search",
    title="Random search",
    summary="A baseline: draws architectures at random, trains each adversarially for a few epochs, and ranks them by "
            "adversarial accuracy on the select split. It has no supernet and no architecture weights.",
    source="A standard baseline; no paper fixes its settings",
    config=RandomSearchConfig,
    implementation="engine.search.methods.random_search.method:RandomSearch",
    published=False,
))
