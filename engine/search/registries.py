"""What a bilevel method is composed of, by name: upper-level objectives and ways to weigh them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from engine.registry import Registry

# The weightings that torchjd computes, for the `weighting` of a configuration.
TorchjdWeighting = Literal["upgrad", "dualproj", "imtl_g", "aligned_mtl", "pcgrad", "fairgrad"]


@dataclass(frozen=True)
class ObjectiveKind:
    """An objective of the architecture, before it is given a network and a step's images.

    Attributes:
        name: as reports and the run log print it.
        title: what a reader calls it, as behind "the" in a sentence.
        implementation: "module:function" of (network, images: `engine.search.objectives.StepImages`, configuration, coefficient)
            -> Objective.
        reads: fields of `StepImages` that are made for it alone; the natural images and labels of the alphas batch are always
            there.
        passes: forward passes of one evaluation; 0 for a function of the alphas alone.
        unit: of its loss.
    """

    name: str
    title: str
    implementation: str
    reads: tuple[str, ...] = ()
    passes: int = 1
    unit: str = "nats"

    @property
    def adversarial(self) -> bool:
        """Whether it reads attacked images; its accuracy is then an adversarial one."""
        return bool({"x_adv", "x_one_step"}.intersection(self.reads))


@dataclass(frozen=True)
class Weighting:
    """A way from the Gramian of the objectives' gradients to their weights.

    Attributes:
        name: as in `weighting` of a configuration.
        title: name in the title of a run whose method would have taken another.
        words: one or two sentences for a reader who sees the weights drawn.
        implementation: "module:function" of (gramian [m, m] float64, names of the m objectives, weight of the natural one where
            weights are fixed) -> weights [m] on the Gramian's device.
        on_simplex: whether the weights are non-negative and add up to 1.
        follows_gradients: whether the weights depend on the gradients.
    """

    name: str
    title: str
    words: str
    implementation: str
    on_simplex: bool = True
    follows_gradients: bool = False


OBJECTIVES: Registry[ObjectiveKind] = Registry("objective")
WEIGHTINGS: Registry[Weighting] = Registry("weighting")


def implementation_of(entry: ObjectiveKind | Weighting) -> Callable[..., Any]:
    """What an entry names; imports its module."""
    module, _, name = entry.implementation.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


for _kind in (
    ObjectiveKind("natural", "natural loss", "engine.search.objectives:natural"),
    ObjectiveKind("adversarial", "adversarial loss", "engine.search.objectives:adversarial", ("x_adv",)),
    ObjectiveKind("trades", "TRADES KL", "engine.search.objectives:trades", ("x_adv",), passes=2),
    ObjectiveKind("out_of_distribution", "out-of-distribution KL", "engine.search.objectives:out_of_distribution",
                  ("out_of_distribution",)),
    ObjectiveKind("one_step", "one-step adversarial loss", "engine.search.objectives:one_step", ("x_one_step",)),
    ObjectiveKind("parameter_share", "parameter count", "engine.search.size:parameter_share", passes=0,
                  unit="share of the largest"),
    ObjectiveKind("mac_share", "MAC count", "engine.search.size:mac_share", passes=0, unit="share of the largest"),
    ObjectiveKind("curvature", "curvature", "engine.search.curvature:curvature", passes=2,
                  unit="nats per unit of an image"),
):
    OBJECTIVES.add(_kind.name, _kind)

for _weighting in (
    Weighting("mgda", "MGDA", "MGDA chooses the weights, which add up to 1, so that a small step lowers every loss; the loss "
              "with the smaller gradient gets more weight.", "engine.search.weighting:by_mgda", follows_gradients=True),
    Weighting("equal", "equal weights", "Every loss has the same weight, whatever the gradients.",
              "engine.search.weighting:equal"),
    Weighting("fixed", "fixed weights", "The weights are set before the search and do not follow the gradients.",
              "engine.search.weighting:fixed"),
    Weighting("adversarial", "adversarial loss only", "The architecture follows the adversarial loss alone; every other loss is "
              "measured and has weight 0.", "engine.search.weighting:adversarial_only"),
    Weighting("sum", "plain sum", "Every loss has weight 1: the search descends the sum of the losses.",
              "engine.search.weighting:plain_sum", on_simplex=False),
    *(Weighting(name, title, words, f"engine.search.jacobian_descent:{name}", on_simplex=False, follows_gradients=True)
      for name, title, words in (
          ("upgrad", "UPGrad", "UPGrad turns each gradient as little as needed to raise no loss, and takes the mean: weights "
           "grow above the mean's as far as gradients conflict."),
          ("dualproj", "DualProj", "DualProj takes the mean gradient, turned as little as needed to raise no loss: without a "
           "conflict every loss has the same weight."),
          ("imtl_g", "IMTL-G", "IMTL-G chooses the weights so that the step is equally long along every gradient; of two "
           "losses, each then weighs inversely to the length of its gradient. Weights add up to 1 and can be negative."),
          ("aligned_mtl", "Aligned-MTL", "Aligned-MTL shortens the principal components of the gradients to the smallest one's "
           "length and takes the mean, so that no loss dominates. Weights can be negative."),
          ("pcgrad", "PCGrad", "PCGrad takes from each gradient what points against another one, and adds the rest up: "
           "without a conflict every loss has weight 1."),
          ("fairgrad", "FairGrad", "FairGrad (alpha 1, the Nash bargaining solution) gives each loss the inverse of what the "
           "step gains for it: weights grow as gradients shrink or conflict."))),
):
    WEIGHTINGS.add(_weighting.name, _weighting)
