"""Settings that all kinds of run share, and the names of the presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from engine.config.fields import setting

KINDS = ("search", "retrain", "attack")  # in the order in which the runs of a chain follow each other
PRESETS = {
    "quick": "A demonstration on two CPU cores in minutes; not a result for a paper.",
    "scout": "Hours on one GPU: a look before the real run.",
    "paper": "The published settings.",
    "smoke": "Sixty-four images and two steps: for the project's own tests.",
}


class RunConfig(BaseModel):
    """Settings that all kinds of run share. Frozen: what is logged is what ran."""

    # JSON has no infinity, so no setting may be infinite.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Values laid over the defaults, by preset. `paper` is empty by definition. In `quick`, a search takes two threads, one for
    # each of two concurrent passes; retraining and attack take one, since on such small tensors a second thread costs more
    # than it gains.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}

    dataset: str = setting("digits", "Which images.", group="Data")
    images: int | None = setting(
        None, "Use only this many images of each split (stratified).", group="Data", empty="all", ge=8
    )
    split_seed: int = setting(
        0, "Seed of the four splits: which images serve weights, alphas, checkpoint selection and test. A run takes over that of "
        "the run it follows.", group="Data", ge=0, le=2**31 - 1)
    seed: int = setting(2, "Seed of every random choice of the run except the splits.", group="Run", source="ARNAS code, search",
                        ge=0, le=2**31 - 1)
    device: str = setting(
        "auto", "auto, cpu, cuda or cuda:N. auto takes the first free GPU, else the CPU.", group="Run",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )
    threads: int | None = setting(
        None, "CPU threads, kept for the life of the run.", empty="all cores when the run is alone at its first start, else one",
        group="Run", ge=1, le=256,
    )

    def datasets(self) -> tuple[str, ...]:
        """Return the names of the datasets whose images the run reads, its own first."""
        return (self.dataset,)

    def deviations(self) -> list[str]:
        """Return the switches that change the published mathematics, worded for the name of the run.

        Settings with a `deviation` of their own are named by `engine.configuring.deviations`.
        """
        return []

    def inert(self) -> set[str]:
        """Return the settings that have no effect beside the values of the others."""
        return set()
