"""Settings shared by several search methods: bilevel optimisation, and objectives that the user adds. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from pydantic import model_validator

from engine.architecture.placement import PlacementName
from engine.config import (
    Pixels,
    PositivePixels,
    SearchConfig,
    WidthRatio,
    placement_setting,
    setting,
    width_ratio_setting,
)
from engine.config.early_stop import stop_parameter_free, stop_unchanged
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

# The size bounds that use the lower limit, and those that use the upper limit.
READ_LOWER, READ_UPPER = frozenset({"min", "min_later", "abs", "both"}), frozenset({"max", "both"})


class CurvatureConfig(SearchConfig):
    """Settings of a search that can minimise the curvature of the loss around the images."""

    curvature_factor: float = setting(
        0.01, "gamma, the coefficient of the objective curvature. The curvature is 4 times the norm of the difference between "
        "the input gradients at x + z and at x, averaged over the batch.", group="Curvature", source="AdvRush code", gt=0, le=1e6)
    curvature_radius: float = setting(
        1.5, "h, the Euclidean norm of z over all pixels of an image as the network sees it. Normalised images, as published: in "
        "standard deviations; others: in pixel space 0..1, where the same number is about four times as far.",
        group="Curvature", source="AdvRush code", gt=0, le=1000)


class OutOfDistributionConfig(SearchConfig):
    """Settings of a search that uses a batch of out-of-distribution images from a second dataset in every step.

    The images come from the second dataset's weights and alphas splits. They are converted to the search's image shape and are
    not augmented. Their labels are not read. A subclass whose images are optional must override `out_of_distribution`.
    """

    second_dataset: str | None = setting(
        None, "Dataset of the out-of-distribution images; used only by objectives on such images. photographs (patches of two "
        "pictures) needs no download.", empty="the default of the dataset (E2RNAS of 2021: SVHN for CIFAR; ours: SVHN for "
        "Tiny-ImageNet, CIFAR-10 for SVHN, photographs for all others)", group="Data", silent=True)

    @property
    def out_of_distribution(self) -> str | None:
        """Name of the second dataset, which gives the out-of-distribution images of every step."""
        return self.second_dataset or DATASETS[self.dataset].out_of_distribution

    @model_validator(mode="after")
    def _second_dataset_is_another(self) -> OutOfDistributionConfig:
        if self.second_dataset:
            image_source(self.second_dataset)
        if self.second_dataset == self.dataset:
            raise ConfigError(problems={"second_dataset":
                f"second_dataset must differ from dataset, so that its images are out of distribution, got "
                f"{self.second_dataset!r} for both; choose another one or leave it empty."})
        return self


ADDED = (
    "Differs when given: adds objectives to the method's own and weighs all of them together. out_of_distribution: KL "
    "divergence of the prediction on images of the second dataset from the uniform distribution, in nats (E2RNAS of 2021); "
    "one_step: cross-entropy of images attacked in one step, in nats; parameter_share, mac_share: parameters or MACs of the "
    "modules, expected under softmax(alpha), as a share of the largest architecture's.")
TURNED_AROUND = ("MGDA reverses the effect: a smaller coefficient makes the objective's direction stronger, unless gradients are "
                 "normalised.")


GRADIENT_WEIGHTINGS = (
    "mgda, upgrad, dualproj, imtl_g, aligned_mtl, pcgrad, fairgrad: computed from the gradients (upgrad and dualproj raise no "
    "loss, imtl_g and aligned_mtl balance the losses, pcgrad removes conflicts, fairgrad bargains)")


class AddedObjectivesConfig(OutOfDistributionConfig, CurvatureConfig):
    """Settings of a search that can minimise further objectives in addition to the method's own.

    The weighting treats the added objectives like the method's own. The coefficient of each added objective is the setting
    NAME_factor, for example one_step_factor for the objective one_step.
    """

    added_objectives: tuple[AddedObjective, ...] = setting(
        (), f"{ADDED[:-1]}; curvature: curvature of the loss around the natural images, with batch statistics (AdvRush).",
        empty="none", group="Deviations")
    out_of_distribution_factor: float = setting(
        1.0, "Coefficient of the added objective out_of_distribution (E2RNAS of 2021: 10 divided by the number of classes). "
        f"{TURNED_AROUND}", group="Added objectives", silent=True, gt=0, le=1e6)
    one_step_factor: float = setting(1.0, f"Coefficient of the added objective one_step. {TURNED_AROUND}",
                                     group="Added objectives", silent=True, gt=0, le=1e6)
    one_step_radius: float = setting(
        1.0, "Objective one_step: L-infinity radius of its attack, in units of the search's epsilon, or of the dataset's default "
        "epsilon if the search has no attack.", group="Added objectives", unit="epsilon", gt=0, le=10)
    one_step_length: float = setting(
        1.25, "Objective one_step: length of its attack step, in units of its radius. The step starts at a random point of the "
        "ball and follows the gradient there (Wong, Rice and Kolter 2020: 1.25).", group="Added objectives", gt=0, le=2)
    parameter_share_factor: float = setting(1.0, f"Coefficient of the added objective parameter_share. {TURNED_AROUND}",
                                            group="Added objectives", silent=True, gt=0, le=1e6)
    mac_share_factor: float = setting(1.0, f"Coefficient of the added objective mac_share. {TURNED_AROUND}",
                                      group="Added objectives", silent=True, gt=0, le=1e6)

    @property
    def out_of_distribution(self) -> str | None:
        """Name of the second dataset if an added objective uses its images, otherwise None."""
        return super().out_of_distribution if "out_of_distribution" in self.added_objectives else None

    def inert(self) -> set[str]:
        """Return the names of the settings without effect: the settings of all objectives that are not added."""
        absent = [name for name in get_args(AddedObjective) if name not in self.added_objectives]
        return super().inert() | {field for field in type(self).model_fields for name in absent if field.startswith(f"{name}_")}

    @property
    def one_step_epsilon(self) -> float:
        """L-infinity radius, for pixels in 0..1, of the single-step attack that makes the images of the objective one_step."""
        return self.one_step_radius * float(getattr(self, "epsilon", DATASETS[self.dataset].epsilon))

    def coefficient(self, name: str) -> float:
        """Return the coefficient of the added objective with this name."""
        return float(getattr(self, f"{name}_factor"))

    @model_validator(mode="after")
    def _each_objective_once(self) -> AddedObjectivesConfig:
        if len(set(self.added_objectives)) < len(self.added_objectives):
            raise ConfigError(problems={"added_objectives":
                f"added_objectives must name each objective only once, got {', '.join(self.added_objectives)}; "
                "remove the duplicates."})
        return self

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        The inherited deviations come first, then the added objectives.
        """
        names = super().deviations()
        for name in self.added_objectives:
            reads_second = "out_of_distribution" in OBJECTIVES[name].reads
            images = f" on {image_source(str(self.out_of_distribution)).title}" if reads_second else ""
            factor = "" if self.coefficient(name) == 1 else f" times {self.coefficient(name):g}"
            names.append(f"plus {OBJECTIVES[name].title}{images}{factor}")
        return names


