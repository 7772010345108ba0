"""Settings of DSARA (arXiv 2212.14049, 2023). Imports no torch.

The search code is not public. Our sources are:

- the abstract of the paper and the start of its introduction, which describe the two stages in words
- DSARA's genotype, which has the same cells as the genotype of ARNAS
- the public code that trains and attacks the network (in-situflash/DSARA)

If these sources give no value for a setting, the default is our own choice. In most cases, it is the value of ARNAS, the
successor of DSARA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.architecture.placement import PlacementName
from engine.config import WidthRatio, placement_setting, setting, width_ratio_setting
from engine.errors import ConfigError
from engine.search.config import RobustBilevelConfig
from engine.search.methods.registry import METHODS, Method


class DsaraConfig(RobustBilevelConfig):
    """Settings of DSARA, which searches in two stages with adversarially trained weights.

    Stage 1 minimises L_adversarial alone over alpha. Stage 2 minimises (L_natural, lambda L_adversarial) by MGDA.
    """

    placement: PlacementName = placement_setting(
        "accurate_first", "", "Known of DSARA: accurate and robust networks prefer different cells near the input and near the "
        "output, and its network has ARNAS's rule.")
    width_ratio: WidthRatio = width_ratio_setting(
        "1:2:2", "", "Known of DSARA: its search space includes the ratio of the widths, and its network has 1:2:2.")
    switch_epoch: int = setting(
        20, "Last epoch of stage 1, counted from 0. Alphas follow the adversarial loss alone in stage 1, and both losses in "
        "stage 2. -1: no stage 1, which at equal lambda equals ARNAS step for step. Known: that there are two stages. Ours: the "
        "epoch, from an unused branch of ARNAS's released code (epoch <= 20, of 50).", group="Schedule", ge=-1,
        deviation="stage 1 to epoch {value}")
    adversarial_lambda: float = setting(
        1.0, "lambda, the coefficient of the adversarial objective in stage 2; no effect in stage 1. MGDA reverses its effect: a "
        "smaller lambda makes the adversarial direction stronger. Not known; ours: 1, while ARNAS has 0.1. To compare only the "
        "stages of DSARA and ARNAS, set the same lambda for both.", group="Architecture", gt=0, le=100,
        deviation="lambda {value}")
    solver: Literal["unrolled", "first_order_weights"] = setting(
        "unrolled", "Differs unless unrolled: selects the gradients that MGDA weighs; the paper's choice is not known. unrolled: "
        "the unrolled gradients, as in ARNAS; first_order_weights: the gradients at the current weights, after which the "
        "weighted sum of the losses is unrolled once, as comments in an unused file of ARNAS's released code suggest. No effect "
        "in first order.", group="Deviations")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"channels": 16, "epochs": 10, "switch_epoch": 3},
        "quick": {"channels": 8, "layers": 5, "epochs": 16, "switch_epoch": 5, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "threads": 2},
        # One step of each stage.
        "smoke": {"channels": 4, "layers": 4, "epochs": 2, "switch_epoch": 0, "steps_per_epoch": 1, "batch_size": 8,
                  "images": 64, "attack_steps": 2},
    }

    @model_validator(mode="after")
    def _both_losses_are_descended(self) -> DsaraConfig:
        if self.switch_epoch > self.epochs - 2:
            raise ConfigError(problems={"switch_epoch":
                f"switch_epoch must be at most {self.epochs - 2}, so that stage 2 has at least one of the {self.epochs} "
                f"epochs (counted from 0), got {self.switch_epoch}; lower it or search for more epochs."})
        return self

    def stage(self, epoch: int) -> int:
        """Return the stage, 1 or 2, of an epoch counted from 0."""
        return 1 if epoch <= self.switch_epoch else 2

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        The inherited deviations come first, then the solver if it is not the default.
        """
        apart = self.solver == "first_order_weights" and self.unrolled
        return super().deviations() + (["first-order weights"] if apart else [])


METHODS.add("dsara", Method(
    name="dsara",
    title="DSARA",
    summary="Searches in two stages on an adversarially trained supernet: alphas first follow the adversarial loss alone, then "
            "natural and adversarial loss together (two-objective MGDA). The search code is not public; unknown settings are "
            "ARNAS's.",
    source="Differentiable Search of Accurate and Robust Architectures, arXiv 2212.14049, 2023",
    year=2023,
    config=DsaraConfig,
    implementation="engine.search.methods.dsara.method:Dsara",
))
