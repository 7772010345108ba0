"""Iterated attacks as walks, and the pool that runs a walk over many images.

A walk is one run of an attack from a start point to its last iteration. It keeps a state of its own for every image, so images
in one batch may be at different iterations. The pool evaluates the network, takes out images that have fallen or whose runs are
over, and fills their places with the next images, so that the network always works on full batches.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.attack.ball import Ball, distance

State = dict[str, Tensor]


class Walk(ABC):
    """One run of an attack over a batch whose images come and go.

    Attributes:
        ball: where adversarial images must be.
        iterations: largest number of iterations of a run.
        differentiates: True if `advance` needs the gradient of `loss`.
        leaves_ball: True if `state["point"]` may be outside the ball, as for attacks that search for the nearest adversarial
            image. The pool then counts an image as fallen only if its point is inside.
    """

    differentiates: bool = True
    leaves_ball: bool = False

    def __init__(self, ball: Ball, iterations: int) -> None:
        self.ball, self.iterations = ball, iterations

    @abstractmethod
    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        """Return the state at the start of a run.

        Args:
            x: natural images [n, C, H, W], pixels in 0..1.
            y: labels, int64 [n].
            target: classes to attack towards, int64 [n]; -1 in an untargeted attack.
            seeds: n seeds; all random numbers of an image's run are drawn from its own seed (`engine.attack.ball.uniform`).

        Returns:
            Tensors [n, ...] by name, one row per image, with at least "point" [n, C, H, W], where the network is evaluated
            first. The names "x", "y", "target" belong to the pool, which adds them.
        """

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return the function [n] whose gradient with respect to the points `advance` needs, from logits [n, classes]."""
        raise NotImplementedError

    @abstractmethod
    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one iteration in place, for all images at once.

        Args:
            state: as returned by `begin` with "x", "y" and "target"; "point" is where the network was evaluated. Entries are
                replaced or written in place; "point" becomes the point of the next evaluation.
            logits: [n, classes] at "point", without graph.
            loss: [n], without graph; None unless `differentiates`.
            gradient: [n, C, H, W], the gradient of `loss` at "point"; None unless `differentiates`.

        Returns:
            bool [n], True for images whose run is over.
        """


@dataclass(frozen=True)
class Attacked:
    """The end of an attack on one image.

    Attributes:
        position: number of the image among those given to the pool.
        fell: True if the network itself misclassifies `x_adv`, which is in the ball (with `nearest`: anywhere in 0..1).
        x_adv: [C, H, W], the adversarial image of an image that fell; otherwise the point in the ball with the smallest margin.
        margin: smallest difference between the logit of the label and the largest other logit; negative if misclassified.
        iterations: iterations spent on the image, over all its runs.
    """

    position: int
    fell: bool
    x_adv: Tensor
    margin: float
    iterations: int


class Pool:
    """An attack on many images with a batch that refills.

    Results of an image do not depend on the other images, except for rounding. `state_dict` holds everything, so an interrupted
    pool continues bit-equal.

    Example:
        pool = Pool(walk, network, predict, x, y, runs=runs, seeds=seeds, size=100)
        while not pool.over:
            for attacked in pool.step():
                ...
    """

    def __init__(self, walk: Walk, logits: Callable[[Tensor], Tensor], predict: Callable[[Tensor], Tensor],
                 images: Callable[[Tensor], Tensor], y: Tensor, *, runs: Tensor, seed: Callable[[int, int], int], size: int,
                 nearest: bool = False) -> None:
        """Prepare the attack; nothing runs yet.

        Args:
            walk: the attack.
            logits: the function that is differentiated: images [n, C, H, W] -> logits [n, classes].
            predict: the network's own predictions, images -> int64 [n]; they decide whether an image has fallen.
            images: positions int64 [n] -> natural images float32 [n, C, H, W] on the device of the network.
            y: labels of all images, int64 [N] on the same device.
            runs: int64 [N, R], the target of each run of each image, -1 in untargeted runs. Restarts repeat a target.
            seed: (position, run) -> seed of the random numbers of that run.
            size: largest batch.
            nearest: True to search for the nearest adversarial image: no image is taken out before its runs are over, and the
                one at the smallest distance is returned. Otherwise an image is taken out as soon as it falls.
        """
        self.walk, self.size, self.nearest = walk, size, nearest
        self._logits, self._predict, self._images, self._seed = logits, predict, images, seed
        self._y, self._runs = y, runs.to(y.device)
        self.next = 0  # position of the next image to enter the batch
        self.state: State = {}
        self.pass_seconds = 0.0

    @property
    def over(self) -> bool:
        """True if every image has left the pool."""
        return not self.active and self.next >= len(self._y)

    @property
    def active(self) -> int:
        """The number of images in the batch."""
        return len(self.state["position"]) if self.state else 0

    @property
    def active_iterations(self) -> int:
        """The number of iterations spent so far on the images in the batch."""
        return int(self.state["iterations"].sum()) if self.state else 0

    def step(self) -> list[Attacked]:
        """Evaluate the network once on the batch, take one iteration, and return the images that leave the pool."""
        self._refill()
        state = self.state
        logits, loss, gradient = self._evaluate(state["point"])
        self._keep_best(state, logits)
        state["iterations"] += 1
        over = self.walk.advance(state, logits, loss, gradient)
        over = self._next_runs(over & ~state["fell"])
        return self._leave(over if self.nearest else over | state["fell"])

    def state_dict(self) -> dict[str, Any]:
        """Return the batch with all its states, and the position of the next image."""
        return {"next": self.next, "state": {name: value.clone() for name, value in self.state.items()}}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Restore the batch of `state_dict`."""
        self.next = int(content["next"])
        self.state = {name: value.to(self._y.device) for name, value in content["state"].items()}

    def _refill(self) -> None:
        count = min(self.size - self.active, len(self._y) - self.next)
        if count <= 0:
            return
        position = torch.arange(self.next, self.next + count, device=self._y.device)
        self.next += count
        x, y, run = self._images(position), self._y[position], torch.zeros_like(position)
        entering = self._begun(x, y, position, run) | {
            "position": position, "run": run, "iterations": torch.zeros_like(position), "best": x.clone(),
            "margin": torch.full((count,), torch.inf, device=x.device), "fell": torch.zeros_like(position, dtype=torch.bool),
            "nearest": torch.full((count,), torch.inf, device=x.device)}
        self.state = {name: torch.cat([self.state[name], value]) for name, value in entering.items()} if self.active else entering

    def _begun(self, x: Tensor, y: Tensor, position: Tensor, run: Tensor) -> State:
        target = self._runs[position, run]
        seeds = [self._seed(*key) for key in zip(position.tolist(), run.tolist(), strict=True)]
        return self.walk.begin(x, y, target, seeds) | {"x": x, "y": y, "target": target}

    def _evaluate(self, point: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        started = time.process_time()
        try:
            if not self.walk.differentiates:
                with torch.no_grad():
                    return self._logits(point), None, None
            point = point.detach().requires_grad_()
            with torch.enable_grad():
                logits = self._logits(point)
                loss = self.walk.loss(logits, self.state)
                (gradient,) = torch.autograd.grad(loss.sum(), point)
            return logits.detach(), loss.detach(), gradient
        finally:
            self.pass_seconds += time.process_time() - started

    def _keep_best(self, state: State, logits: Tensor) -> None:
        """Keep each image's best point so far, and mark the images that have fallen."""
        point, x = state["point"], state["x"]
        margin = margins(logits, state["y"])
        eligible = torch.ones_like(state["fell"])
        if self.walk.leaves_ball and not self.nearest:
            eligible = self.walk.ball.contains(point, x)
        wrong = (margin <= 0) & eligible
        if bool(wrong.any()):
            # The function that is differentiated may differ from the network by rounding; the network decides.
            wrong[wrong.clone()] = self._predict(point[wrong]) != state["y"][wrong]
        if self.nearest:
            far = distance(point, x, self.walk.ball.norm)
            better = wrong & (far < state["nearest"])
            state["nearest"] = torch.where(better, far, state["nearest"])
        else:
            better = (wrong & ~state["fell"]) | (eligible & ~state["fell"] & (margin < state["margin"]) & (margin > 0))
        state["best"] = torch.where(better[:, None, None, None], point, state["best"])
        state["margin"] = torch.where(better, margin, state["margin"])
        state["fell"] = state["fell"] | wrong

    def _next_runs(self, over: Tensor) -> Tensor:
        """Begin the next run of images whose run is over; return those without another run."""
        state = self.state
        again = over & (state["run"] + 1 < self._runs.shape[1])
        if bool(again.any()):
            run = state["run"][again] + 1
            state["run"][again] = run
            for name, value in self._begun(state["x"][again], state["y"][again], state["position"][again], run).items():
                state[name] = state[name].clone()
                state[name][again] = value
        return over & ~again

    def _leave(self, leaving: Tensor) -> list[Attacked]:
        if not bool(leaving.any()):
            return []
        gone = {name: self.state[name][leaving] for name in ("position", "fell", "best", "margin", "iterations")}
        self.state = {name: value[~leaving] for name, value in self.state.items()}
        return [Attacked(int(position), bool(fell), x_adv, float(margin), int(iterations)) for position, fell, x_adv, margin,
                iterations in zip(*(gone[name] for name in ("position", "fell", "best", "margin", "iterations")), strict=True)]


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logit of the label minus the largest other logit, [n], for logits [n, classes]; negative if misclassified."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)
