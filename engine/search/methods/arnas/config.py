"""Settings of ARNAS (Ou, Feng and Sun, CVPR 2024, arXiv 2405.05502). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from engine.config import setting
from engine.search.config import RobustBilevelConfig
from engine.search.methods.registry import METHODS, Method


class ArnasConfig(RobustBilevelConfig):
    """Settings of ARNAS, which minimises (L_natural, lambda L_adversarial) over alpha by MGDA.

    The weights are trained adversarially. The defaults come from the released search code. If settings of the group
    "Deviations" are changed, the name of the run says so.
    """

    adversarial_lambda: float = setting(
        0.1, "lambda, the coefficient of the adversarial objective. MGDA reverses its effect: a smaller lambda makes the "
        "adversarial direction stronger. The natural gradient is ignored exactly when cos(theta) >= lambda |g_adv| / |g_nat|.",
        group="Architecture", source="ARNAS code", gt=0, le=100, deviation="lambda {value}")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"channels": 16, "epochs": 10},
        "quick": {"channels": 8, "layers": 5, "epochs": 16, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "threads": 2},
        "smoke": {"channels": 4, "layers": 4, "epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "images": 64,
                  "attack_steps": 2},
    }


METHODS.add("arnas", Method(
    name="arnas",
    title="ARNAS",
    summary="Finds accurate cells near the input and robust cells near the output by minimising natural and adversarial loss "
            "together (two-objective MGDA) on an adversarially trained supernet.",
    source="Ou, Feng, Sun: Towards Accurate and Robust Architectures via Neural Architecture Search, CVPR 2024, "
           "arXiv 2405.05502",
    year=2024,
    config=ArnasConfig,
    implementation="engine.search.methods.arnas.method:Arnas",
))
