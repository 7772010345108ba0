"""Settings that search methods share beyond `SearchConfig`: added objectives and bilevel optimisation. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from engine.architecture.placement import PlacementName
from engine.config import Pixels, SearchConfig, WidthRatio, placement_setting, setting, width_ratio_setting
from engine.data.catalogue import DATASETS, image_source
from engine.errors import ConfigError
from engine.search.registries import (
    OBJECTIVES,
    WEIGHTINGS,
    AddedObjective,
    NaturalWeighting,
    Normalisation,
    Precision,
    RobustObjective,
    RobustWeighting,
)

# Bounds of a size loss that read its lower and its upper end.
READ_LOWER, READ_UPPER = frozenset({"min", "min_later", "abs", "both"}), frozenset({"max", "both"})


class CurvatureConfig(SearchConfig):
    """A search that may descend the curvature of the loss in the space of images."""

    curvature_factor: float = setting(
        0.01, "gamma, the coefficient of the objective curvature: 4 times the norm of the difference of the input gradients at "
        "x + z and x, mean over the batch.", group="Curvature", source="AdvRush code", gt=0, le=1e6)
    curvature_radius: float = setting(
        1.5, "h, the Euclidean length of z over all pixels of an image as the network sees it: in standard deviations where "
        "images are normalised, as published; else in pixels 0..1, where the same number reaches about four times as far.",
        group="Curvature", source="AdvRush code", gt=0, le=1000)


class OutOfDistributionConfig(SearchConfig):
    """A search with a batch of out-of-distribution images in every step: of another dataset, fitted to its own image shape.

    They are not augmented and their labels are not read; none is of that dataset's select or test split. A class that needs
    them only sometimes overrides `out_of_distribution`.
    """

    second_dataset: str | None = setting(
        None, "Another dataset, whose images are out of distribution; read only where an objective looks at such images. "
        "photographs, patches of two pictures, are always there.", empty="the usual one (E2RNAS of 2021: SVHN for CIFAR; ours: "
        "SVHN for Tiny-ImageNet, CIFAR-10 for SVHN, photographs for all others)", group="Data")

    @property
    def out_of_distribution(self) -> str | None:
        """Name of the dataset that adds a batch of out-of-distribution images to every step."""
        return self.second_dataset or DATASETS[self.dataset].out_of_distribution

    @model_validator(mode="after")
    def _second_dataset_is_another(self) -> OutOfDistributionConfig:
        if self.second_dataset:
            image_source(self.second_dataset)
        if self.second_dataset == self.dataset:
            raise ConfigError(problems={"second_dataset":
                f"second_dataset must be another than dataset, so that its images are out of distribution, got "
                f"{self.second_dataset!r} for both; choose another or leave it empty."})
        return self


ADDED = (
    "Differs when given: objectives beside the method's own, weighed together with them. out_of_distribution: KL "
    "divergence of the prediction on images of the second dataset from the uniform distribution, in nats (E2RNAS of 2021). "
    "one_step: cross-entropy of images attacked in one step, in nats. parameter_share, mac_share: parameters or MACs of the "
    "modules, expected under softmax(alpha), as a share of the largest architecture's.")
TURNED_AROUND = "MGDA turns scaling around: a smaller one makes this direction stronger, unless gradients are normalised."


class AddedObjectivesConfig(OutOfDistributionConfig, CurvatureConfig):
    """A search whose upper level may have objectives beside the method's own; all of them are weighed together.

    NAME_factor is the setting of an objective's coefficient.
    """

    added_objectives: tuple[AddedObjective, ...] = setting(
        (), f"{ADDED} curvature: of the loss around the natural images, with batch statistics (AdvRush).", empty="none",
        group="Deviations")
    out_of_distribution_factor: float = setting(
        1.0, "Coefficient of the added objective out_of_distribution (E2RNAS of 2021: 10 divided by the number of classes). "
        f"{TURNED_AROUND}", group="Added objectives", gt=0, le=1e6)
    one_step_factor: float = setting(1.0, f"Coefficient of the added objective one_step. {TURNED_AROUND}",
                                     group="Added objectives", gt=0, le=1e6)
    one_step_radius: float = setting(
        1.0, "Of the added objective one_step: L-infinity radius of its attack, in units of epsilon of the attack inside the "
        "search; of a search without one, of the dataset's usual epsilon.", group="Added objectives", unit="epsilon", gt=0, le=10)
    one_step_length: float = setting(
        1.25, "Of the added objective one_step: length of its one step, in units of its radius, from a random point of the ball, "
        "with the gradient taken there (Wong, Rice and Kolter 2020: 1.25).", group="Added objectives", gt=0, le=2)
    parameter_share_factor: float = setting(1.0, f"Coefficient of the added objective parameter_share. {TURNED_AROUND}",
                                            group="Added objectives", gt=0, le=1e6)
    mac_share_factor: float = setting(1.0, f"Coefficient of the added objective mac_share. {TURNED_AROUND}",
                                      group="Added objectives", gt=0, le=1e6)

    @property
    def out_of_distribution(self) -> str | None:
        """Name of the second dataset where an added objective reads it, else None."""
        return super().out_of_distribution if "out_of_distribution" in self.added_objectives else None

    @property
    def one_step_epsilon(self) -> float:
        """Radius of the attack of the objective one_step, pixel space."""
        return self.one_step_radius * float(getattr(self, "epsilon", DATASETS[self.dataset].epsilon))

    def coefficient(self, name: str) -> float:
        """Of an added objective."""
        return float(getattr(self, f"{name}_factor"))

    @model_validator(mode="after")
    def _each_objective_once(self) -> AddedObjectivesConfig:
        if len(set(self.added_objectives)) < len(self.added_objectives):
            raise ConfigError(problems={"added_objectives":
                f"added_objectives must name each objective only once, got {', '.join(self.added_objectives)}; "
                "leave out what is there twice."})
        return self

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = super().deviations()
        for name in self.added_objectives:
            reads_second = "out_of_distribution" in OBJECTIVES[name].reads
            images = f" on {image_source(str(self.out_of_distribution)).title}" if reads_second else ""
            factor = "" if self.coefficient(name) == 1 else f" times {self.coefficient(name):g}"
            names.append(f"plus {OBJECTIVES[name].title}{images}{factor}")
        return names


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

    if TYPE_CHECKING:
        weighting: str

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
                              group="Attack in search", source="ARNAS code", deviation="epsilon {value}")
    step_size: Pixels = setting(2 / 255, "Step of PGD, pixel space.", group="Attack in search", source="ARNAS code",
                                deviation="attack step {value}")
    attack_steps: int = setting(7, "Steps of PGD.", group="Attack in search", source="ARNAS code", ge=1, le=1000,
                                deviation="{value} attack steps")
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
