"""Settings of an attack run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.config.fields import Pixels, setting
from engine.config.run import RunConfig


class AttackConfig(RunConfig):
    """Settings of the evaluation of a retrained network on the test split."""

    checkpoint: Literal["best", "last"] = setting(
        "best", "Differs when last: the network after the last epoch. best: after the epoch that was most accurate under PGD on "
        "the select split (published: the highest clean accuracy on the test set).", group="Attacks")
    attacks: tuple[str, ...] = setting(("fgsm", "pgd-20", "pgd-100", "autoattack"), "Attacks, in this order.", group="Attacks",
                                       source="ARNAS code")
    epsilon: Pixels = setting(8 / 255, "L-infinity radius, pixel space.", group="Attacks", source="ARNAS code")
    step_size: Pixels = setting(2 / 255, "Step of PGD, pixel space.", group="Attacks", source="ARNAS code")
    autoattack_images: int | None = setting(
        None, "Number of images of the test split that AutoAttack attacks (fixed, stratified).", group="Attacks", empty="all",
        ge=10)
    batch_size: int = setting(100, "Images per block; an interrupted attack resumes at a block.", group="Run", ge=1, le=8192)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"attacks": ("fgsm", "pgd-20", "autoattack"), "autoattack_images": 1000},
        "quick": {"attacks": ("fgsm", "pgd-20", "autoattack"), "autoattack_images": 64, "batch_size": 64, "threads": 1},
        "smoke": {"attacks": ("fgsm", "pgd-20"), "images": 64, "batch_size": 32},
    }

    def deviations(self) -> list[str]:
        """Return "last checkpoint" where the network after the last epoch is attacked."""
        return ["last checkpoint"] if self.checkpoint == "last" else []
