"""Networks that a search trained one by one and measured, and their ranking. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.architecture.genotype import Genotype

Ranking = Literal["adversarial", "natural", "none"]


@dataclass(frozen=True)
class Candidate:
    """One network, measured once on images of the select split with running statistics.

    Attributes:
        number: from 1, in the order in which they were trained.
        genotype: its architecture.
        images: number of images it was measured on, at least 1.
        natural_correct, adversarial_correct: number of them classified correctly, unchanged and under attack.
    """

    number: int
    genotype: Genotype
    images: int
    natural_correct: int
    adversarial_correct: int

    @property
    def natural_accuracy(self) -> float:
        """Fraction in 0..1."""
        return self.natural_correct / self.images

    @property
    def adversarial_accuracy(self) -> float:
        """Fraction in 0..1."""
        return self.adversarial_correct / self.images


def ranked(candidates: Sequence[Candidate], by: Ranking) -> list[Candidate]:
    """Return the candidates, best first.

    Args:
        candidates: in any order.
        by: the deciding accuracy; ties go to the other one, then to the earlier candidate. none: the order of training.
    """
    def key(one: Candidate) -> tuple[float, float, int]:
        accuracies = (one.adversarial_accuracy, one.natural_accuracy)
        first, second = accuracies if by == "adversarial" else reversed(accuracies)
        return (0.0, 0.0, one.number) if by == "none" else (-first, -second, one.number)

    return sorted(candidates, key=key)
