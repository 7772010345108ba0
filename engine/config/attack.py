"""Settings of an attack run, which evaluates a retrained network on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.config.fields import Pixels, setting
from engine.config.run import RunConfig


class AttackConfig(RunConfig):
    """Settings of a run that attacks a retrained network on the test split and measures its accuracy."""

    checkpoint: Literal["best", "last"] = setting(
        "best", "Differs when last: selects the epoch whose network is attacked. best: the epoch with the highest accuracy under "
        "PGD on the select split (published: the highest natural accuracy on the test set); last: the last epoch.",
        group="Attacks")
    attacks: tuple[str, ...] = setting(("fgsm", "pgd-20", "pgd-100", "autoattack"), "Attacks to run, in this order.",
                                       group="Attacks", source="ARNAS code")
    epsilon: Pixels = setting(8 / 255, "L-infinity radius of the attacks, pixel space.", group="Attacks", source="ARNAS code")
    step_size: Pixels = setting(2 / 255, "Step size of PGD, pixel space.", group="Attacks", source="ARNAS code")
    autoattack_images: int | None = setting(
        None, "Number of test images that AutoAttack attacks (a fixed, stratified subset).", group="Attacks", empty="all", ge=10)
    batch_size: int = setting(100, "Images per block. An interrupted attack resumes at the first unfinished block.", group="Run",
                              ge=1, le=8192)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"attacks": ("fgsm", "pgd-20", "autoattack"), "autoattack_images": 1000},
        "quick": {"attacks": ("fgsm", "pgd-20", "autoattack"), "autoattack_images": 64, "batch_size": 64, "threads": 1},
        "smoke": {"attacks": ("fgsm", "pgd-20"), "images": 64, "batch_size": 32},
    }

    def deviations(self) -> list[str]:
        """Return phrases for the name of the run, with "last checkpoint" if the run attacks the network of the last epoch."""
        return ["last checkpoint"] if self.checkpoint == "last" else []
