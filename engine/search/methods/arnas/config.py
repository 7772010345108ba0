"""Settings of ARNAS (Ou, Feng and Sun, CVPR 2024, arXiv 2405.05502). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.config import METHODS, Method, SearchConfig, setting


class ArnasConfig(SearchConfig):
    """ARNAS: min over alpha of (L_natural, lambda L_adversarial) by two-objective MGDA, weights adversarially trained.

    The defaults are the released search code's. Every switch under "Deviations" is off by default and shows in the
    run's name when it is on.
    """

    adversarial_lambda: float = setting(
        0.1, "lambda on the adversarial objective. MGDA turns scaling around: a smaller lambda makes the adversarial "
        "direction stronger, and the natural gradient is ignored exactly when cos(theta) >= lambda |g_adv| / |g_nat|.",
        group="Architecture", source="ARNAS code", gt=0, le=100)
    finite_difference: float = setting(
        0.01, "Radius of the finite difference of the Hessian-vector product, divided by the norm of the vector.",
        group="Architecture", source="DARTS, section 2.3", gt=0, le=1)
    unrolled: bool = setting(
        True, "Differs when off (first order): the architecture gradient goes through one unrolled weight step (second order).",
        group="Deviations", source="ARNAS code")
    clip_images: bool = setting(
        False, "Differs: images of the attack inside the search are clipped to [0, 1]; the published search does not.",
        group="Deviations", source="ARNAS code")
    gradient_normalisation: Literal["none", "l2", "loss", "loss+"] = setting(
        "none", "Differs unless none: gradients are divided before the solver by their norm (l2), the loss (loss) or "
        "both (loss+), which takes away lambda's turned-around effect.", group="Deviations", source="Sener and Koltun 2018")
    attack_precision: Literal["float32", "tf32", "bf16"] = setting(
        "float32", "Differs unless float32: arithmetic of the attack inside the search, two thirds of a step. tf32 (10 bits, "
        "acts on a GPU only) and bf16 (7 bits) are faster there, turn some pixels' steps around, and are reported apart. "
        "Gradients of weights and alphas stay in float32: the finite difference's displacement is below what either resolves.",
        group="Deviations")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"channels": 16, "epochs": 10},
        "quick": {"channels": 8, "layers": 5, "epochs": 16, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "threads": 2},
        "smoke": {"channels": 4, "layers": 4, "epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "images": 64,
                  "attack_steps": 2},
    }

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = []
        if not self.unrolled:
            names.append("first order")
        if self.clip_images:
            names.append("images clipped")
        if self.gradient_normalisation != "none":
            names.append(f"gradients normalised ({self.gradient_normalisation})")
        if self.attack_precision != "float32":
            names.append(f"attack in {self.attack_precision}")
        return names


METHODS.add("arnas", Method(
    name="arnas",
    title="ARNAS",
    summary="Finds accurate cells for the input side and robust cells for the output side by descending natural and "
            "adversarial loss together (two-objective MGDA) on an adversarially trained supernet.",
    source="Ou, Feng, Sun: Towards Accurate and Robust Architectures via Neural Architecture Search, CVPR 2024, "
           "arXiv 2405.05502",
    config=ArnasConfig,
    implementation="engine.search.methods.arnas.method:Arnas",
))
