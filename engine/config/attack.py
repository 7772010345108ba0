"""Settings of an attack run, which evaluates a retrained network on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.config.fields import PositivePixels, setting
from engine.config.run import RunConfig
from engine.errors import ConfigError


class AttackConfig(RunConfig):
    """Settings of a run that attacks a retrained network on the test split and measures its accuracy."""

    checkpoint: Literal["best", "last"] = setting(
        "best", "Differs when last: selects the epoch whose network is attacked. best: the epoch with the highest accuracy under "
        "PGD on the select split (published: the highest natural accuracy on the test set); last: the last epoch.",
        group="Attacks")
    attacks: tuple[str, ...] = setting(("fgsm", "pgd-20", "pgd-100", "autoattack"), "Attacks to run, in this order.",
                                       group="Attacks", silent=True, source="ARNAS code")
    norm: Literal["Linf", "L2"] = setting(
        "Linf", "Norm in which the attacks measure the distance from the natural image.", group="Attacks", source="ARNAS code",
        deviation="{value} ball", titles={"Linf": "L-infinity", "L2": "L2"})
    epsilon: PositivePixels = setting(8 / 255, "L-infinity radius of the attacks, pixel space.", group="Attacks",
                                      source="ARNAS code", deviation="epsilon {value}")
    step_size: PositivePixels = setting(2 / 255, "Step size of PGD in L-infinity, pixel space.", group="Attacks",
                                        source="ARNAS code", deviation="step size {value}")
    epsilon_l2: float = setting(0.5, "L2 radius of the attacks, pixel space.", group="Attacks", source="RobustBench",
                                deviation="epsilon {value}", gt=0, le=1000)
    step_size_l2: float = setting(0.1, "Step size of PGD in L2, pixel space.", group="Attacks", gt=0, le=1000)
    seed: int = setting(0, "Seed of the attacks' random numbers. It belongs to the protocol and is not inherited from a parent.",
                        group="Attacks", ge=0, le=2**31 - 1)
    worst_case_only: bool = setting(
        False, "Measure the worst case over all attacks only: one cascade in the order of the list, in which an image that has "
        "fallen is not attacked again. Much faster, but no attack has a figure of its own.", group="Attacks", silent=True)
    autoattack_images: int | None = setting(
        None, "Number of test images that AutoAttack attacks (a fixed, stratified subset).",
        group="Attacks", silent=True, empty="all", ge=10)
    against: str = setting(
        "", "Id of a finished attack run of another network with the same settings. Only compare the two, and stop as soon as it "
        "is certain which withstands the attacks on more of these test images (docs/evaluation.md). Measures no accuracy.",
        group="Attacks", silent=True, empty="no comparison, every image is attacked")
    checks: bool = setting(
        True, "Check the reliability of the figures after the attacks (docs/evaluation.md); takes about as long as a few PGD "
        "attacks on 64 images.", group="Attacks", silent=True)
    transfer_from: tuple[str, ...] = setting(
        (), "Ids of retrainings whose networks make adversarial images for transfer attacks on this network, one attack per "
        "network, after the other attacks.", group="Transfer", silent=True)
    transfer_attack: Literal["mi-fgsm", "apgd-ce"] = setting(
        "mi-fgsm", "Attack with which the other networks make these images.", group="Transfer", silent=True,
        titles={"mi-fgsm": "MI-FGSM", "apgd-ce": "APGD-CE"})
    sweep_radii: int | None = setting(
        None, "Number of radii at which a sweep shows the accuracy. All of them come from one search for the nearest "
        "adversarial image; a curve over the number of PGD steps comes with them.", group="Sweep", silent=True, empty="no sweep",
        ge=2, le=1000)
    sweep_images: int | None = setting(
        1000, "Number of test images in sweeps (a fixed, stratified subset).", group="Sweep", silent=True, empty="all", ge=1)
    certify: bool = setting(
        True, "Bound the accuracy under every possible L-infinity attack from below, by interval arithmetic. It costs a few "
        "passes per image; for networks that were not trained for it, the bound is near 0.",
        group="Certified accuracy", silent=True)
    batch_size: int = setting(
        100, "Images attacked at once. As images fall, the next ones take their places. On a CPU with two or more threads, "
        "iterated attacks such as APGD split the images into two halves and attack both at the same time, each in batches of "
        "this size.", group="Run", silent=True, ge=1, le=8192)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"attacks": ("fgsm", "pgd-20", "autoattack"), "autoattack_images": 1000, "sweep_radii": 16},
        "quick": {"attacks": ("fgsm", "pgd-20", "autoattack"), "batch_size": 128, "threads": 2, "sweep_radii": 16},
        "smoke": {"attacks": ("fgsm", "pgd-20"), "images": 64, "batch_size": 32, "checks": False},
    }

    not_inherited: ClassVar[frozenset[str]] = frozenset({"seed"})

    @property
    def radius(self) -> float:
        """The radius of the attack's ball for the chosen `norm`, in pixel space (0..1)."""
        return self.epsilon if self.norm == "Linf" else self.epsilon_l2

    @property
    def step(self) -> float:
        """The step size for the chosen `norm`, in pixel space (0..1)."""
        return self.step_size if self.norm == "Linf" else self.step_size_l2

    def inert(self) -> set[str]:
        """Return the names of the settings that have no effect because of the values of other settings.

        These are:

        - the radius and the step size of the norm that the run does not use
        - in a comparison with another attack run (the setting `against`), `worst_case_only` and the settings of measurements that
          a comparison does not make
        """
        other_norm = {"epsilon_l2", "step_size_l2"} if self.norm == "Linf" else {"epsilon", "step_size"}
        return other_norm | ({"worst_case_only", "checks", "sweep_radii", "sweep_images", "certify"} if self.against
                             else set())

    @model_validator(mode="after")
    def _compares_without_transfer(self) -> AttackConfig:
        if self.against and self.transfer_from:
            raise ConfigError(problems={"transfer_from": (
                f"transfer_from must be empty in a comparison (against {self.against}), got {', '.join(self.transfer_from)}; "
                "leave it out.")})
        return self

    def differs_from(self, other: AttackConfig) -> list[str]:
        """Return the names of the settings that have other values in `other` and can change the worst-case accuracy."""
        names = ("dataset", "images", "split_seed", "attacks", "norm", "epsilon", "step_size", "epsilon_l2", "step_size_l2",
                 "seed", "autoattack_images", "transfer_from", *(("transfer_attack",) if self.transfer_from else ()))
        return [name for name in names if name not in self.inert() and getattr(self, name) != getattr(other, name)]

    def deviations(self) -> list[str]:
        """Return phrases for the name of the run: ["last checkpoint"] if the run attacks the last checkpoint, else []."""
        return ["last checkpoint"] if self.checkpoint == "last" else []
