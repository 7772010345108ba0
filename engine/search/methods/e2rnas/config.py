"""Settings of E2RNAS as first published (arXiv 2011.09820, 2020). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.config import Pixels, normalisation, setting
from engine.errors import ConfigError
from engine.search.config import GRADIENT_WEIGHTINGS, READ_LOWER, READ_UPPER, BilevelConfig
from engine.search.methods.registry import METHODS, Method
from engine.search.registries import WEIGHTINGS, Bound, E2rnasWeighting, Normalisation

CODE = "E2RNAS code of 2020-11"


class E2rnasConfig(BilevelConfig):
    """Settings of E2RNAS, which minimises (L_natural, number of parameters) over alpha by MGDA.

    The weights are trained on adversarial images made by a single attack step. The defaults come from the released main runs on
    CIFAR-10 with the size limit 1e6. They reproduce the mistakes of the code. Settings of the group "Deviations" correct these
    mistakes.

    The method e2rnas2021 is the later method of the same name, with five objectives (code of 2021, paper at IJCNN 2022).
    """

    batch_size: int = setting(64, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", silent=True,
                              source=CODE, ge=2, le=8192)
    channels: int = setting(16, "Channels C of the first cells of the supernet; even.", step=2,
                            group="Supernet", silent=True, source=CODE, ge=2, le=512)
    cutout: int = setting(16, "Side length of a random square that is blanked; 0 for none.", group="Augmentation", source=CODE,
                          unit="pixels", ge=0, le=64)
    normalise: bool = normalisation(True, CODE)
    training_epsilon: Pixels = setting(
        2 / 255, "L-infinity radius of the one-step attack in the training of the weights, pixel space. Its step is 1.25 times "
        "the radius; 0 trains on natural images.", group="Attack in search", source=CODE, deviation="training epsilon {value}")
    size_lower: float = setting(
        1e6, "L, the smallest desired number of parameters. With the published count, the size objective is inert at this "
        "default: the count begins at 1,831,168 (16 channels, 8 layers), so max(1, L - N) is 1 and its gradient zero until the "
        "network collapses to operations without parameters. Published runs: 5e5 to 1.2e6.", group="Architecture", source=CODE,
        ge=0, le=1e12, deviation="L {value}")
    size_upper: float = setting(
        1e6, "U, the largest desired number of parameters; used by the bounds max and both.", group="Architecture", source=CODE,
        ge=0, le=1e12, deviation="U {value}")
    size_bound: Bound = setting(
        "min", "Differs unless min: selects the loss of the number of parameters N. min: max(1, L - N); max: max(1, N - U); "
        "none: N. From the later code, min_later: max(L, N); abs: |L - N|; both: N + max(1, N - U, L - N).", group="Deviations",
        source=CODE)
    parameter_count: Literal["published", "modules"] = setting(
        "published", "Differs when modules: selects how parameters are counted. published: as in the released code, which by "
        "mistake counts all fourteen edges at every edge, so that the objective is inert at the default L; modules: the "
        "parameters of the real modules, each edge once, with L and U moved to the same quantile of this count's range.",
        group="Deviations", source=CODE)
    gradient_sum: Literal["added", "apart"] = setting(
        "added", "Differs when apart: selects the gradients that the solver sees. added: g1 and g1 + g2, because the released "
        "code never clears the unrolled network's gradients, and alphas descend (1 + c1) g1 + (1 + c2) g2; apart: g1 and g2. An "
        "inert size objective has the weight 0.001 with added and 0.999 with apart.", group="Deviations", source=CODE)
    weighting: E2rnasWeighting = setting(
        "mgda", f"Differs unless mgda: determines the weights of the losses. {GRADIENT_WEIGHTINGS}; sum: the released code's "
        "ablation without MGDA, whose gradients accumulate, so that alphas descend 2 (g1 + g2); plain_sum: g1 + g2; equal: equal "
        "weights that sum to 1. Unless mgda, solver and gradient_sum have no effect; all but sum see g1 and g2.",
        group="Deviations", source=CODE)
    solver: Literal["published", "exact"] = setting(
        "published", "Differs when exact: selects the weights of MGDA if a single gradient is best. published: 0.999 and 0.001; "
        "exact: 1 and 0.", group="Deviations", source=CODE)
    without_inert: bool = setting(
        False, "Differs when on: leaves out an objective whose gradient is zero, so that the other has the weight 1.",
        group="Deviations")
    gradient_normalisation: Normalisation = setting(
        "none", "Differs unless none: divides each gradient before the solver. none: no division; l2: by its norm; loss: by its "
        "loss; loss+: by both.", group="Deviations", source=CODE)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"epochs": 10},
        # L and U have the same quantile of the count's range as 1e6 has at 16 channels and 8 layers.
        "quick": {"channels": 8, "layers": 5, "epochs": 16, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "size_lower": 2.19e5, "size_upper": 2.19e5, "threads": 2},
        "smoke": {"channels": 4, "layers": 4, "epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "images": 64},
    }

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> E2rnasConfig:
        if self.size_bound == "both" and self.size_lower > self.size_upper:
            raise ConfigError(problems={"size_lower":
                f"size_lower must be at most size_upper with the bound both, got {self.size_lower:g} and "
                f"{self.size_upper:g}; lower size_lower or raise size_upper."})
        return self

    def inert(self) -> set[str]:
        """Return the names of the size limits that the selected size loss does not use."""
        return ({"size_lower"} if self.size_bound not in READ_LOWER else set()) | (
            {"size_upper"} if self.size_bound not in READ_UPPER else set())

    @classmethod
    def of_record(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that a run recorded, translated to the current settings.

        Records without the setting `halves` are old. In old records, the value "sum" of the setting `weighting` stands for the
        rule that is now called "plain_sum".
        """
        is_older = values.get("weighting") == "sum" and "halves" not in values
        return super().of_record(values) | ({"weighting": "plain_sum"} if is_older else {})

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name. Inherited deviations come first."""
        names = super().deviations()
        if self.size_bound != "min":
            names.append(f"size bound {self.size_bound}")
        if self.parameter_count == "modules":
            names.append("parameters of real modules, bounds at the same quantile")
        if self.weighting != "mgda":
            names.append("sum of accumulated gradients" if self.weighting == "sum" else WEIGHTINGS[self.weighting].title)
        elif self.gradient_sum == "apart":
            names.append("gradients apart")
        if self.solver == "exact" and self.weighting == "mgda":
            names.append("exact solver")
        if self.without_inert:
            names.append("inert objectives left out")
        if self.gradient_normalisation != "none" and WEIGHTINGS[self.weighting].follows_gradients:
            names.append(f"gradients normalised ({self.gradient_normalisation})")
        return names


METHODS.add("e2rnas", Method(
    name="e2rnas",
    title="E2RNAS (2020)",
    summary="Minimises the natural loss and the number of parameters together (two-objective MGDA) on a DARTS supernet whose "
            "weights are trained on one-step adversarial images. As published, the size objective is inert at its default.",
    source="Effective, Efficient and Robust Neural Architecture Search, arXiv 2011.09820, 2020",
    year=2020,
    config=E2rnasConfig,
    implementation="engine.search.methods.e2rnas.method:E2rnas",
))
