"""Settings of E2RNAS as released in 2021 (IJCNN 2022). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.config import PositivePixels, normalisation, setting
from engine.data.catalogue import DATASETS, image_source
from engine.errors import ConfigError
from engine.search.config import GRADIENT_WEIGHTINGS, READ_LOWER, READ_UPPER, BilevelConfig, OutOfDistributionConfig
from engine.search.methods.registry import METHODS, Method
from engine.search.registries import WEIGHTINGS, Bound, GeneralWeighting, Normalisation

CODE = "E2RNAS code of 2021-03"


class E2rnas2021Config(OutOfDistributionConfig, BilevelConfig):
    """Settings of the 2021 version of E2RNAS, which minimises five losses over alpha by MGDA.

    The weights are trained on natural and out-of-distribution images. If training_adversarial_weight is above 0, they are also
    trained on adversarial images. The defaults come from the released main run on CIFAR-10, which is called abs40_gnl2. They
    reproduce the mistakes of the code. Settings of the group "Deviations" correct these mistakes.
    """

    batch_size: int = setting(64, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", silent=True,
                              source=CODE, ge=2, le=8192)
    channels: int = setting(16, "Channels C of the first cells of the supernet; even.", step=2,
                            group="Supernet", silent=True, source=CODE, ge=2, le=512)
    cutout: int = setting(16, "Side length of a random square that is blanked; 0 for none.", group="Augmentation", source=CODE,
                          unit="pixels", ge=0, le=64)
    normalise: bool = normalisation(True, CODE)
    attack_epsilon: PositivePixels = setting(
        2 / 255, "L-infinity radius of the one-step attack of the adversarial loss, pixel space. Its step is 1.25 times the "
        "radius.", group="Attack in search", source=CODE, deviation="epsilon {value}")
    parameters_lower: float = setting(
        4e5, "L of the parameters loss, in parameters; the target of the bound abs. Published counts begin at 2.36e5 parameters "
        "and 2.84e8 MACs (16 channels, 8 layers), so both size losses favour a larger network.", group="Architecture",
        source=CODE, ge=0, le=1e12, deviation="parameters L {value}")
    parameters_upper: float = setting(4e5, "U of the parameters loss, in parameters; used by the bounds max and both.",
                                      group="Architecture", ge=0, le=1e12, deviation="parameters U {value}")
    macs_lower: float = setting(
        4e8, "L of the MACs loss, in MACs; the target of the bound abs. The released code has a single constant, 4, for "
        "parameters in 1e5 and MACs in 1e8.", group="Architecture", source=CODE, ge=0, le=1e15, deviation="MACs L {value}")
    macs_upper: float = setting(4e8, "U of the MACs loss, in MACs; used by the bounds max and both.", group="Architecture", ge=0,
                                le=1e15, deviation="MACs U {value}")
    out_of_distribution_factor: float = setting(
        10.0, "Coefficient of the out-of-distribution loss: KL(uniform || prediction) averaged over images and classes, as in "
        "the released code. With ten classes, 10 gives the divergence itself.", group="Architecture", source=CODE, gt=0, le=1e6)
    training_out_of_distribution_weight: float = setting(
        1.0, "Weight of the out-of-distribution average in the training loss of the weights. The unrolled step leaves it out.",
        group="Weights", source=CODE, ge=0, le=1e6, deviation="out-of-distribution weight {value} in training")
    training_out_of_distribution_grows: bool = setting(
        True, "Differs when off: lets training_out_of_distribution_weight grow. On, as in the released code: its share e / E in "
        "epoch e of E, counted from 0; off: constant. The authors switched this by editing the code, and the name of their main "
        "run suggests that it was off there.", group="Deviations", source=CODE)
    training_adversarial_weight: float = setting(
        0.0, "Differs above 0: weight of the one-step adversarial loss that is added to the training loss of the weights "
        "(Fast-AT: the gradient is taken at the random start). The released main run has 0, without adversarial training of the "
        "supernet.", group="Deviations", source=CODE, ge=0, le=1e3)
    size_bound: Bound = setting(
        "abs", "Differs unless abs: selects the losses of parameters and MACs; N is in 1e5 or 1e8. abs: |L - N|; max: max(1, N - "
        "U); both: N + max(1, N - U, L - N); min_later: max(L, N); none: N. From the code of 2020, min: max(1, L - N).",
        group="Deviations", source=CODE)
    mac_count: Literal["published", "modules"] = setting(
        "published", "Differs when modules: selects how MACs are counted. published: every cell as if on 32x32 maps, with the "
        "cost of a 1x1 convolution for average pooling; modules: the MACs of the real modules at their resolution, with L and U "
        "moved to the same quantile of this count's range.", group="Deviations", source=CODE)
    weighting: GeneralWeighting = setting(
        "mgda", f"Differs unless mgda: determines the weights of the losses. {GRADIENT_WEIGHTINGS}; sum: 1 each; equal: equal "
        "weights that sum to 1. Unless mgda, solver has no effect.", group="Deviations", source=CODE)
    solver: Literal["projected_gradient", "frank_wolfe", "exact"] = setting(
        "projected_gradient", "Differs unless projected_gradient: selects the solver for MGDA's weights. projected_gradient, as "
        "released: the routine of the main run; frank_wolfe: the other routine of the released solver; exact: the exact minimum, "
        "whose weights reach 0 and 1.", group="Deviations", source=CODE)
    gradient_normalisation: Normalisation = setting(
        "l2", "Differs unless l2: divides each gradient before the solver, and only there. l2: by its norm; loss: by its loss; "
        "loss+: by both; none: no division.", group="Deviations", source=CODE)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"epochs": 10},
        # The targets have the same quantiles of the counts' ranges as 4e5 and 4e8 have at 16 channels and 8 layers.
        "quick": {"channels": 8, "layers": 5, "epochs": 12, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "parameters_lower": 8.86e4, "parameters_upper": 8.86e4, "macs_lower": 9.22e7, "macs_upper": 9.22e7,
                  "threads": 2},
        # Two epochs, because the weights do not see the second dataset in the first.
        "smoke": {"channels": 4, "layers": 4, "epochs": 2, "steps_per_epoch": 1, "batch_size": 8, "images": 64},
    }

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> E2rnas2021Config:
        for lower, upper in (("parameters_lower", "parameters_upper"), ("macs_lower", "macs_upper")):
            if self.size_bound == "both" and getattr(self, lower) > getattr(self, upper):
                raise ConfigError(problems={lower:
                    f"{lower} must be at most {upper} with the bound both, got {getattr(self, lower):g} and "
                    f"{getattr(self, upper):g}; lower {lower} or raise {upper}."})
        return self

    def inert(self) -> set[str]:
        """Return the names of the size limits that the selected size losses do not use."""
        return ({"parameters_lower", "macs_lower"} if self.size_bound not in READ_LOWER else set()) | (
            {"parameters_upper", "macs_upper"} if self.size_bound not in READ_UPPER else set())

    def training_share(self, epoch: int) -> float:
        """Return the weight of the out-of-distribution loss in the network's training loss, for an epoch counted from 0.

        The out-of-distribution loss is averaged over images and classes.
        """
        return self.training_out_of_distribution_weight * (epoch / self.epochs if self.training_out_of_distribution_grows else 1)

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        The inherited deviations come first, then changes to training, size losses and weighting.
        """
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
    summary="Minimises five losses together (MGDA) on a DARTS supernet: natural, one-step adversarial, parameters, MACs, and "
            "overconfidence on another dataset's images. The later of two methods of this name. As published, both sizes grow "
            "towards their targets.",
    source="Effective, Efficient and Robust Neural Architecture Search, arXiv 2011.09820, IJCNN 2022; code of 2021-03",
    year=2021,
    config=E2rnas2021Config,
    implementation="engine.search.methods.e2rnas2021.method:E2rnas2021",
))
