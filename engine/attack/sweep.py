"""Sweeps: the accuracy of one network against the radius of the ball, and against the number of steps of PGD.

A curve is not measured point by point. Instead, one attack finds a threshold for every image. For the curve over the radius, the
threshold is the distance of the nearest adversarial image (the critical epsilon). For the curve over the number of steps, it is
the number of steps after which the image is misclassified. The accuracy at any radius or number of steps is the fraction of
images with a larger threshold.

A few additional attacks, called marks, check the curve over the radius. Each mark attacks all images at one radius.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.ball import Ball, distance
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.attack.declaration import Attack, AttackSettings, Passes
from engine.attack.evaluation import Evaluation
from engine.attack.fingerprint import attack_fields, fingerprint, images_hash
from engine.attack.gradient_steps import random_point, steepest
from engine.attack.guard import Watched, under_attack
from engine.attack.methods import likely_classes, start
from engine.attack.outcomes import CORRECT
from engine.attack.pools import Pools
from engine.attack.protocol import MODE
from engine.attack.statistics import median_interval, wilson
from engine.attack.walk import Attacked, State, Walk
from engine.data.splits import stratified_subset
from engine.data.transfer import to_device
from engine.errors import CheckpointError
from engine.lanes import Lanes

# 80 evaluations per image, split so that the second most likely class is a target, too. On a small network that was trained
# adversarially, this lies nearer to APGD-CE of 100 steps than one untargeted walk of 100 or 200 steps.
NEAREST = ATTACKS["fmn-40"]
CHECK = ATTACKS["apgd-ce-20"]
STEPS = (1, 2, 5, 10, 20, 50, 100)
PGD = Attack(
    name="pgd-steps", title="PGD", summary="PGD that notes the step after which each image is first misclassified.",
    source="Madry et al. 2018, arXiv 1706.06083", builder="engine.attack.sweep:pgd_walk", steps=STEPS[-1], random_start=True,
    uses_step_size=True, by_image=True, cost=lambda steps, targets: Passes(steps + 1, steps + 1))

MARKS = (0.5, 1.0, 1.5)  # radii of the marks, in units of the protocol's epsilon
LAST_STANDING = 0.03  # the radii end where at most this share of the images stands
TOLERANCE = 1e-6  # float32 rounding of distances, as in `Outcomes.record`
UNKNOWN = -1.0  # threshold of an image that has not been attacked yet

DISTANCE, NUMBER = "epsilon", "steps"  # what varies in a sweep


@dataclass(frozen=True)
class Part:
    """One attack on all images of a sweep.

    It either finds a threshold for each image, which gives a whole curve, or it is a mark: an attack at a single radius, which
    gives a single point to check the curve over the radius.

    Attributes:
        sweep: the quantity that varies, "epsilon" (the radius) or "steps".
        attack: declaration of the attack.
        epsilon: radius of the ball. The attack `NEAREST`, which searches for nearest adversarial images, ignores it.
    """

    sweep: str
    attack: Attack
    epsilon: float

    def threshold(self, image: Attacked, x: Tensor, norm: str) -> float:
        """Return the threshold of an image: the radius or number of steps from which on the image is misclassified.

        The threshold is infinity if the image withstands the attack. Otherwise it is a distance for the attack `NEAREST`, a
        number of steps for a sweep of steps, and 0 for a mark (an attack at a single radius).

        Args:
            image: result of the attack.
            x: the natural image, [C, H, W].
            norm: norm of the distance.
        """
        if not image.fell:
            return math.inf
        if self.attack is NEAREST:
            return float(distance(image.x_adv[None], x[None], norm))
        return float(image.iterations - 1) if self.sweep == NUMBER else 0.0


class Sweep:
    """The sweeps of one network: its accuracy against the radius of the ball and against the number of PGD steps.

    A sweep uses images of an evaluation and the norm of this evaluation. A saved sweep continues exactly where it was saved.

    Each attack finds a threshold for every image: the radius or the number of steps from which on the image is misclassified (see
    `Part.threshold`). Images that the network misclassifies without an attack have the threshold 0 and are not attacked.

    Example:
        sweep = Sweep(evaluation)  # whose natural predictions are complete
        while not sweep.over:
            points = sweep.step(poll=poll)

    Attributes:
        parts: {name: part}, in the order in which the parts run. Each part is one attack on all images.
        thresholds: {name of a part: threshold of each image, float32 [n]}. A threshold is -1 while it is unknown, and infinite
            for an image that withstands the attack.
        positions: int64 [n], positions of the images among the images of the evaluation, ascending.
        passes: number of network evaluations of single images so far, in this process.
    """

    title = "Sweep"

    def __init__(self, evaluation: Evaluation) -> None:
        """Prepare the parts, each of which is one attack on all images. The attacks begin with the first `step`.

        The settings `sweep_radii` and `sweep_images` of the evaluation's configuration determine the numbers of radii and images.
        """
        self.evaluation, self.settings = evaluation, evaluation.protocol.settings
        config, epsilon = evaluation.config, evaluation.protocol.settings.epsilon
        self.radii = config.sweep_radii or 0
        count = len(evaluation.y) if config.sweep_images is None else config.sweep_images
        self.positions = torch.from_numpy(stratified_subset(evaluation.y.cpu().numpy(), count, 0))
        self.parts = {DISTANCE: Part(DISTANCE, NEAREST, epsilon), NUMBER: Part(NUMBER, PGD, epsilon)} | {
            f"mark {share:g}": Part(DISTANCE, CHECK, float(f"{share * epsilon:.9g}")) for share in MARKS}
        self.thresholds = {name: torch.full((len(self.positions),), UNKNOWN) for name in self.parts}
        self.passes = 0
        self._running: Pools | None = None
        self._attacked = torch.arange(0)  # numbers of the images that the part in progress attacks
        self._watched: Watched | None = None

    @property
    def part(self) -> str:
        """Name of the sweep's current part (one attack on all images), or "" if all parts are complete."""
        return next((name for name, known in self.thresholds.items() if bool((known == UNKNOWN).any())), "")

    @property
    def over(self) -> bool:
        """True when every part (one attack on all images) has covered its images."""
        return not self.part

    @property
    def progress(self) -> tuple[float, int]:
        """The pair (network evaluations done so far, total network evaluations). One evaluation is one image in one forward pass.

        If the attack on an image ends early, the image counts as if the attack had run to its end.
        """
        passes = {name: part.attack.passes(self.settings.classes).forward for name, part in self.parts.items()}
        done = sum(passes[name] * int((known != UNKNOWN).sum()) for name, known in self.thresholds.items())
        return done + (self._running.active_iterations if self._running else 0), sum(passes.values()) * len(self.positions)

    def step(self, poll: Callable[[], None] = lambda: None) -> list[tuple[str, dict[str, Any]]]:
        """Continue the current part (one attack on all images) for a fixed number of network evaluations in each lane (thread).

        If `poll` raises, the sweep can continue, or be saved and continue later, with the same results.

        Args:
            poll: function called before each forward pass; it may raise StopRequested.

        Returns:
            The events of the part as (kind, fields) pairs, if this call completes the part. Otherwise an empty list.
        """
        name = self.part
        with under_attack(self.evaluation.network):
            watched, lanes = self._watch(), Lanes.on(self.evaluation.y.device)
            watched.poll, watched.lanes = poll, lanes
            running = self._running = self._running or self._begun(name, lanes.count)
            try:
                running.step(lanes)
            finally:
                self._keep(name, chain.from_iterable(running.finished()))
        if not running.over:
            return []
        self._running = None
        return [("sweep", point) for point in self.points(name)] + ([("critical", self.critical())] if name == DISTANCE else [])

    def points(self, name: str) -> list[dict[str, Any]]:
        """Return the points of one complete curve. Each point is a dict with the fields of a `SweepPoint` event.

        Args:
            name: name of the part of the sweep that gives the curve. A part is one attack on all images.
        """
        part, thresholds = self.parts[name], self.thresholds[name]
        if part.sweep == NUMBER:
            return [self._point(part, part.epsilon, steps, thresholds > steps) for steps in STEPS]
        if part.attack is NEAREST:
            return [self._point(part, radius, NEAREST.steps, thresholds > radius + TOLERANCE)
                    for radius in radii(thresholds.tolist(), self.radii, part.epsilon)]
        return [self._point(part, part.epsilon, part.attack.steps, thresholds > 0)]

    def critical(self) -> dict[str, Any]:
        """Return the fields of a `CriticalEpsilon` event, among them the median distance of the nearest adversarial image.

        The distances of all images of the sweep must be known.
        """
        part, distances = self.parts[DISTANCE], self.thresholds[DISTANCE].tolist()
        values = zip(("median", "low", "high"), median_interval(distances), strict=True)
        return {"attack": part.attack.name, "title": part.attack.title, "norm": self.settings.norm, "images": len(distances),
                "fingerprint": fingerprint(self._fields(part))} | {
            name: value if math.isfinite(value) else None for name, value in values}

    def columns(self) -> dict[str, list[Any]]:
        """Return {name: column} of results/distances.parquet, with one entry per image of the sweep.

        Columns:
            image: number of the image in the dataset.
            label: label of the image.
            distance: distance of the nearest adversarial image; 0 if the image is misclassified without an attack.
            steps: number of PGD steps after which the image is misclassified.

        In the columns distance and steps, None stands for an image that withstands the attack or has not been attacked yet.
        """
        finite = {column: [value if 0 <= value < math.inf else None for value in self.thresholds[name].tolist()]
                  for column, name in (("distance", DISTANCE), ("steps", NUMBER))}
        return {"image": [self.evaluation.indices[position] for position in self.positions.tolist()],
                "label": self.evaluation.y.cpu()[self.positions].tolist(), **finite}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume, in a form that torch.load(..., weights_only=True) can read."""
        return {"setup": self._setup(), "thresholds": {name: known.clone() for name, known in self.thresholds.items()},
                "attacked": self._attacked.clone(), "running": self._running.state_dict() if self._running else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Raises:
            CheckpointError: the saved sweep has another network, other images, other attacks or other settings.
        """
        if state.get("setup") != self._setup():
            raise CheckpointError("The saved sweep must belong to the same network, images, attacks and settings as this run, "
                                  "but one of them differs; start a new attack run.")
        for name, known in self.thresholds.items():
            known.copy_(state["thresholds"][name])
        self._attacked, self._running = state["attacked"].clone(), None
        if state["running"] is not None:
            with under_attack(self.evaluation.network):
                self._running = self._start(self.part)
            self._running.load_state_dict(state["running"])

    def _begun(self, name: str, pools: int) -> Pools:
        """Start one attack of the sweep on the images that are classified correctly without an attack.

        All other images get the threshold 0, which means that they are misclassified at every radius and number of steps.

        Args:
            name: key of the attack in `parts`.
            pools: number of pools among which the attack divides the images.
        """
        correct = self.evaluation.outcomes[NATURAL].correct[self.positions] == CORRECT
        self.thresholds[name][~correct] = 0.0
        self._attacked = correct.nonzero().squeeze(1)
        return self._start(name, pools)

    def _start(self, name: str, pools: int = 1) -> Pools:
        part, evaluation = self.parts[name], self.evaluation
        positions = self.positions[self._attacked]
        where = to_device(positions, evaluation.y.device)
        y, size = evaluation.y[where], evaluation.config.batch_size
        count = part.attack.targets_among(self.settings.classes)
        with torch.no_grad():
            targets = [likely_classes(evaluation.network(evaluation.x[block]), labels, count)
                       for block, labels in zip(positions.split(size), y.split(size), strict=True) if count and len(block)]
        running = start(
            part.attack, self._watch(), lambda position: evaluation.x[positions[position]], y,
            targets=torch.cat(targets) if targets else torch.zeros((len(y), 1), dtype=torch.int64, device=y.device),
            ids=[evaluation.indices[position] for position in positions.tolist()],
            settings=replace(self.settings, epsilon=part.epsilon), size=size, pools=pools)
        assert isinstance(running, Pools)
        return running

    def _watch(self) -> Watched:
        """Return the attacked network in the wrapper `Watched`, which counts evaluated images. Call this inside `under_attack`.

        All attacks of the sweep use the same wrapper.
        """
        if self._watched is None:
            self._watched = Watched(self.evaluation.network, logits=self.evaluation.logits())
            self._watched.on_pass = self._count
        return self._watched

    def _count(self, passes: int) -> None:
        self.passes = passes

    def _keep(self, name: str, finished: Iterable[Attacked]) -> None:
        for image in finished:
            number = self._attacked[image.position]
            x = self.evaluation.x[self.positions[number][None]][0]
            self.thresholds[name][number] = self.parts[name].threshold(image, x, self.settings.norm)

    def _point(self, part: Part, epsilon: float, steps: int, standing: Tensor) -> dict[str, Any]:
        correct = int(standing.sum())
        low, high = wilson(correct, len(standing))
        return {"sweep": part.sweep, "attack": part.attack.name, "title": part.attack.title, "norm": self.settings.norm,
                "epsilon": epsilon, "steps": steps, "images": len(standing), "correct": correct, "low": low, "high": high,
                "fingerprint": fingerprint(self._fields(part))}

    def _fields(self, part: Part) -> dict[str, Any]:
        """Return the conditions that all points of a part's curve share, {name: value}.

        The quantity that varies along the curve (the radius or the number of steps) is left out.
        """
        fields = attack_fields(part.attack, self.settings)
        del fields["epsilon" if part.sweep == DISTANCE else "steps"]
        images = [self.evaluation.indices[position] for position in self.positions.tolist()]
        return fields | {"sweep": part.sweep, "dataset": self.evaluation.protocol.dataset, "mode": MODE, "images": len(images),
                         "images_hash": images_hash(images)}

    def _setup(self) -> str:
        """Return a hash of the network and of all other conditions on which the results of the sweep depend."""
        parts = {name: self._fields(part) | {"epsilon": part.epsilon} for name, part in self.parts.items()}
        return fingerprint({"network": self.evaluation.network_hash, "parts": parts})


