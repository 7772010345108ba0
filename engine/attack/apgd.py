"""Auto-PGD: projected gradient ascent with momentum. Each image has its own step size, which is halved when progress stalls.

Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", arXiv
2003.01690, algorithm 1 and sections 3 and 4, as the authors' AutoAttack computes it.

Differs: from the paper, as do AutoAttack and torchattacks. The first step counts as an increase if the loss after the step is
positive, regardless of the loss at the start. After a return to the best point, the next loss is compared with the last loss
before the return.
Differs: from AutoAttack, which attacks every image to the end of the run. Here, an image leaves the batch as soon as it is
misclassified.
Differs: from torchattacks 3.5.1, whose targeted L2 attack uses the step size of the first image for all images. Here, as in
AutoAttack, every image has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from engine.attack.ball import Ball, lengths, normal, uniform
from engine.attack.declaration import LINF
from engine.attack.walk import State, Walk

MOMENTUM = 0.75  # alpha of algorithm 1: weight of the gradient step against the last move
INCREASES = 0.75  # rho of condition 1: share of steps that must increase the loss
FIRST_WINDOW, SHRINKAGE, LAST_WINDOW = 0.22, 0.03, 0.06  # lengths between checkpoints, as shares of the iterations (section 3.1)


class APGD(Walk):
    """One run of Auto-PGD from a random start. It takes `iterations` steps and evaluates the network `iterations + 1` times.

    Attributes:
        loss_name: "ce", "dlr" or "dlr-targeted"; see `__init__`.
    """

    def __init__(self, ball: Ball, iterations: int, loss: str) -> None:
        """Prepare the attack.

        Args:
            ball: ball that contains the adversarial images.
            iterations: number of steps, at least 1. AutoAttack takes 100.
            loss: name of the loss to increase: "ce" (cross-entropy), "dlr" (difference of logits ratio, for at least 3 classes)
                or "dlr-targeted" (towards the target class, for at least 4 classes).
        """
        super().__init__(ball, iterations)
        self.loss_name = loss
        self._loss = LOSSES[loss]
        self._windows = torch.tensor(windows(iterations))

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        """Return the state before the first evaluation of the network.

        Each run (attempt on an image) starts at a random point on the surface of the ball, clipped to 0..1.
        """
        point = self.start(x, seeds)
        per_image = {"weight": x.new_ones(len(x)), "step_size": x.new_full((len(x),), 2 * self.ball.epsilon)}
        return {name: value[:, None, None, None] for name, value in per_image.items()} | {
            "point": point, "previous": point.clone(), "peak": point.clone(), "peak_gradient": torch.zeros_like(point),
            "peak_loss": x.new_full((len(x),), -torch.inf), "peak_at_check": x.new_full((len(x),), -torch.inf),
            "last_loss": x.new_full((len(x),), torch.inf), "increases": torch.zeros_like(y),
            "halved": torch.ones_like(y, dtype=torch.bool), "iteration": torch.zeros_like(y)}

    def start(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return a random start point for each image in x [n, C, H, W]."""
        noise = 2 * uniform(seeds, x) - 1 if self.ball.norm == LINF else normal(seeds, x)
        return (x + self.ball.epsilon * noise / lengths(noise, self.ball.norm)).clamp(0, 1)

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return the loss [n] that the attack increases, from logits [n, classes]."""
        return self._loss(logits, state["y"], state["target"])

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one step of algorithm 1 in every run (attempt on an image). Return a bool [n], True for runs that have ended."""
        assert loss is not None and gradient is not None
        iteration = state["iteration"]
        state["increases"] += loss > state["last_loss"]
        state["last_loss"] = torch.where(iteration == 0, 0, loss)
        better = loss > state["peak_loss"]
        state["peak_loss"] = torch.where(better, loss, state["peak_loss"])
        better = better[:, None, None, None]
        state["peak"] = torch.where(better, state["point"], state["peak"])
        state["peak_gradient"] = torch.where(better, gradient, state["peak_gradient"])
        if self._windows.device != iteration.device:
            self._windows = self._windows.to(iteration.device)
        window = self._windows[iteration]
        if bool(window.any()):
            gradient = self._check(state, window, gradient)
        self._step(state, gradient)
        iteration += 1
        return iteration > self.iterations

    def _check(self, state: State, window: Tensor, gradient: Tensor) -> Tensor:
        """Check the progress of the images that are at a checkpoint of algorithm 1.

        If condition 1 or 2 of the paper holds for an image, its step size is halved, and its point is reset to the best point so
        far. Return the gradients at the resulting points.

        Args:
            state: the state, which is changed.
            window: int64 [n]. For an image at a checkpoint, the number of steps since the previous checkpoint; 0 for other
                images.
            gradient: [n, C, H, W], gradients at the current points.
        """
        checked = window > 0
        few_increases = state["increases"] <= INCREASES * window
        no_progress = ~state["halved"] & (state["peak_at_check"] >= state["peak_loss"])
        halve = checked & (few_increases | no_progress)
        state["halved"] = torch.where(checked, halve, state["halved"])
        state["peak_at_check"] = torch.where(checked, state["peak_loss"], state["peak_at_check"])
        state["increases"] = state["increases"].masked_fill(checked, 0)
        halve = halve[:, None, None, None]
        state["step_size"] = torch.where(halve, state["step_size"] / 2, state["step_size"])
        state["point"] = torch.where(halve, state["peak"], state["point"])
        return torch.where(halve, state["peak_gradient"], gradient)

    def _step(self, state: State, gradient: Tensor) -> None:
        """Move the points along the gradients with momentum. The first step of a run has no momentum."""
        point, x, project = state["point"], state["x"], self.ball.project
        direction = gradient.sign() if self.ball.norm == LINF else gradient / (lengths(gradient, self.ball.norm) + 1e-12)
        ascended = project(torch.addcmul(point, state["step_size"], direction), x)
        moved = torch.lerp(point, ascended, state["weight"]).add_(point - state["previous"], alpha=1 - MOMENTUM)
        state["previous"], state["point"] = point, project(moved, x)
        state["weight"].fill_(MOMENTUM)


def windows(iterations: int) -> list[int]:
    """Return a list that marks the checkpoints of a run. At a checkpoint, the step size may be halved.

    If there is a checkpoint after step k, entry k is the number of steps since the previous checkpoint. All other entries are 0.
    The distances between checkpoints are rounded down, as in the authors' code.
    """
    at = [0] * (iterations + 1)
    length, shrinkage, last = (max(int(share * iterations), 1) for share in (FIRST_WINDOW, SHRINKAGE, LAST_WINDOW))
    step = length
    while step <= iterations:
        at[step] = length
        length = max(length - shrinkage, last)
        step += length
    return at


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy [n] of logits [n, classes] and labels y. `target` is ignored."""
    return functional.cross_entropy(logits, y, reduction="none")


def dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the difference of logits ratio [n], positive for misclassified images. It needs at least 3 classes."""
    (first, second, third), classes = logits.topk(3).values.unbind(1), logits.argmax(1)
    own = logits.gather(1, y[:, None]).squeeze(1)
    return (torch.where(classes == y, second, first) - own) / (first - third + 1e-12)


def dlr_targeted(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the targeted difference of logits ratio [n].

    It is positive if the logit of the target is larger than the logit of the label y. It needs at least 4 classes.
    """
    first, _, third, fourth = logits.topk(4).values.unbind(1)
    pair = logits.gather(1, torch.stack((y, target), 1))
    return (pair[:, 1] - pair[:, 0]) / (first - (third + fourth) / 2 + 1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "dlr": dlr, "dlr-targeted": dlr_targeted}
