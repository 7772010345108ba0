"""Registries of objectives (losses that a bilevel method minimises) and of weightings (rules that weigh objectives).

The module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from engine.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

# Objectives by the setting that offers them. AdvRush always has the curvature, so it offers only FurtherObjective.
RobustObjective = Literal["adversarial", "trades"]
FurtherObjective = Literal["out_of_distribution", "one_step", "parameter_share", "mac_share"]
AddedObjective = Literal[FurtherObjective, "curvature"]
ObjectiveName = Literal["natural", RobustObjective, AddedObjective]

# Weightings by the losses that they can weigh: any losses; the losses of E2RNAS (2020); several losses of which one is natural;
# several losses of which one is natural and one adversarial.
TorchjdWeighting = Literal["upgrad", "dualproj", "imtl_g", "aligned_mtl", "pcgrad", "fairgrad"]
GeneralWeighting = Literal["mgda", "equal", "sum", TorchjdWeighting]
E2rnasWeighting = Literal["mgda", "equal", "sum", "plain_sum", TorchjdWeighting]
NaturalWeighting = Literal["mgda", "equal", "fixed", "sum", TorchjdWeighting]
RobustWeighting = Literal["mgda", "equal", "fixed", "adversarial", "sum", TorchjdWeighting]
WeightingName = Literal[RobustWeighting, E2rnasWeighting]

# Other names that settings and mathematics share: the divisor of the gradients, the loss of a bounded count, the arithmetic.
Normalisation = Literal["none", "l2", "loss", "loss+"]
Bound = Literal["none", "max", "min", "min_later", "abs", "both"]
Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class LazyFunction:
    """A function that is imported when it is first called. Two instances with the same path are equal.

    Attributes:
        path: module and function as "module:function".
    """

    path: str

    def __call__(self, *arguments: Any) -> Any:
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)(*arguments)


class Value(NamedTuple):
    """The result of one evaluation of an objective.

    Attributes:
        loss: differentiable scalar.
        accuracy: detached scalar in 0..1; None if the objective classifies nothing.
    """

    loss: Tensor
    accuracy: Tensor | None


@dataclass(frozen=True)
class Objective:
    """A loss that a search minimises, as a function of flat weights and flat alphas.

    A registered objective has empty `constants` and `inputs`. `engine.search.objectives.bound` returns a copy with a supernet and
    the images of a step in these two fields.

    Attributes:
        name: name in reports and in the run log.
        function: (*constants, weights [n], alphas [k], *inputs) -> `Value`, without the coefficient.
        title: display name for use after "the" in a sentence, for example "natural loss".
        reads: names of the inputs. Each is a field of `engine.search.objectives.StepImages` or a numeric setting of the search.
        passes: number of forward passes in one evaluation; 0 for a function of the alphas alone.
        unit: unit of the loss.
        coefficient: configured factor of the loss. A weighting sees the loss and its gradient multiplied by this factor.
        constants: hashable arguments of the function, such as the supernet.
        inputs: tensors that the function reads in addition to weights and alphas.
    """

    name: str
    function: Callable[..., Any]
    title: str = ""
    reads: tuple[str, ...] = ()
    passes: int = 1
    unit: str = "nats"
    coefficient: float = 1.0
    constants: tuple[Any, ...] = ()
    inputs: tuple[Tensor, ...] = ()

    def __call__(self, weights: Tensor, alphas: Tensor) -> Value:
        """Evaluate the objective at flat weights [n] and alphas [k], without the coefficient. Takes `passes` forward passes."""
        value: Value = self.function(*self.constants, weights, alphas, *self.inputs)
        return value

    @property
    def kind(self) -> Hashable:
        """Key of the CUDA graphs that record the passes of this objective.

        Objectives with equal keys compute the same function of their inputs and share these graphs.
        """
        return self.function, self.constants

    @property
    def adversarial(self) -> bool:
        """True if the objective reads attacked images, so that its accuracy is an adversarial accuracy."""
        return bool({"x_adv", "x_one_step"}.intersection(self.reads))

    def times(self, coefficient: float) -> Objective:
        """Return a copy of the objective with this coefficient."""
        return replace(self, coefficient=coefficient)


@dataclass(frozen=True)
class Weighting:
    """A rule that turns the Gramian of the objectives' gradients into weights of the objectives.

    Attributes:
        name: value of the setting `weighting` that selects the rule.
        title: name of the rule in the titles of runs that use it instead of the published rule.
        words: explanation of the rule in one to three sentences, shown next to a plot of the weights.
        function: (gramian [m, m] float64, names of the m objectives, natural_weight) -> weights [m] on the Gramian's device.
            Only the rule "fixed" uses natural_weight, as the weight of the natural objective.
        on_simplex: True if the weights are non-negative and sum to 1.
        follows_gradients: True if the weights depend on the gradients.
    """

    name: str
    title: str
    words: str
    function: LazyFunction
    on_simplex: bool = True
    follows_gradients: bool = False


OBJECTIVES: Registry[Objective] = Registry("objective")
WEIGHTINGS: Registry[Weighting] = Registry("weighting")


def _objective(name: ObjectiveName, title: str, function: str, reads: tuple[str, ...] = (), passes: int = 1,
               unit: str = "nats") -> None:
    OBJECTIVES.add(name, Objective(name, LazyFunction(f"engine.search.{function}"), title, reads, passes, unit))


def _weighting(name: WeightingName, title: str, words: str, function: str, **properties: bool) -> None:
    WEIGHTINGS.add(name, Weighting(name, title, words, LazyFunction(f"engine.search.{function}"), **properties))


def _torchjd(name: TorchjdWeighting, title: str, words: str) -> None:
    _weighting(name, title, words, f"jacobian_descent:{name}", on_simplex=False, follows_gradients=True)


_objective("natural", "natural loss", "objectives:cross_entropy", ("x", "y"))
_objective("adversarial", "adversarial loss", "objectives:cross_entropy", ("x_adv", "y"))
_objective("trades", "TRADES KL", "objectives:trades", ("x", "x_adv", "y"), passes=2)
_objective("out_of_distribution", "out-of-distribution KL", "objectives:uniformity", ("out_of_distribution",))
_objective("one_step", "one-step adversarial loss", "objectives:cross_entropy", ("x_one_step", "y"))
_objective("parameter_share", "parameter count", "size:parameter_share", passes=0, unit="share of the largest")
_objective("mac_share", "MAC count", "size:mac_share", passes=0, unit="share of the largest")
_objective("curvature", "curvature", "curvature:curvature", ("x", "y", "curvature_radius"), passes=2,
           unit="nats per unit of an image")

_weighting("mgda", "MGDA", "MGDA chooses the weights, which sum to 1, such that a small step lowers every loss. The loss with "
           "the smaller gradient gets more weight.", "weighting:by_mgda", follows_gradients=True)
_weighting("equal", "equal weights", "Every loss has the same weight, whatever the gradients are.", "weighting:equal")
_weighting("fixed", "fixed weights", "The weights are set before the search and do not follow the gradients.", "weighting:fixed")
_weighting("adversarial", "adversarial loss only", "The architecture follows the adversarial loss alone. Other losses are "
           "measured and have weight 0.", "weighting:adversarial_only")
for _name in ("sum", "plain_sum"):  # E2RNAS (2020) offers both, and counts gradients twice for sum
    _weighting(_name, "plain sum", "Every loss has weight 1: the search descends the sum of the losses.", "weighting:plain_sum",
               on_simplex=False)
_torchjd("upgrad", "UPGrad", "UPGrad turns each gradient just enough to raise no loss, then takes the mean. The more gradients "
         "conflict, the further weights rise above those of the mean.")
_torchjd("dualproj", "DualProj", "DualProj takes the mean gradient and turns it just enough to raise no loss. Without a "
         "conflict, every loss has the same weight.")
_torchjd("imtl_g", "IMTL-G", "IMTL-G chooses weights such that the step is equally long along every gradient. Each of two losses "
         "is weighted inversely to the length of its gradient. Weights sum to 1 and can be negative.")
_torchjd("aligned_mtl", "Aligned-MTL", "Aligned-MTL shortens the principal components of the gradients to the length of the "
         "smallest and takes the mean, so that no loss dominates. Weights can be negative.")
_torchjd("pcgrad", "PCGrad", "PCGrad removes from each gradient what points against another and sums the rest. Without a "
         "conflict, every loss has weight 1.")
_torchjd("fairgrad", "FairGrad", "FairGrad (alpha 1, the Nash bargaining solution) gives each loss the inverse of what the step "
         "gains for it. Weights grow as gradients shrink or conflict.")

assert set(OBJECTIVES) == set(get_args(ObjectiveName)) and set(WEIGHTINGS) == set(get_args(WeightingName))
