"""Settings shared by all kinds of run, and the names of the presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from engine.config.fields import setting
from engine.errors import ConfigError, shortened

LARGEST_NUMBER = 1e15  # exact as a float, and far above every sensible value
KINDS = ("search", "retrain", "attack")  # in the order of a chain
PRESETS = {
    "quick": "A demonstration in minutes on two CPU cores; not a result for a paper.",
    "scout": "A trial of a few hours on one GPU, before the full run.",
    "paper": "The published settings.",
    "smoke": "Sixty-four images and two steps, for the project's own tests.",
}


class RunConfig(BaseModel):
    """Settings shared by all kinds of run.

    Instances are frozen, so a run uses exactly the settings that run.json records.
    """

    # JSON has no infinity, so no setting may be infinite.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Values that override the defaults, by preset. `paper` is empty by definition. In `quick`, searches and attacks use two
    # threads, one for each of two concurrent passes. A retraining uses one, because a second thread slows it down on such small
    # tensors.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}

    # Settings that a follower in a chain does not take from the runs before it.
    not_inherited: ClassVar[frozenset[str]] = frozenset()

    dataset: str = setting("digits", "Dataset of the run.", group="Data", silent=True)
    images: int | None = setting(
        None, "Number of images used from each split (a stratified subset).", group="Data", silent=True, empty="all", ge=8
    )
    split_seed: int = setting(
        0, "Seed that divides the images into the splits for weights, alphas, checkpoint selection and test. A follower inherits "
        "it from its parent.", group="Data", ge=0, le=2**31 - 1)
    seed: int = setting(2, "Seed of all random choices of the run except the splits.", group="Run", source="ARNAS code, search",
                        ge=0, le=2**31 - 1)
    device: str = setting(
        "auto", "auto, cpu, cuda or cuda:N. auto uses the first free GPU, or the CPU of a machine without GPUs.", group="Run",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )
    threads: int | None = setting(
        None, "CPU threads, fixed at the first start.", group="Run",
        empty="automatic (all cores if no other run is active at the first start, else one)", ge=1, le=256,
    )

    @model_validator(mode="after")
    def _values_can_be_computed_with(self) -> Self:
        """Reject numbers larger than `LARGEST_NUMBER`, which would overflow in computations."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, (int, float)) and abs(value) > LARGEST_NUMBER:
                raise ConfigError(problems={name: f"{name} must be at most {LARGEST_NUMBER:g}, got {shortened(value)}; give a "
                                                  "smaller number."})
        return self

    def datasets(self) -> tuple[str, ...]:
        """Return the names of all datasets that the run reads, beginning with the setting `dataset`."""
        return (self.dataset,)

    def deviations(self) -> list[str]:
        """Return phrases for the name of the run, one for each deviation from the published mathematics.

        Some settings declare their phrase in `Setting.deviation`. These phrases are left out here, and
        `engine.configuring.deviations` adds them.
        """
        return []

    def inert(self) -> set[str]:
        """Return the names of settings that have no effect because of the values of other settings."""
        return set()
