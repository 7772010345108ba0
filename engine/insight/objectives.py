"""Analysis of how a search weighs its objectives: how often one objective has the weight 1, and a check of MGDA's closed form.

MGDA chooses the weights c on the simplex that minimise |c_1 g_1 + ... + c_m g_m|. For two gradients g_1 and g_2 at the angle
theta, the weight of the first is gamma = clip((g_2 - g_1) . g_2 / |g_2 - g_1|^2, 0, 1). If the gradients differ, gamma is 0
exactly when cos(theta) >= |g_2| / |g_1|: g_2 itself is then the shortest convex combination. Equal gradients get the weight 1/2
each. In ARNAS, g_2 is lambda times the gradient of the adversarial loss. A recorded norm is the norm of a gradient as the
weighting rule receives it, already multiplied by a coefficient such as lambda.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.log import RunLog
from engine.search.registries import OBJECTIVES, WEIGHTINGS

LAST_STEPS = 500
ALL_STEPS = 10**9
AGREES = 1e-6  # weights that differ by less agree with the closed form
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Vertices:
    """The frequencies with which the weights were at a vertex of the simplex, where a single objective has the weight 1.

    Attributes:
        steps: number of counted steps.
        alone: {objective: fraction of the steps in which its weight was 1}, in the order of the objectives.
        ignored: {objective: fraction of the steps in which its weight was 0}.
        weighed: {objective: number of steps in which the objective took part}, the denominators of the fractions above. A method
            may use an objective only in a later stage.
    """

    steps: int
    alone: dict[str, float]
    ignored: dict[str, float]
    weighed: dict[str, int]

    @property
    def mixed(self) -> float:
        """Fraction of the steps, in 0..1, in which no objective had the weight 1."""
        decided = sum(share * self.weighed[name] for name, share in self.alone.items())
        return max(0.0, 1.0 - decided / self.steps) if self.steps else 0.0


@dataclass(frozen=True)
class ClosedForm:
    """A comparison of the recorded weights of two objectives with the weights that MGDA's closed form (`first_weight`) gives.

    Attributes:
        steps: number of compared steps.
        agreeing: fraction of these steps in which the recorded weight of the first objective and its weight by the closed form
            differ by less than `AGREES`.
        largest_difference: largest absolute difference between these two weights, in 0..1.
    """

    steps: int
    agreeing: float
    largest_difference: float


def by_epoch(log: RunLog, run: str) -> pd.DataFrame:
    """Return the table of `RunLog.objective_epochs`: loss, weight, gradient norm, cosine etc. of each objective by epoch."""
    return log.objective_epochs(run)


def vertices(log: RunLog, run: str, last: int = ALL_STEPS) -> Vertices:
    """Return how often each objective had the weight 1 or 0 in the last `last` steps of a run, by default in all steps."""
    shares = log.share_at_vertex(run, last)
    names = shares["objective"].tolist()
    return Vertices(int(shares["steps"].max()) if names else 0, dict(zip(names, shares["share_alone"], strict=True)),
                    dict(zip(names, shares["share_ignored"], strict=True)),
                    dict(zip(names, map(int, shares["steps"]), strict=True)))


def first_weight(first_norm: Numbers, second_norm: Numbers, cosine: Numbers) -> Numbers:
    """Return MGDA's weight of the first of two gradients, in 0..1, from their norms and the cosine of the angle between them.

    Equal gradients give 1/2. The arguments are arrays of one shape, or numbers.
    """
    mixed = first_norm * second_norm * cosine
    distance = first_norm**2 + second_norm**2 - 2 * mixed
    rounding = 4 * np.finfo(float).eps * (first_norm**2 + second_norm**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(distance <= rounding, 0.5, np.clip((second_norm**2 - mixed) / distance, 0.0, 1.0))


def closed_form(log: RunLog, run: str) -> ClosedForm | None:
    """Compare the recorded weights of two objectives with the weights that MGDA's closed form gives for the recorded gradients.

    Return None unless the run weighs exactly two objectives by MGDA.
    """
    if weighting_of(log, run) != "mgda":
        return None
    pairs = log.objective_pairs(run).dropna()
    if pairs.empty:
        return None
    first, second, cosine, weight = (pairs[name].to_numpy() for name in ("first_norm", "second_norm", "cosine", "weight"))
    difference = np.abs(first_weight(first, second, cosine) - weight)
    return ClosedForm(len(pairs), float((difference < AGREES).mean()), float(difference.max()))


def weighting_of(log: RunLog, run: str) -> str:
    """Return the name of the rule by which a search weighs its objectives, or "" if its configuration has none."""
    return str(log.configs([run]).get(run, {}).get("weighting", ""))


def in_words(log: RunLog, run: str, last: int = LAST_STEPS) -> str:
    """Return one or two sentences about the weights of the objectives in the last `last` steps of a search."""
    found, name = vertices(log, run, last), weighting_of(log, run)
    if not found.steps:
        return "No losses have been weighed yet."
    if len(found.alone) == 1:
        return f"Every step follows the {title_of(next(iter(found.alone)))} alone."
    if name in WEIGHTINGS and not WEIGHTINGS[name].follows_gradients:
        return WEIGHTINGS[name].words
    ignored, share = max(found.ignored.items(), key=lambda item: item[1])
    steps = found.weighed[ignored] if share else min(found.weighed.values())
    span = f"the last {steps:,} steps" if steps > 1 else "the only step"
    if share == 0:
        losses = "Both" if len(found.alone) == 2 else f"All {len(found.alone)}"
        return f"{losses} losses had a weight above 0 in {'all of ' if steps > 1 else ''}{span}."
    why = ": the other gradient was the shortest convex combination of both" if len(found.alone) == 2 and name == "mgda" else ""
    return f"The {title_of(ignored)} was ignored in {100 * share:.0f} % of {span}{why}."


def panel(log: RunLog, run: str) -> str:
    """Return the sentences of `in_words` for a search that weighs several losses, and "" for any other run."""
    return in_words(log, run) if weighting_of(log, run) or vertices(log, run, 1).steps else ""


def title_of(objective: str) -> str:
    """Return the title of an objective for use in a sentence: "natural loss" for "natural".

    If this version does not know the objective, return the name followed by "loss".
    """
    if objective in OBJECTIVES:
        return OBJECTIVES[objective].title
    return f"{objective.replace('_', ' ').replace('macs', 'MACs')} loss"
