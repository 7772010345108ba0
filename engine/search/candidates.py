"""Candidates (networks that a search trains and measures one by one) and their ranking. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.architecture.genotype import Genotype

Ranking = Literal["adversarial", "natural", "none"]


@dataclass(frozen=True)
class Candidate:
    """One trained network and the result of measuring it on the select split.

    The search never trains on this split. Networks are measured in evaluation mode.

    Attributes:
        number: number of the network in the order of training, from 1.
        genotype: architecture of the network.
        images: number of images on which the network was measured, at least 1.
        natural_correct: number of natural images that are classified correctly.
        adversarial_correct: number of attacked images that are classified correctly.
        inherited_natural_correct: number of natural images that the same architecture classifies correctly with the weights of a
            supernet (`engine.search.inherited`); None if this was not measured.
        inherited_adversarial_correct: the same number for attacked images.
    """

    number: int
    genotype: Genotype
    images: int
    natural_correct: int
    adversarial_correct: int
    inherited_natural_correct: int | None = None
    inherited_adversarial_correct: int | None = None

    @property
    def natural_accuracy(self) -> float:
        """Fraction of natural images classified correctly, in 0..1."""
        return self.natural_correct / self.images

    @property
    def adversarial_accuracy(self) -> float:
        """Fraction of attacked images classified correctly, in 0..1."""
        return self.adversarial_correct / self.images


def ranked(candidates: Sequence[Candidate], by: Ranking) -> list[Candidate]:
    """Return the candidates, best first.

    Args:
        candidates: candidates in any order.
        by: accuracy to rank by. Ties are broken by the other accuracy, then by the order of training. With "none", candidates
            are ranked by the order of training alone.
    """
    def key(one: Candidate) -> tuple[float, float, int]:
        accuracies = (one.adversarial_accuracy, one.natural_accuracy)
        first, second = accuracies if by == "adversarial" else reversed(accuracies)
        return (0.0, 0.0, one.number) if by == "none" else (-first, -second, one.number)

    return sorted(candidates, key=key)
