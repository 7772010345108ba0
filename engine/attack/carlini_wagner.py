"""The L2 attack of Carlini and Wagner 2017, arXiv 1608.04644.

The attack minimises ||x' - x||_2^2 + c f(x') over w with Adam. Here x' = (tanh(w) + 1) / 2, which is always in 0..1, and f is the
logit difference, which is positive while x' is classified correctly. For each image, a binary search looks for the smallest
constant c with which the attack succeeds. We do not use the version of torchattacks. It takes 0 in place of the largest other
logit if that logit is negative, cannot change pixels of exactly 0 or 1, and does not search for c.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.attack.ball import Ball
from engine.attack.declaration import L2
from engine.attack.minimum import logit_difference
from engine.attack.walk import State, Walk
from engine.errors import ConfigError

# The first c of CleverHans' implementation; that of the paper's authors is 0.001, a whole search step further from success.
FIRST_CONSTANT = 0.01
GROWTH = 10.0  # factor of c while no c has succeeded: the authors' code
PROGRESS = 0.9999  # a search step goes on while the loss falls below this share of its last check: the authors' code
CHECKS = 10  # checks of progress in a search step: the authors' code
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8  # Adam's defaults
INSIDE = 0.999  # factor that brings pixels of 0 and 1 inside tanh's range


class CarliniWagner(Walk):
    """The L2 attack of Carlini and Wagner, with one network evaluation per iteration. Run it in a `Pool` with `nearest=True`.

    A search step is one minimisation with a fixed trade-off constant c.

    Differs: a search step ends early for an image if the loss of this image stops falling. In the authors' code, it ends early
    for the whole batch if the sum of the losses stops falling.
    Differs: there is no last search step with c at the upper bound. The authors' code takes one if there are ten or more steps.
    Differs: pixels of 0 and 1 start at a distance of 0.0005 from these values, not 0.0000005 as in the authors' code. Closer to 0
    and 1, tanh is so flat that search steps end too early.
    """

    leaves_ball = True

    def __init__(self, ball: Ball, iterations: int, search_steps: int = 9, *, learning_rate: float = 0.01,
                 confidence: float = 0.0) -> None:
        """Prepare the attack.

        Args:
            ball: a ball in L2. The radius is not used.
            iterations: maximum number of iterations per search step.
            search_steps: number of search steps. Each tries one constant c. The authors' code takes 9.
            learning_rate: learning rate of Adam. It is 0.01 in the authors' code.
            confidence: kappa of the paper. The attack has succeeded if another logit exceeds the logit of the label by this much.

        Raises:
            ConfigError: the norm of the ball is not L2.
        """
        if ball.norm != L2:
            raise ConfigError(f"Carlini and Wagner's attack searches in L2, got a ball in {ball.norm}; choose FMN there.")
        super().__init__(ball, iterations * search_steps)
        self.step_iterations, self.search_steps = iterations, search_steps
        self.learning_rate, self.confidence = learning_rate, confidence

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        """Return the state before the first search step (minimisation with one constant c). The point is the natural image.

        No random numbers are drawn.
        """
        zeros = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        state = {"origin": torch.atanh((2 * x - 1) * INSIDE), "search_step": torch.zeros_like(y), "lower": zeros,
                 "upper": torch.full_like(zeros, torch.inf), "c": torch.full_like(zeros, FIRST_CONSTANT)}
        fresh = self._search_step_begun(state["origin"])
        return state | fresh | {"point": _image(fresh["w"])}

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return c f [n], the misclassification term of the minimised sum (section V, equation 6 of the paper).

        Here c is the constant of the binary search, and f is the larger of the logit difference and -confidence.
        """
        return state["c"] * logit_difference(logits, state["y"], state["target"]).clamp(min=-self.confidence)

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one step of Adam. If the minimisation with the constant c has ended for an image, begin the next, with a new c.

        Returns:
            bool [n], True for images for which all values of c have been tried.
        """
        assert loss is not None and gradient is not None
        difference = logit_difference(logits, state["y"], state["target"])
        state["succeeded"] = state["succeeded"] | ((difference < 0) & (difference <= -self.confidence))
        change = state["point"] - state["x"]
        ended = self._stalls(state, loss + change.square().sum((1, 2, 3)))
        self._adam(state, (gradient + 2 * change) * _slope(state["w"]))
        self._next_constant(state, ended | (state["iteration"] >= self.step_iterations))
        state["point"] = _image(state["w"])
        return state["search_step"] >= self.search_steps

    def _stalls(self, state: State, total: Tensor) -> Tensor:
        """Return a bool [n], True for images whose loss has not fallen since the last check.

        The loss is checked at regular intervals. Between two checks, all entries are False.
        """
        checked = state["iteration"] % max(self.step_iterations // CHECKS, 1) == 0
        stalls = checked & (total > PROGRESS * state["checked_loss"])
        state["checked_loss"] = torch.where(checked, total, state["checked_loss"])
        return stalls

    def _adam(self, state: State, gradient: Tensor) -> None:
        """Take a step of Adam in w, where (tanh(w) + 1) / 2 is the image. Each image has its own count of Adam steps."""
        state["iteration"] = state["iteration"] + 1
        count = state["iteration"][:, None, None, None]
        state["mean"] = BETA1 * state["mean"] + (1 - BETA1) * gradient
        state["square"] = BETA2 * state["square"] + (1 - BETA2) * gradient.square()
        mean, square = state["mean"] / (1 - BETA1 ** count), state["square"] / (1 - BETA2 ** count)
        state["w"] = state["w"] - self.learning_rate * mean / (square.sqrt() + TINY)

    def _next_constant(self, state: State, ended: Tensor) -> None:
        """Choose the next c and begin the next search step, for images whose search step has ended.

        While no c has succeeded, c grows by a constant factor. Afterwards, the next c halves the interval that contains the
        smallest successful c.
        """
        c, succeeded = state["c"], state["succeeded"]
        state["upper"] = torch.where(ended & succeeded, torch.minimum(state["upper"], c), state["upper"])
        state["lower"] = torch.where(ended & ~succeeded, torch.maximum(state["lower"], c), state["lower"])
        following = torch.where(state["upper"].isinf(), GROWTH * c, (state["lower"] + state["upper"]) / 2)
        state["c"] = torch.where(ended, following, c)
        state["search_step"] = state["search_step"] + ended
        for name, value in self._search_step_begun(state["origin"]).items():
            state[name] = torch.where(ended.view(-1, *[1] * (value.dim() - 1)), value, state[name])

    def _search_step_begun(self, origin: Tensor) -> State:
        """Return initial values for the entries of the state that every search step (minimisation with one constant c) resets.

        `origin` is the w of the natural images, [n, C, H, W].
        """
        count = torch.zeros(len(origin), dtype=torch.int64, device=origin.device)
        return {"w": origin.clone(), "mean": torch.zeros_like(origin), "square": torch.zeros_like(origin), "iteration": count,
                "succeeded": count.bool(), "checked_loss": torch.full_like(count, torch.inf, dtype=origin.dtype)}


def _image(w: Tensor) -> Tensor:
    return (torch.tanh(w) + 1) / 2


def _slope(w: Tensor) -> Tensor:
    """Return the derivative of the pixels (tanh(w) + 1) / 2 with respect to w, precise even where tanh(w) is near 1."""
    return 0.5 / torch.cosh(w).square()
