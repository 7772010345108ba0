"""Iterated attacks as walks, and the pool that runs a walk over many images.

A walk is one run of an attack from a start point to its last iteration. It keeps a state of its own for every image, so images
in one batch may be at different iterations. The pool evaluates the network, takes out images that have fallen or whose runs are
over, and fills their places with the next images, so that the network always works on full batches. An image that withstands
its first run takes all its other runs at once, side by side in the batch: small sets of images fill batches, too.
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
        differentiates: True if the attack uses gradients of `loss`.
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
            x: natural images [n, C, H, W], pixels in 0..1; several rows may be runs of the same image.
            y: labels, int64 [n].
            target: classes to attack towards, int64 [n]; -1 in an untargeted attack.
            seeds: n seeds; all random numbers of an image's run are drawn from its own seed (`engine.attack.ball.uniform`).

        Returns:
            Tensors [n, ...] by name, one row per image, with at least "point" [n, C, H, W], where the network is evaluated
            first. No two entries, and no entry and an argument, share memory. The names "x", "y" and "target" belong to the
            pool, which adds them.
        """

    def needs_gradient(self, state: State) -> bool:
        """Return True if the next evaluation must compute the gradient of `loss`."""
        return self.differentiates

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
            loss: [n], without graph; None if `needs_gradient` returned False.
            gradient: [n, C, H, W], the gradient of `loss` at "point"; None likewise.

        Returns:
            bool [n], True for images whose run is over.
        """


@dataclass(frozen=True)
class Attacked:
    """The end of an attack on one image.

    Attributes:
        position: number of the image among those given to the pool.
        fell: True if the network itself misclassifies `x_adv`, which is in the ball (with `nearest`: anywhere in 0..1).
        x_adv: [C, H, W], the adversarial image of an image that fell; otherwise the point with the smallest margin, from the
            same set.
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

    Results of an image do not depend on the other images or on the batch size, except for rounding. `state_dict` holds
    everything, so an interrupted pool continues bit-equal. If `logits` or `predict` raises, as on a stop request, the step can be
    repeated later.

    Attributes:
        state: the walk's state of the runs in the batch, with "x", "y" and "target".
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
            runs: int64 [N, R], the target of each run of each image, -1 in untargeted runs. Restarts repeat a target. The first
                run should be the most promising: the others begin, all at once, only if the image withstands it.
            seed: (position, run) -> seed of the random numbers of that run.
            size: largest batch, in points. The later runs of an image enter together, even if they are more.
            nearest: True to search for the nearest adversarial image: no image is taken out before its runs are over, and the
                one at the smallest distance is returned. Otherwise an image is taken out as soon as it falls in any run.
        """
        self.walk, self.size, self.nearest = walk, size, nearest
        self.state: State = {}
        self.pass_seconds = 0.0
        self._logits, self._predict, self._images, self._seed = logits, predict, images, seed
        self._y, self._runs = y, runs.to(y.device)
        self._next = 0  # position of the next image to enter the batch
        self._ledger: State = {}  # progress of each run, row by row as in `state`
        self._ended: dict[int, State] = {}  # by position: ledgers of runs that are over, of images with runs to come
        self._waiting: list[int] = []  # positions of images that withstood their first run and have not begun the others

    @property
    def over(self) -> bool:
        """True if every image has left the pool."""
        return not self.active and not self._waiting and self._next >= len(self._y)

    @property
    def active(self) -> int:
        """The number of runs in the batch."""
        return len(self._ledger["position"]) if self._ledger else 0

    @property
    def active_iterations(self) -> int:
        """Evaluations of the network spent so far on the images that have entered the pool and not left it."""
        ledgers = [self._ledger, *self._ended.values()]
        return sum(int(ledger["iterations"].sum()) for ledger in ledgers if ledger)

    def step(self) -> list[Attacked]:
        """Evaluate the network once on the batch, take one iteration, and return the images that leave the pool."""
        self._refill()
        logits, loss, gradient = self._evaluate(self.state["point"])
        self._record(logits)
        over = self.walk.advance(self.state, logits, loss, gradient)
        if not self.nearest:
            over = over | self._ledger["fell"]
        return self._leave(over) if bool(over.any()) else []

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all states, and which images come next."""
        return {"next": self._next, "waiting": list(self._waiting), "pass_seconds": self.pass_seconds,
                "state": _copies(self.state), "ledger": _copies(self._ledger),
                "ended": {position: _copies(rows) for position, rows in self._ended.items()}}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Restore the content of `state_dict`, on a pool of the same images and attack."""
        device = self._y.device
        self._next, self._waiting, self.pass_seconds = content["next"], list(content["waiting"]), content["pass_seconds"]
        self.state, self._ledger = _copies(content["state"], device), _copies(content["ledger"], device)
        self._ended = {position: _copies(rows, device) for position, rows in content["ended"].items()}

    def _refill(self) -> None:
        later = self._runs.shape[1] - 1
        if self._waiting:
            room = (self.size - self.active) // later
            entering = self._waiting[:room if self.active else max(room, 1)]
            if entering:
                self._enter(torch.tensor(entering).repeat_interleave(later), torch.arange(1, later + 1).repeat(len(entering)))
                del self._waiting[:len(entering)]
        if not self._waiting:  # otherwise new images would keep taking the places that become free one by one
            count = min(self.size - self.active, len(self._y) - self._next)
            if count > 0:
                self._enter(torch.arange(self._next, self._next + count), torch.zeros(count, dtype=torch.int64))
                self._next += count

    def _enter(self, position: Tensor, run: Tensor) -> None:
        seeds = [self._seed(*key) for key in zip(position.tolist(), run.tolist(), strict=True)]
        position, run = position.to(self._y.device), run.to(self._y.device)
        x, y, target = self._images(position), self._y[position], self._runs[position, run]
        none = x.new_full((len(x),), torch.inf)
        ledger = {"position": position, "run": run, "iterations": torch.zeros_like(run), "best": x.clone(), "margin": none,
                  "nearest": none.clone(), "fell": torch.zeros_like(run, dtype=torch.bool)}
        state = self.walk.begin(x, y, target, seeds) | {"x": x, "y": y, "target": target}
        self.state, self._ledger = _joined(self.state, state), _joined(self._ledger, ledger)

    def _evaluate(self, point: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if not self.walk.needs_gradient(self.state):
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
        """Keep each run's best point so far, and mark the runs in which the image has fallen."""
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
        """Return the points among `wrong` that the network itself misclassifies; with `nearest`, only those nearer than before.

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

    def _leave(self, leaving: Tensor) -> list[Attacked]:
        """Take runs that are over out of the batch, and return the images with which the attack is through."""
        ledger = self._ledger
        if not self.nearest:  # the other runs of an image that fell in one are void
            leaving = leaving | torch.isin(ledger["position"], ledger["position"][ledger["fell"]])
        ended = _rows(ledger, leaving)
        self.state, self._ledger = _rows(self.state, ~leaving), _rows(ledger, ~leaving)
        through = []
        for position in dict.fromkeys(ended["position"].tolist()):
            runs = _joined(self._ended.pop(position, {}), _rows(ended, ended["position"] == position))
            if len(runs["run"]) == self._runs.shape[1] or (not self.nearest and bool(runs["fell"].any())):
                through.append(_conclusion(runs))
                continue
            self._ended[position] = runs
            if len(runs["run"]) == 1:
                self._waiting.append(position)
        return through


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logit of the label minus the largest other logit, [n], for logits [n, classes]; negative if misclassified."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def _conclusion(runs: State) -> Attacked:
    """Return the end of the attack on one image, from the ledgers of its runs."""
    fell = bool(runs["fell"].any())
    best = int(runs["nearest" if fell else "margin"].argmin())
    return Attacked(int(runs["position"][best]), fell, runs["best"][best], float(runs["margin"][best]),
                    int(runs["iterations"].sum()))


def _joined(first: State, second: State) -> State:
    return {name: torch.cat([first[name], value]) for name, value in second.items()} if first else second


def _rows(state: State, chosen: Tensor) -> State:
    rows = chosen.nonzero().squeeze(1)
    return {name: value[rows] for name, value in state.items()}


def _copies(state: State, device: torch.device | None = None) -> State:
    return {name: value.to(device, copy=True) for name, value in state.items()}
