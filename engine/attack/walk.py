"""The interface of iterated attacks (`Walk`), and a class that runs such an attack on many images (`Pool`).

A run is one attempt of an attack on an image, from a start point to the last iteration. A `Walk` keeps a separate state for every
run, so the runs in a batch may be at different iterations. A `Pool` evaluates the network on the batch. It removes images that
are misclassified or whose runs have ended, and fills the free places with the next images. If an image withstands its first run,
all its other runs (for other targets or restarts) enter the batch together.
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
from engine.data.transfer import to_device

State = dict[str, Tensor]
Result = TypeVar("Result")


class Walk(ABC):
    """The interface of an iterated attack. It works on a batch that images may enter and leave after every iteration.

    Attributes:
        ball: ball that contains the adversarial images.
        iterations: maximum number of iterations of a run.
        differentiates: True if the attack uses gradients of `loss`.
        leaves_ball: True if `state["point"]` may be outside the ball, as in attacks that search for the nearest adversarial
            image. The runner of the attack, a `Pool`, then ignores points outside the ball unless `Pool.nearest` is True.
    """

    differentiates: bool = True
    leaves_ball: bool = False

    def __init__(self, ball: Ball, iterations: int) -> None:
        self.ball, self.iterations = ball, iterations

    @abstractmethod
    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        """Return the state at the start of n runs.

        Args:
            x: natural image of each run, [n, C, H, W], pixels in 0..1. Several runs may have the same image.
            y: labels, int64 [n].
            target: classes to attack towards, int64 [n]; -1 in an untargeted attack.
            seeds: one seed per run. All random numbers of a run depend only on its seed (see `engine.attack.ball.uniform`).

        Returns:
            {name: tensor [n, ...]} with one row per run. The entry "point" [n, C, H, W] is required. It contains the points at
            which the network is evaluated first. Entries share no memory with each other or with the arguments. The names "x",
            "y" and "target" must not be used, because the runner of the attack adds entries with these names.
        """

    def needs_gradient(self, state: State) -> bool:
        """Return True if the next evaluation must compute the gradient of `loss`."""
        return self.differentiates

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return the loss [n] for logits [n, classes]. The attack's next iteration (`advance`) uses the gradient of this loss."""
        raise NotImplementedError

    @abstractmethod
    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one iteration of every run (one attempt of the attack on an image), and update `state` in place.

        Args:
            state: the state from `begin`, with the additional entries "x", "y" and "target". The entry "point" contains the
                points at which the network has just been evaluated, and must be replaced by the points for the next evaluation.
            logits: logits at the points, [n, classes], detached from the graph.
            loss: loss at the points, [n], detached from the graph. None if `needs_gradient` returned False.
            gradient: gradient of the loss at the points, [n, C, H, W]. None if `needs_gradient` returned False.

        Returns:
            bool [n], True for runs that have ended.
        """


@dataclass(frozen=True)
class Attacked:
    """The result of an attack on one image.

    Attributes:
        position: index of the image among the images given to the `Pool`, or to the `Pools` whose `finished` yields this result.
        fell: True if the network misclassifies `x_adv`.
        x_adv: [C, H, W], the adversarial image if the image fell, otherwise the point with the smallest margin. It is in the ball
            or, if the `Pool` has `nearest=True`, anywhere in 0..1.
        margin: logit of the label minus the largest other logit, at `x_adv`. Negative if misclassified, up to rounding.
        iterations: number of network evaluations spent on the image, over all restarts and target classes.
    """

    position: int
    fell: bool
    x_adv: Tensor
    margin: float
    iterations: int


class Pool:
    """An attack on many images in batches. Places in a batch that become free are filled with the next images.

    The result for an image does not depend on the other images or on the batch size, except for rounding. An attack that is
    interrupted and restored from `state_dict` has the same results bit by bit. If `logits` or `predict` raises an exception, the
    call of `step` can be repeated later.

    Attributes:
        state: state of all runs (attempts on an image) in the batch, from `Walk.begin`, with the additional entries "x", "y" and
            "target".
        pass_seconds: CPU seconds of the process spent so far in forward passes, backward passes and predictions of the network.
        evaluations: number of evaluated images, summed over all forward passes so far. After `load_state_dict`, it includes only
            images whose attack is in progress.

    Example:
        pool = Pool(walk, network.frozen(), predict, images, y, runs=targets, seed=seed, size=100)
        while not pool.over:
            for attacked in pool.step():
                ...
    """

    def __init__(self, walk: Walk, logits: Callable[[Tensor], Tensor], predict: Callable[[Tensor], Tensor],
                 images: Callable[[Tensor], Tensor], y: Tensor, *, runs: Tensor, seed: Callable[[int, int], int], size: int,
                 nearest: bool = False) -> None:
        """Prepare the attack, which begins with the first `step`.

        Args:
            walk: the attack.
            logits: function to differentiate. It takes images [n, C, H, W] and returns logits [n, classes].
            predict: function that takes images and returns the network's predictions, int64 [n]. They determine whether an image
                is misclassified.
            images: function that takes positions, int64 [n] on the CPU, and returns natural images, float32 [n, C, H, W], on the
                device of the network.
            y: labels of all images, int64 [N], on the device of the network.
            runs: one row per image and one column per run, int64 [N, R]. Each entry is the target class of that run, or -1 if the
                run is untargeted. Runs of an image that are restarts of each other have the same target. The first run should be
                the most promising, because the other runs begin only if the image withstands the first.
            seed: function that takes (position, run) and returns the seed for the random numbers of this run.
            size: maximum number of runs in the batch. It is exceeded only if a single image has more runs.
            nearest: True to search for the nearest adversarial image. All runs then continue to their end, and the nearest
                adversarial image found is returned. If False, an image leaves the batch as soon as it is misclassified in any
                run.
        """
        self.walk, self.size, self.nearest = walk, size, nearest
        self.state: State = {}
        self.pass_seconds, self.evaluations = 0.0, 0
        self._logits, self._predict, self._images, self._seed = logits, predict, images, seed
        self._y, self._runs = y, runs.to(y.device)
        self._next = 0  # position of the next image to enter the batch
        self._ledger: State = {}  # progress of each run, row by row as in `state`
        self._ended: dict[int, State] = {}  # by position: ledgers of runs that are over, of images with runs to come
        self._waiting: list[int] = []  # positions of images that withstood their first run and have not begun the others

    @property
    def over(self) -> bool:
        """True if the attack on every image has ended."""
        return not self.active and not self._waiting and self._next >= len(self._y)

    @property
    def active(self) -> int:
        """The number of runs (attempts on an image) in the batch."""
        return len(self._ledger["position"]) if self._ledger else 0

    def step(self) -> list[Attacked]:
        """Evaluate the network once on the batch, take one iteration, and return the images whose attack has ended."""
        self._refill()
        logits, loss, gradient = self._evaluate(self.state["point"])
        self._record(logits)
        over = self.walk.advance(self.state, logits, loss, gradient)
        if not self.nearest:
            over = over | self._ledger["fell"]
        return self._leave(over) if bool(over.any()) else []

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to continue the attack later, as a dict. Tensors are copies."""
        return {"next": self._next, "waiting": list(self._waiting), "pass_seconds": self.pass_seconds,
                "state": _copies(self.state), "ledger": _copies(self._ledger),
                "ended": {position: _copies(rows) for position, rows in self._ended.items()}}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Restore the content that `state_dict` returned. It must come from a `Pool` with the same images and attack."""
        device = self._y.device
        self._next, self._waiting, self.pass_seconds = content["next"], list(content["waiting"]), content["pass_seconds"]
        self.state, self._ledger = _copies(content["state"], device), _copies(content["ledger"], device)
        self._ended = {position: _copies(rows, device) for position, rows in content["ended"].items()}
        ledgers = [self._ledger, *self._ended.values()]
        self.evaluations = sum(int(ledger["iterations"].sum()) for ledger in ledgers if ledger)

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
        x = self._images(position)
        position, run = to_device(position, self._y.device), to_device(run, self._y.device)
        y, target = self._y[position], self._runs[position, run]
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
        """Update each run's best point so far, and mark the runs in which the image is now misclassified.

        A run is one attempt of the attack on an image.
        """
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
        self.evaluations += self.active

    def _confirmed(self, wrong: Tensor) -> Tensor:
        """Return one bool per run of the attack: True if `wrong` is True and the network itself misclassifies the run's point.

        `wrong` was computed with the function `logits`, which may differ from the network by rounding. In a search for the
        nearest adversarial image, the point must also be nearer to the image than all earlier adversarial points of the run, and
        the new distance is recorded.
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
        """Remove runs (attempts on an image) from the batch, and return the results for images whose attack has ended.

        `leaving` has one bool per run, True for the runs to remove.
        """
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
    """Return the logit of the label minus the largest other logit, [n], from logits [n, classes]. Negative if misclassified."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def _conclusion(runs: State) -> Attacked:
    """Return the result of the attack on one image. `runs` has one row for each run of the attack (attempt) on this image."""
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
