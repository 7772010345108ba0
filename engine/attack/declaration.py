"""The declaration of an attack: its facts, its cost, and the name of the code that runs it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Norms, as torchattacks spells them.
LINF, L2 = "Linf", "L2"


@dataclass(frozen=True)
class AttackSettings:
    """Settings of one call of an attack.

    Attributes:
        epsilon: radius of the ball in pixel space, 0..1.
        step_size: length of one step in pixel space, 0..1; read only by attacks with `uses_step_size`.
        classes: number of classes of the dataset.
        seed: seed of every random number of the attack, 0..2**63-1.
        norm: norm of the ball, `LINF` or `L2`.
    """

    epsilon: float
    step_size: float
    classes: int
    seed: int
    norm: str = LINF


@dataclass(frozen=True)
class Passes:
    """Forward and backward passes of a network over one batch of images."""

    forward: int
    backward: int


def one_gradient_per_step(steps: int, targets: int) -> Passes:
    """Return the cost of an attack that takes one gradient per step, whatever its targets."""
    return Passes(steps, steps)


@dataclass(frozen=True)
class Attack:
    """Everything the project knows about one attack. Pages, tables, queries, fingerprints and the command line read it.

    Attributes:
        name: registry name, also in the run log.
        title: name in print.
        summary: one sentence for help texts.
        source: paper, year, arXiv number.
        builder: "module:function", imported when the attack runs. The function takes a network, this declaration and
            `AttackSettings`, and returns a callable: images [B, C, H, W] in 0..1 and labels int64 [B] -> adversarial images of
            the same shape. "" for a suite, which needs no code of its own.
        cost: steps, targets -> passes over one batch of which no image breaks.
        steps: iterations, or queries of a black-box attack; 0 for a suite.
        restarts: random restarts.
        targets: number of most likely wrong classes attacked in turn; 0 for an untargeted attack.
        random_start: True if it begins at a random point of the ball.
        uses_step_size: True if the setting `step_size` applies.
        min_classes: fewest classes for which its loss is defined.
        parts: attacks of a suite, in order; each attacks only the images that withstood the ones before it.
        norm: norm of the ball.
        column: header of its column in tables of networks; "" for its title.
        library: distribution whose code runs the attack; the fingerprint records its version. "" for code of our own.
        variant: further facts by which the fingerprint tells this variant from others.
    """

    name: str
    title: str
    summary: str
    source: str
    builder: str = ""
    cost: Callable[[int, int], Passes] = one_gradient_per_step
    steps: int = 0
    restarts: int = 1
    targets: int = 0
    random_start: bool = False
    uses_step_size: bool = False
    min_classes: int = 2
    parts: tuple[Attack, ...] = ()
    norm: str = LINF
    column: str = ""
    library: str = "torchattacks"
    variant: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def header(self) -> str:
        """The header of its column in tables of networks."""
        return self.column or self.title

    @property
    def prefix(self) -> str:
        """The prefix of its columns in frames of the run log, for example "pgd20"."""
        return self.name.replace("-", "")

    def targets_among(self, classes: int) -> int:
        """Return the number of target classes on a dataset of `classes` classes."""
        return min(self.targets, classes - 1)

    def passes(self, classes: int) -> Passes:
        """Return the passes over one batch of which no image breaks; broken images can only save passes.

        Args:
            classes: number of classes of the dataset, which limits the targets.
        """
        if not self.parts:
            return self.cost(self.steps, self.targets_among(classes))
        each = [part.passes(classes) for part in self.parts]
        return Passes(sum(one.forward for one in each), sum(one.backward for one in each))