class BilevelConfig(SearchConfig):
    """Settings of a bilevel search (DARTS, section 2.3)."""

    alpha_learning_rate: float = setting(3e-4, "Learning rate of Adam on the architecture weights.",
                                         group="Architecture", source="ARNAS code", gt=0, le=10)
    alpha_weight_decay: float = setting(1e-3, "Weight decay of Adam on the architecture weights.",
                                        group="Architecture", source="ARNAS code", ge=0, le=1)
    finite_difference: float = setting(
        0.01, "Step of the finite difference that approximates the Hessian-vector product, before its division by the norm of "
        "the vector.", group="Architecture", source="DARTS, section 2.3", gt=0, le=1)
    unrolled: bool = setting(
        True, "Differs when off: selects the order of the architecture gradient. On: second order, through one unrolled weight "
        "step; off: first order.", group="Deviations", source="ARNAS code")
    stop_unchanged: int | None = stop_unchanged()
    stop_parameter_free: float | None = stop_parameter_free()

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        The inherited deviations come first, then the order of the architecture gradient (first or second) if it is not the
        default.
        """
        if self.unrolled == type(self).model_fields["unrolled"].default:
            return super().deviations()
        return [*super().deviations(), "second order" if self.unrolled else "first order"]


class WeighedBilevelConfig(AddedObjectivesConfig, BilevelConfig):
    """Settings of a bilevel search that can have several objectives.

    A subclass defines the setting `weighting` with the choices that are valid for its objectives.
    """

    if TYPE_CHECKING:
        weighting: str

    fixed_natural_weight: float = setting(
        0.5, "Weight of the natural loss if weighting is fixed; the other losses share the rest equally.", group="Architecture",
        silent=True, ge=0, le=1)
    gradient_normalisation: Normalisation = setting(
        "none", "Differs unless none: divides each gradient before the solver. none: no division; l2: by its norm; loss: by its "
        "loss; loss+: by both. Division removes the reversed effect of lambda. With two losses, MGDA on l2 gives each the weight "
        "0.5. No effect if the weighting does not depend on the gradients (equal, fixed, adversarial, sum).", group="Deviations",
        source="Sener and Koltun 2018")

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        The inherited deviations come first, then changes to gradient normalisation and weighting.
        """
        names = super().deviations()
        if not self.weighs(self.model_dump()):  # a single objective needs no weights
            return names
        if self.gradient_normalisation != "none" and WEIGHTINGS[self.weighting].follows_gradients:
            names.append(f"gradients normalised ({self.gradient_normalisation})")
        if self.weighting == "fixed":
            names.append(f"fixed weights (natural {self.fixed_natural_weight:g})")
        elif self.weighting != type(self).model_fields["weighting"].default:
            names.append(WEIGHTINGS[self.weighting].title)
        return names


