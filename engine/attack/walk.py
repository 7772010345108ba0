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
from typing import Any, TypeVar

import torch
from torch import Tensor

from engine.attack.ball import Ball, distance

State = dict[str, Tensor]
Result = TypeVar("Result")


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
            first. No two entries, and no entry and an argument, share memory. The names "x", "y" and "target" belong to the
            pool, which adds them.
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
        margin: difference between the logit of the label and the largest other logit at `x_adv`; negative if misclassified, up
            to rounding.
        iterations: evaluations of the network at points of the image, over all its runs.
    """

    position: int
    fell: bool
    x_adv: Tensor
    margin: float
    iterations: int


class Pool:
    """An attack on many images with a batch that refills.

    Results of an image do not depend on the other images, except for rounding. `state_dict` holds everything, so an interrupted
    pool continues bit-equal. If `logits` or `predict` raises, as on a stop request, the step can be repeated later.

    Attributes:
        state: the walk's state of the images in the batch, with "x", "y" and "target".
        pass_seconds: CPU seconds spent so far in passes of the network: forward, backward (from the loss on) and predictions.

    Example:
        pool = Pool(walk, network.frozen(), predict, images, y, runs=targets, seed=seed, size=100)
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
        self.state: State = {}
        self.pass_seconds = 0.0
        self._logits, self._predict, self._images, self._seed = logits, predict, images, seed
        self._y, self._runs = y, runs.to(y.device)
        self._next = 0  # position of the next image to enter the batch
        self._ledger: State = {}  # progress of each image over all its runs, row by row as in `state`

    @property
    def over(self) -> bool:
        """True if every image has left the pool."""
        return not self.active and self._next >= len(self._y)

    @property
    def active(self) -> int:
        """The number of images in the batch."""
        return len(self._ledger["position"]) if self._ledger else 0

    def step(self) -> list[Attacked]:
        """Evaluate the network once on the batch, take one iteration, and return the images that leave the pool."""
        self._refill()
        logits, loss, gradient = self._evaluate(self.state["point"])
        self._record(logits)
        over = self.walk.advance(self.state, logits, loss, gradient)
        if not self.nearest:
            over = over | self._ledger["fell"]
        return self._leave(self._next_runs(over)) if bool(over.any()) else []

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the batch with all its states, and the position of the next image."""
        return {"next": self._next, "pass_seconds": self.pass_seconds, "state": _copies(self.state),
                "ledger": _copies(self._ledger)}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Restore the batch of `state_dict`, on a pool of the same images and attack."""
        self._next, self.pass_seconds = int(content["next"]), float(content["pass_seconds"])
        self.state, self._ledger = (_copies(content[name], self._y.device) for name in ("state", "ledger"))

    def _refill(self) -> None:
        count = min(self.size - self.active, len(self._y) - self._next)
        if count <= 0:
            return
        position = torch.arange(self._next, self._next + count, device=self._y.device)
        x, y, run = self._images(position), self._y[position], torch.zeros_like(position)
        none = x.new_full((count,), torch.inf)
        ledger = {"position": position, "run": run, "iterations": torch.zeros_like(position), "best": x.clone(), "margin": none,
                  "nearest": none.clone(), "fell": torch.zeros_like(position, dtype=torch.bool)}
        state = self._begun(x, y, position, run) | {"x": x, "y": y}
        self.state, self._ledger = _joined(self.state, state), _joined(self._ledger, ledger)
        self._next += count

    def _begun(self, x: Tensor, y: Tensor, position: Tensor, run: Tensor) -> State:
        target = self._runs[position, run]
        seeds = [self._seed(*key) for key in zip(position.tolist(), run.tolist(), strict=True)]
        return self.walk.begin(x, y, target, seeds) | {"target": target}

    def _evaluate(self, point: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if not self.walk.differentiates:
            with torch.no_grad():
                return self._timed(self._logits, point), None, None
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._timed(self._logits, point)
            loss = self.walk.loss(logits, self.state)
            (gradient,) = self._timed(torch.autograd.grad, loss.sum(), point)
        return logits.detach(), loss.detach(), gradient

    def _timed(self, function: Callable[..., Result], *arguments: Tensor) -> Result:
        started = time.process_time()
        try:
            return function(*arguments)
        finally:
            self.pass_seconds += time.process_time() - started

    def _record(self, logits: Tensor) -> None:
        """Keep each image's best point so far, and mark the images that have fallen."""
        point, ledger = self.state["point"], self._ledger
        margin = margins(logits, self.state["y"])
        better, wrong = margin < ledger["margin"], margin <= 0
        if self.nearest:
            better &= ~ledger["fell"]
        elif self.walk.leaves_ball:
            inside = self.walk.ball.contains(point, self.state["x"])
            better, wrong = better & inside, wrong & inside
        if bool(wrong.any()):
            wrong = self._confirmed(wrong)
            better |= wrong
            ledger["fell"] = ledger["fell"] | wrong
        ledger["best"] = torch.where(better[:, None, None, None], point, ledger["best"])
        ledger["margin"] = torch.where(better, margin, ledger["margin"])
        ledger["iterations"] += 1

    def _confirmed(self, wrong: Tensor) -> Tensor:
        """Return the images among `wrong` that the network itself misclassifies; with `nearest`, only those nearer than before.

        The function that is differentiated may differ from the network by rounding.
        """
        point, y = self.state["point"], self.state["y"]
        far = distance(point, self.state["x"], self.walk.ball.norm) if self.nearest else torch.zeros_like(self._ledger["nearest"])
        rows = (wrong & (far < self._ledger["nearest"])).nonzero().squeeze(1)
        confirmed = torch.zeros_like(wrong)
        if len(rows):
            confirmed[rows] = self._timed(self._predict, point[rows]) != y[rows]
        self._ledger["nearest"] = torch.where(confirmed, far, self._ledger["nearest"])
        return confirmed

    def _next_runs(self, over: Tensor) -> Tensor:
        """Begin the next run of images whose run is over; return those that have fallen or have no further run."""
        ledger = self._ledger
        again = over & (ledger["run"] + 1 < self._runs.shape[1])
        if not self.nearest:
            again &= ~ledger["fell"]
        if bool(again.any()):
            rows = again.nonzero().squeeze(1)
            run = ledger["run"][rows] + 1
            begun = self._begun(self.state["x"][rows], self.state["y"][rows], ledger["position"][rows], run)
            ledger["run"] = ledger["run"].index_copy(0, rows, run)
            self.state |= {name: self.state[name].index_copy(0, rows, value) for name, value in begun.items()}
        return over & ~again

    def _leave(self, leaving: Tensor) -> list[Attacked]:
        rows = leaving.nonzero().squeeze(1)
        if not len(rows):
            return []
        position, fell, margin, iterations = (self._ledger[name][rows].tolist()
                                              for name in ("position", "fell", "margin", "iterations"))
        gone = [Attacked(*fields) for fields in zip(position, fell, self._ledger["best"][rows], margin, iterations, strict=True)]
        staying = (~leaving).nonzero().squeeze(1)
        self.state, self._ledger = ({name: value[staying] for name, value in rows_of.items()}
                                    for rows_of in (self.state, self._ledger))
        return gone


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logit of the label minus the largest other logit, [n], for logits [n, classes]; negative if misclassified."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def _joined(first: State, second: State) -> State:
    return {name: torch.cat([first[name], value]) for name, value in second.items()} if first else second


def _copies(state: State, device: torch.device | None = None) -> State:
    return {name: value.to(device, copy=True) for name, value in state.items()}
