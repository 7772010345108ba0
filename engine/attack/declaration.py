"""The declaration of an attack: its properties, its cost, and the name of the function that builds it.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Norms by the names that torchattacks uses.
LINF, L2 = "Linf", "L2"


@dataclass(frozen=True)
class AttackSettings:
    """The settings with which an attack is called.

    Attributes:
        epsilon: radius of the ball that the attack searches around an image, measured in `norm`, for pixels in 0..1.
        step_size: length of one step, measured in `norm`, for pixels in 0..1. Used only by attacks with `uses_step_size`.
        classes: number of classes of the dataset.
        seed: seed for all random numbers of the attack, 0..2**63-1.
        norm: norm of the ball, `LINF` or `L2`.
        sources: {hash of the weights: network}. Transfer attacks make adversarial images on these networks.
        graphs: recorder of the passes of `sources` (`engine.graphs.Graphs`); None to run them eagerly.
    """

    epsilon: float
    step_size: float
    classes: int
    seed: int
    norm: str = LINF
    sources: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    graphs: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Passes:
    """The cost of an attack on one batch of images.

    Attributes:
        forward: number of forward passes.
        backward: number of backward passes.
    """

    forward: int
    backward: int


def one_gradient_per_step(steps: int, targets: int) -> Passes:
    """Return the cost of an attack with one gradient per step: `steps` forward and `steps` backward passes.

    `targets`, the number of targets, has no effect. All cost functions have this argument.
    """
    return Passes(steps, steps)


@dataclass(frozen=True)
class Attack:
    """The declaration of one attack. Pages, tables, queries and the command line use it.

    Attributes:
        name: name in the registry and in the run log, for example "pgd-20".
        title: name shown to users, for example "PGD-20".
        summary: one sentence for help texts.
        source: authors, year and arXiv number of the paper.
        builder: function that builds the attack, as "module:function". The module is imported when the attack runs. The function
            takes a network, this declaration and `AttackSettings`. It returns an `engine.attack.walk.Walk`, or a callable that
            turns images [B, C, H, W] in 0..1 and labels int64 [B] into adversarial images of the same shape. Empty for a suite
            (an attack made of `parts`).
        cost: function that takes the number of steps and the number of targets. It returns the passes over one batch in the most
            expensive case, in which the attack succeeds on no image.
        steps: number of iterations, or of queries for a black-box attack; 0 for a suite.
        restarts: number of times the attack is run, each time from a new random start.
        targets: number of wrong classes that the attack aims at, one after another, most likely class first; 0 for an untargeted
            attack.
        random_start: True if the attack begins at a random point of the ball.
        uses_step_size: True if the attack uses the setting `step_size`.
        min_classes: smallest number of classes for which the loss of the attack is defined.
        parts: the attacks of a suite, in order. Each part attacks only the images on which all earlier parts failed.
        norms: norms in which the attack is defined.
        column: header of the attack's column in tables of networks; if empty, the title is used.
        library: Python distribution with the code of the attack. Its name and version are recorded with each result. Empty if
            the code is part of this project.
        own_in: norms for which the code is part of this project although `library` is set.
        revision: version number of the attack's code, if this code is part of this project. It is increased whenever results
            change.
        by_image: True if the builder returns a `Walk`. The random numbers then depend on the image, not on its block (a fixed
            group of images that are attacked together).
        nearest: True if the attack searches all of 0..1 for the nearest adversarial image. A natural image then counts as correct
            if its nearest adversarial image is farther away than epsilon.
        variant: entries that distinguish this variant of the attack from others. They are recorded with each result.
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
    norms: tuple[str, ...] = (LINF, L2)
    column: str = ""
    library: str = ""
    own_in: tuple[str, ...] = ()
    revision: int = 1
    by_image: bool = False
    nearest: bool = False
    variant: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def header(self) -> str:
        """The header of this attack's column in tables of networks."""
        return self.column or self.title

    @property
    def draws_by_block(self) -> bool:
        """True if the random numbers for an image depend on the block (group of images) in which the image is attacked."""
        return self.random_start and not self.by_image

    @property
    def prefix(self) -> str:
        """The prefix of this attack's columns in data frames from the run log, for example "pgd20"."""
        return self.name.replace("-", "")

    def targets_among(self, classes: int) -> int:
        """Return the number of wrong classes that the attack aims at if the dataset has `classes` classes."""
        return min(self.targets, classes - 1)

    def passes(self, classes: int) -> Passes:
        """Return the number of passes over one batch in the most expensive case, in which the attack succeeds on no image.

        Args:
            classes: number of classes of the dataset, which limits the number of target classes.
        """
        if not self.parts:
            return self.cost(self.steps, self.targets_among(classes))
        each = [part.passes(classes) for part in self.parts]
        return Passes(sum(one.forward for one in each), sum(one.backward for one in each))