class NaturalBilevelConfig(WeighedBilevelConfig):
    """Settings of a bilevel search that minimises the natural loss and added objectives, with naturally trained weights."""

    weighting: NaturalWeighting = setting(
        "mgda", "Differs unless mgda: determines the weights of the natural loss and the added objectives. "
        f"{GRADIENT_WEIGHTINGS}; equal: equal weights; fixed: fixed_natural_weight; sum: 1 each. No effect without "
        "added_objectives.", group="Deviations")

    @classmethod
    def weighs(cls, values: Mapping[str, Any]) -> bool:
        """Return True if a search with these settings has added objectives.

        Without them, the natural loss is the only objective and needs no weighting.
        """
        return bool(values.get("added_objectives"))


class RobustBilevelConfig(WeighedBilevelConfig):
    """Settings of a bilevel search that minimises a natural and an adversarial objective, with adversarially trained weights."""

    placement: PlacementName = placement_setting("accurate_first", "ARNAS code")
    width_ratio: WidthRatio = width_ratio_setting("1:2:2", "ARNAS code")
    epsilon: PositivePixels = setting(8 / 255, "L-infinity radius of the attack in the search, pixel space.",
                                      group="Attack in search", source="ARNAS code", deviation="epsilon {value}")
    step_size: Pixels = setting(2 / 255, "Step size of PGD in the search, pixel space.", group="Attack in search",
                                source="ARNAS code", deviation="attack step {value}")
    attack_steps: int = setting(7, "Number of PGD steps in the search.", group="Attack in search", source="ARNAS code", ge=1,
                                le=1000, deviation="{value} attack steps")
    weighting: RobustWeighting = setting(
        "mgda", "Differs unless mgda: determines the weights of the objectives. "
        f"{GRADIENT_WEIGHTINGS}; equal: equal weights; fixed: fixed_natural_weight; adversarial: the adversarial loss alone; "
        "sum: 1 each. For MGDA of normalised gradients, set gradient_normalisation.", group="Deviations")
    robust_objective: RobustObjective = setting(
        "adversarial", "Differs when trades: selects the second objective. adversarial: cross-entropy of the adversarial image; "
        "trades: KL divergence from the prediction on the natural image to that on the adversarial one (Zhang et al. 2019). The "
        "attack maximises the cross-entropy either way.", group="Deviations")
    clip_images: bool = setting(
        False, "Differs when on: clips the adversarial images of the search to [0, 1], which the published search does not do.",
        group="Deviations", source="ARNAS code")
    attack_precision: Precision = setting(
        "float32", "Differs unless float32: arithmetic of the attack in the search, which takes two thirds of a step. tf32: 10 "
        "bits, GPU only; bf16: 7 bits. Both are faster on a GPU, reverse the steps of some pixels, and are reported separately. "
        "Gradients of weights and alphas stay in float32, because the finite difference is too small for less precision.",
        group="Deviations")

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        Those of the base class come first, then clipped images, the precision of the attack, and another second objective.
        """
        names = super().deviations()
        if self.clip_images:
            names.append("images clipped")
        if self.attack_precision != "float32":
            names.append(f"attack in {self.attack_precision}")
        if self.robust_objective != "adversarial":
            names.append(f"{OBJECTIVES[self.robust_objective].title} instead of adversarial loss")
        return names
