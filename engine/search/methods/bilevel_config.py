"""Settings that bilevel search methods share; a method's own class adds to them. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config import Pixels, SearchConfig, WidthRatio, placement_setting, setting, width_ratio_setting
from engine.placement import PlacementName
from engine.search.methods.added_objectives_config import AddedObjectivesConfig
from engine.search.registries import (
    OBJECTIVES,
    WEIGHTINGS,
    NaturalWeighting,
    Normalisation,
    Precision,
    RobustObjective,
    RobustWeighting,
)


class BilevelConfig(SearchConfig):
    """A search whose architecture gradient goes through one step of the weights (DARTS, section 2.3)."""

    alpha_learning_rate: float = setting(3e-4, "Learning rate of Adam on the architecture weights.",
                                         group="Architecture", source="ARNAS code", gt=0, le=10)
    alpha_weight_decay: float = setting(1e-3, "Weight decay of Adam on the architecture weights.",
                                        group="Architecture", source="ARNAS code", ge=0, le=1)
    finite_difference: float = setting(
        0.01, "Radius of the finite difference of the Hessian-vector product, divided by the norm of the vector.",
        group="Architecture", source="DARTS, section 2.3", gt=0, le=1)
    unrolled: bool = setting(
        True, "Differs when off (first order): the architecture gradient goes through one unrolled weight step (second order).",
        group="Deviations", source="ARNAS code")

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        if self.unrolled == type(self).model_fields["unrolled"].default:
            return super().deviations()
        return [*super().deviations(), "second order" if self.unrolled else "first order"]


class WeighedBilevelConfig(AddedObjectivesConfig, BilevelConfig):
    """A bilevel search that may descend several objectives. `weighting` is a subclass's, with the names that make sense there."""

    fixed_natural_weight: float = setting(
        0.5, "Weight of the natural loss where weighting is fixed; the other losses share the rest equally. No effect "
        "elsewhere.", group="Architecture", ge=0, le=1)
    gradient_normalisation: Normalisation = setting(
        "none", "Differs unless none: gradients are divided before the solver by their norm (l2), the loss (loss) or "
        "both (loss+), which takes away lambda's turned-around effect. No effect where the weighting does not follow the "
        "gradients (equal, fixed, adversarial, sum).", group="Deviations", source="Sener and Koltun 2018")

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = super().deviations()
        if not self.weighs(self.model_dump()):  # a single objective: nothing to weigh
            return names
        if self.gradient_normalisation != "none" and WEIGHTINGS[self.weighting].follows_gradients:
            names.append(f"gradients normalised ({self.gradient_normalisation})")
        if self.weighting == "fixed":
            names.append(f"fixed weights (natural {self.fixed_natural_weight:g})")
        elif self.weighting != type(self).model_fields["weighting"].default:
            names.append(WEIGHTINGS[self.weighting].title)
        return names


class NaturalBilevelConfig(WeighedBilevelConfig):
    """A bilevel search that descends the natural loss on naturally trained weights, and what is added to it."""

    weighting: NaturalWeighting = setting(
        "mgda", "Differs unless mgda: where the weights of the natural loss and of added_objectives come from; no effect where "
        "none is added. equal: the same for each; fixed: as set in fixed_natural_weight; sum: 1 each. The others follow the "
        "gradients, as MGDA does: upgrad and dualproj raise no loss, imtl_g and aligned_mtl balance, pcgrad takes conflicts "
        "away, fairgrad bargains.", group="Deviations")

    @classmethod
    def weighs(cls, values: Mapping[str, Any]) -> bool:
        """See `SearchConfig.weighs`."""
        return bool(values.get("added_objectives"))


class RobustBilevelConfig(WeighedBilevelConfig):
    """A bilevel search that descends a natural and an adversarial objective on adversarially trained weights."""

    placement: PlacementName = placement_setting("accurate_first", "ARNAS code")
    width_ratio: WidthRatio = width_ratio_setting("1:2:2", "ARNAS code")
    epsilon: Pixels = setting(8 / 255, "L-infinity radius of the attack inside the search, pixel space.",
                              group="Attack in search", source="ARNAS code")
    step_size: Pixels = setting(2 / 255, "Step of PGD, pixel space.", group="Attack in search", source="ARNAS code")
    attack_steps: int = setting(7, "Steps of PGD.", group="Attack in search", source="ARNAS code", ge=1, le=1000)
    weighting: RobustWeighting = setting(
        "mgda", "Differs unless mgda: where the weights of the objectives come from. equal: the same for each; fixed: as set in "
        "fixed_natural_weight; adversarial: the adversarial loss alone; sum: 1 each. The others follow the gradients, as "
        "MGDA does: upgrad and dualproj raise no loss, imtl_g and aligned_mtl balance, pcgrad takes conflicts away, fairgrad "
        "bargains. MGDA of normalised gradients is gradient_normalisation.", group="Deviations")
    robust_objective: RobustObjective = setting(
        "adversarial", "Differs when trades: the second objective is the KL divergence from the prediction on the natural image "
        "to that on the adversarial one (Zhang et al. 2019), instead of the adversarial image's cross-entropy. The attack stays "
        "that on the cross-entropy.", group="Deviations")
    clip_images: bool = setting(
        False, "Differs: images of the attack inside the search are clipped to [0, 1]; the published search does not.",
        group="Deviations", source="ARNAS code")
    attack_precision: Precision = setting(
        "float32", "Differs unless float32: arithmetic of the attack inside the search, two thirds of a step. tf32 (10 bits, "
        "acts on a GPU only) and bf16 (7 bits) are faster there, turn some pixels' steps around, and are reported apart. "
        "Gradients of weights and alphas stay in float32: the finite difference's displacement is below what either resolves.",
        group="Deviations")

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = super().deviations()
        if self.clip_images:
            names.append("images clipped")
        if self.attack_precision != "float32":
            names.append(f"attack in {self.attack_precision}")
        if self.robust_objective != "adversarial":
            names.append(f"{OBJECTIVES[self.robust_objective].title} instead of adversarial loss")
        return names
