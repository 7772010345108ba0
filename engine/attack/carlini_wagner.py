"""The L2 attack of Carlini and Wagner 2017, arXiv 1608.04644, with the binary search over its constant as one walk.

It minimises ||x' - x||_2^2 + c f(x') over w, where x' = (tanh(w) + 1) / 2 is always in 0..1 and f is the logit difference,
positive while the label wins. Adam minimises; a binary search per image looks for the smallest c that succeeds. torchattacks
takes the largest other logit wrongly where logits are negative, cannot move pixels of exactly 0 or 1 and searches no c.
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
    """The attack of Carlini and Wagner in L2; run it in a pool with `nearest`. One evaluation per iteration.

    Differs: a search step is aborted for each image by itself, as published for a batch of one; the authors' code sums the loss
    over the batch. There is no last search step at the upper bound, which the authors take if there are ten steps or more.
    Differs: pixels of 0 and 1 begin at a distance of 0.0005 instead of 0.0000005, where tanh is so flat that search steps are
    aborted (16 of 20 black and white images then withstood the attack on a linear model, and none does now). Distances are
    measured from the image itself.
    """

    leaves_ball = True

    def __init__(self, ball: Ball, iterations: int, search_steps: int = 9, *, learning_rate: float = 0.01,
                 confidence: float = 0.0) -> None:
        """Prepare the attack.

        Args:
            ball: an L2 ball; the search ignores its radius.
            iterations: largest number of iterations of one search step. A walk takes up to `search_steps` times as many.
            search_steps: number of constants c tried: 9 in the authors' code.
            learning_rate: of Adam: 0.01 in the authors' code.
            confidence: kappa, by how much another logit must exceed that of the label.

        Raises:
            ConfigError: the ball is none of L2.
        """
        if ball.norm != L2:
            raise ConfigError(f"Carlini and Wagner's attack searches in L2, got a ball in {ball.norm}; choose FMN there.")
        super().__init__(ball, iterations * search_steps)
        self.step_iterations, self.search_steps = iterations, search_steps
        self.learning_rate, self.confidence = learning_rate, confidence

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        """Return the state at the image, before the first search step. Draws no random numbers."""
        zeros = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        state = {"origin": torch.atanh((2 * x - 1) * INSIDE), "search_step": torch.zeros_like(y), "lower": zeros,
                 "upper": torch.full_like(zeros, torch.inf), "c": torch.full_like(zeros, FIRST_CONSTANT)}
        fresh = self._search_step_begun(state["origin"])
        return state | fresh | {"point": _image(fresh["w"])}

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return c f [n], where f is the logit difference, but at least -confidence: equation 6 of section V of the paper."""
        return state["c"] * logit_difference(logits, state["y"], state["target"]).clamp(min=-self.confidence)

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one step of Adam; where the search step is over, choose the next c and start again at the image."""
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
        """Return True for images at a check whose loss has not fallen since the last, and keep the loss of the others."""
        checked = state["iteration"] % max(self.step_iterations // CHECKS, 1) == 0
        stalls = checked & (total > PROGRESS * state["checked_loss"])
        state["checked_loss"] = torch.where(checked, total, state["checked_loss"])
        return stalls

    def _adam(self, state: State, gradient: Tensor) -> None:
        """Take a step of Adam in w for each image, with its own count of steps."""
        state["iteration"] = state["iteration"] + 1
        count = state["iteration"][:, None, None, None]
        state["mean"] = BETA1 * state["mean"] + (1 - BETA1) * gradient
        state["square"] = BETA2 * state["square"] + (1 - BETA2) * gradient.square()
        mean, square = state["mean"] / (1 - BETA1 ** count), state["square"] / (1 - BETA2 ** count)
        state["w"] = state["w"] - self.learning_rate * mean / (square.sqrt() + TINY)

    def _next_constant(self, state: State, ended: Tensor) -> None:
        """Where a search step has ended, halve the interval of c or let c grow, and begin the next search step."""
        c, succeeded = state["c"], state["succeeded"]
        state["upper"] = torch.where(ended & succeeded, torch.minimum(state["upper"], c), state["upper"])
        state["lower"] = torch.where(ended & ~succeeded, torch.maximum(state["lower"], c), state["lower"])
        following = torch.where(state["upper"].isinf(), GROWTH * c, (state["lower"] + state["upper"]) / 2)
        state["c"] = torch.where(ended, following, c)
        state["search_step"] = state["search_step"] + ended
        for name, value in self._search_step_begun(state["origin"]).items():
            state[name] = torch.where(ended.view(-1, *[1] * (value.dim() - 1)), value, state[name])

    def _search_step_begun(self, origin: Tensor) -> State:
        """Return the entries that begin afresh with a search step."""
        count = torch.zeros(len(origin), dtype=torch.int64, device=origin.device)
        return {"w": origin.clone(), "mean": torch.zeros_like(origin), "square": torch.zeros_like(origin), "iteration": count,
                "succeeded": count.bool(), "checked_loss": torch.full_like(count, torch.inf, dtype=origin.dtype)}


def _image(w: Tensor) -> Tensor:
    return (torch.tanh(w) + 1) / 2


def _slope(w: Tensor) -> Tensor:
    """Return the derivative of `_image`; unlike 1 - tanh(w)^2 it keeps its precision where tanh(w) is near 1."""
    return 0.5 / torch.cosh(w).square()
