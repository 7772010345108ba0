"""Settings of E2RNAS as released in 2021 (IJCNN 2022). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.config import Pixels, normalisation, setting
from engine.data.catalogue import DATASETS, image_source
from engine.errors import ConfigError
from engine.search.config import READ_LOWER, READ_UPPER, BilevelConfig, OutOfDistributionConfig
from engine.search.methods.registry import METHODS, Method
from engine.search.registries import WEIGHTINGS, Bound, GeneralWeighting, Normalisation

CODE = "E2RNAS code of 2021-03"


class E2rnas2021Config(OutOfDistributionConfig, BilevelConfig):
    """E2RNAS of 2021: min over alpha of five losses by MGDA, weights trained on natural and out-of-distribution images.

    The defaults are the released main run's on CIFAR-10 (abs40_gnl2), slips included; each repair is a switch under
    "Deviations". Weights are not trained on attacked images unless training_adversarial_weight says so.
    """

    batch_size: int = setting(64, "Images per step, drawn from each of the weights and alphas splits.", group="Schedule",
                              source=CODE, ge=2, le=8192)
    channels: int = setting(16, "Channels C of the first cells of the supernet; even.", step=2,
                            group="Supernet", source=CODE, ge=2, le=512)
    cutout: int = setting(16, "Side of the square that is blanked; 0 for none.", group="Augmentation", source=CODE, unit="pixels",
                          ge=0, le=64)
    normalise: bool = normalisation(True, CODE)
    attack_epsilon: Pixels = setting(
        2 / 255, "L-infinity radius of the one-step attack of the adversarial loss, pixel space. Its step is 1.25 times that.",
        group="Attack in search", source=CODE, deviation="epsilon {value}")
    parameters_lower: float = setting(
        4e5, "L of the parameters loss, in parameters: the target of the bound abs. Published counts begin at 2.36e5 parameters "
        "and 2.84e8 MACs (16 channels, 8 layers), so that both size losses ask for a larger network.", group="Architecture",
        source=CODE, ge=0, le=1e12, deviation="parameters L {value}")
    parameters_upper: float = setting(4e5, "U of the parameters loss, in parameters; read by the bounds max and both.",
                                      group="Architecture", ge=0, le=1e12, deviation="parameters U {value}")
    macs_lower: float = setting(
        4e8, "L of the MACs loss, in MACs: the target of the bound abs. The released code has one constant, 4, for parameters in "
        "1e5 and MACs in 1e8.", group="Architecture", source=CODE, ge=0, le=1e15, deviation="MACs L {value}")
    macs_upper: float = setting(4e8, "U of the MACs loss, in MACs; read by the bounds max and both.", group="Architecture", ge=0,
                                le=1e15, deviation="MACs U {value}")
    out_of_distribution_factor: float = setting(
        10.0, "What the out-of-distribution loss is multiplied by: KL(uniform || prediction) averaged over images and over "
        "classes, as the released code does. So 10 on ten classes is the divergence itself.", group="Architecture", source=CODE,
        gt=0, le=1e6)
    training_out_of_distribution_weight: float = setting(
        1.0, "Weight of the same average in the loss that the weights are trained on. The unrolled step does not have it.",
        group="Weights", source=CODE, ge=0, le=1e6, deviation="out-of-distribution weight {value} in training")
    training_out_of_distribution_grows: bool = setting(
        True, "Differs when off: training_out_of_distribution_weight counts in full from the start. On: e / E of it in epoch e "
        "of E, counted from 0, as in the released code; its authors switched this by editing the code, and the name of their "
        "main run suggests that it was off there.", group="Deviations", source=CODE)
    training_adversarial_weight: float = setting(
        0.0, "Differs above 0: weight of the one-step adversarial loss in the loss that the weights are trained on, beside the "
        "natural one (Fast-AT: the gradient is taken at the random start). The released main run has 0: no adversarial training "
        "of the supernet.", group="Deviations", source=CODE, ge=0, le=1e3)
    size_bound: Bound = setting(
        "abs", "Differs unless abs: the losses of parameters and MACs, N in 1e5 or 1e8. abs: |L - N|; max: max(1, N - U); "
        "both: N + max(1, N - U, L - N); min_later: max(L, N); none: N; of 2020 alone: min, max(1, L - N).", group="Deviations",
        source=CODE)
    mac_count: Literal["published", "modules"] = setting(
        "published", "Differs when modules: the MACs of the real modules, each at its resolution, with L and U moved to the same "
        "quantile of that count's range. published: every cell is counted as if on 32x32 maps, and the cost of a 1x1 convolution "
        "stands at average pooling.", group="Deviations", source=CODE)
    weighting: GeneralWeighting = setting(
        "mgda", "Differs unless mgda: where the weights of the losses come from. sum: 1 each; equal: the same for each, "
        "together 1; the others follow the gradients, as MGDA does. solver then has no effect.", group="Deviations",
        source=CODE)
    solver: Literal["projected_gradient", "frank_wolfe", "exact"] = setting(
        "projected_gradient", "Differs unless projected_gradient: how MGDA's weights are found. frank_wolfe: the other routine "
        "of the released solver; exact: the smallest combination itself, weights reach 0 and 1.", group="Deviations", source=CODE)
    gradient_normalisation: Normalisation = setting(
        "l2", "Differs unless l2: gradients are divided before the solver, and only there, by their norm (l2), the loss (loss), "
        "both (loss+) or nothing (none).", group="Deviations", source=CODE)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"epochs": 10},
        # Targets at the same quantiles of the counts' ranges as 4e5 and 4e8 at 16 channels and 8 layers.
        "quick": {"channels": 8, "layers": 5, "epochs": 12, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "parameters_lower": 8.86e4, "parameters_upper": 8.86e4, "macs_lower": 9.22e7, "macs_upper": 9.22e7,
                  "threads": 2},
        # Two epochs: in the first the weights do not see the second dataset.
        "smoke": {"channels": 4, "layers": 4, "epochs": 2, "steps_per_epoch": 1, "batch_size": 8, "images": 64},
    }

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> E2rnas2021Config:
        for lower, upper in (("parameters_lower", "parameters_upper"), ("macs_lower", "macs_upper")):
            if self.size_bound == "both" and getattr(self, lower) > getattr(self, upper):
                raise ConfigError(problems={lower:
                    f"{lower} must be at most {upper} with the bound both, got {getattr(self, lower):g} and "
                    f"{getattr(self, upper):g}; lower the one or raise the other."})
        return self

    def inert(self) -> set[str]:
        """Return the bounds that the size losses do not read."""
        return ({"parameters_lower", "macs_lower"} if self.size_bound not in READ_LOWER else set()) | (
            {"parameters_upper", "macs_upper"} if self.size_bound not in READ_UPPER else set())

    def training_share(self, epoch: int) -> float:
        """What the out-of-distribution average counts in the training loss of an epoch, counted from 0."""
        return self.training_out_of_distribution_weight * (epoch / self.epochs if self.training_out_of_distribution_grows else 1)

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = super().deviations()
        if self.second_dataset not in (None, "", DATASETS[self.dataset].out_of_distribution):
            names.append(f"{image_source(self.second_dataset).title} as second dataset")
        if self.training_adversarial_weight:
            names.append(f"adversarial loss times {self.training_adversarial_weight:g} in training")
        if not self.training_out_of_distribution_grows:
            names.append("constant out-of-distribution weight in training")
        if self.size_bound != "abs":
            names.append(f"size bound {self.size_bound}")
        if self.mac_count == "modules":
            names.append("MACs of real modules, bounds at the same quantile")
        if self.weighting != "mgda":
            names.append(WEIGHTINGS[self.weighting].title)
        elif self.solver != "projected_gradient":
            names.append({"frank_wolfe": "Frank-Wolfe", "exact": "exact solver"}[self.solver])
        if self.gradient_normalisation != "l2" and WEIGHTINGS[self.weighting].follows_gradients:
            names.append(f"gradients normalised ({self.gradient_normalisation})" if self.gradient_normalisation != "none"
                         else "gradients not normalised")
        return names


METHODS.add("e2rnas2021", Method(
    name="e2rnas2021",
    title="E2RNAS (2021)",
    summary="Descends five losses together (MGDA): natural, one-step adversarial, parameters, MACs and overconfidence on another "
            "dataset's images, on a DARTS supernet. The later of two methods of this name; as published, both sizes grow towards "
            "their targets.",
    source="Effective, Efficient and Robust Neural Architecture Search, arXiv 2011.09820, IJCNN 2022; code of 2021-03",
    year=2021,
    config=E2rnas2021Config,
    implementation="engine.search.methods.e2rnas2021.method:E2rnas2021",
))