class GradientWalk(Walk):
    """PGD (Madry et al. 2018, arXiv 1706.06083) for use in an `engine.attack.walk.Pool`.

    Differs: an image counts as fallen as soon as it is misclassified after any step. In the paper, only the last step counts. The
    accuracy can therefore not rise with the number of steps, and one run gives the accuracy for every number.
    """

    def __init__(self, ball: Ball, iterations: int, step_size: float) -> None:
        """Prepare PGD on images in a ball.

        Args:
            ball: ball that contains the adversarial images.
            iterations: maximum number of steps.
            step_size: length of a step in the norm of the ball.
        """
        super().__init__(ball, iterations)
        self.step_size = step_size

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        """Return the state at the start of n runs (attempts on an image). Each point is drawn uniformly from the image's ball."""
        return {"point": random_point(self.ball, x, seeds), "iteration": torch.zeros_like(y)}

    def loss(self, logits: Tensor, state: State) -> Tensor:
        """Return the cross-entropy [n]."""
        return F.cross_entropy(logits, state["y"], reduction="none")

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Take one step up the gradient. Return a bool [n], True for runs (attempts on an image) that have ended."""
        assert gradient is not None
        moved = state["point"] + self.step_size * steepest(gradient, self.ball.norm)
        state["point"] = self.ball.project(moved, state["x"])
        state["iteration"] = state["iteration"] + 1
        return state["iteration"] > self.iterations


def pgd_walk(network: nn.Module, attack: Attack, settings: AttackSettings) -> GradientWalk:
    """Build a `GradientWalk` from the declaration of an attack."""
    return GradientWalk(Ball(settings.norm, settings.epsilon), attack.steps, settings.step_size)


def radii(distances: Sequence[float], count: int, epsilon: float) -> list[float]:
    """Return `count` radii for a curve in ascending order: 0, evenly spaced radii, and `epsilon`.

    The evenly spaced radii reach at least to the radius at which the accuracy has fallen to `LAST_STANDING`. If it never falls
    that far, they reach to the largest finite distance or, if no distance is finite, to twice epsilon. The spacing is rounded up
    to two digits. If `epsilon` is itself one of the evenly spaced radii, one more of them is returned.

    Args:
        distances: critical epsilon of each image; infinite for images without an adversarial image.
        count: number of radii, at least 2.
        epsilon: radius of the protocol.
    """
    finite = sorted(distance for distance in distances if distance < math.inf)
    last = finite[min(math.ceil((1 - LAST_STANDING) * len(distances)), len(finite)) - 1] if finite else 0.0
    spacing = _rounded_up((last if last > 0 else 2 * epsilon) / max(count - 2, 1))
    spaced = [float(f"{number * spacing:.9g}") for number in range(count)]
    others = [radius for radius in spaced if not math.isclose(radius, epsilon, rel_tol=1e-6)]
    return sorted([*others[:count - 1], epsilon])


def _rounded_up(value: float) -> float:
    """Round a number up to two significant digits. Return 0 for 0."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit - 1e-9) * unit

