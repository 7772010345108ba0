"""The accuracy of an architecture with the weights of a trained supernet, without any training of its own.

    accuracy of N(a, W),    where N(a, W) is the network with architecture a and the weights W of a finished search

This is how one-shot methods rank architectures (Guo et al. 2020, "Single path one-shot neural architecture search with uniform
sampling", arXiv 1904.00420, section 3). Yu et al. 2020, "Evaluating the search phase of neural architecture search", arXiv
1902.08142, compare such rankings with the rankings after training. By Kendall's tau, they find little agreement. This accuracy is
therefore an object of study, not a measure of the architecture's quality.

The supernet's own forward pass computes the architecture, with one-hot operation weights (`engine.space.one_hot`). The two edges
of every node have the weight 1, and all other edges contribute nothing, as after discretisation. BatchNorm normalises with the
statistics of the batch, which the searches on a supernet use as well. The supernet's running statistics belong to the mixture of
all operations and would be wrong for a single one.

Differs: Guo et al. train the supernet on one random architecture per step. The searches here train the mixture of all operations,
weighted by softmaxed alphas, so that a single architecture is further from what was trained (Tian et al. 2020,
"Discretization-aware architecture search", arXiv 2007.03154). Accuracies near chance are common.
Differs: Guo et al. recompute the running statistics on training images for every architecture. Batch statistics need no such
images, but make a prediction depend on the other images of the batch.
Differs: Guo et al. measure natural accuracy only. The accuracy under PGD is measured in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from engine.architecture.genotype import Genotype
from engine.attack.guard import predictions
from engine.search.bilevel import Bilevel, InnerAttack
from engine.space.one_hot import one_hot
from engine.space.supernet import Supernet


@dataclass(frozen=True)
class TrainedSupernet:
    """A supernet together with the flat weights [n] that a search has given it."""

    supernet: Supernet
    weights: Tensor


@dataclass(frozen=True)
class InheritedAccuracy:
    """The accuracy of an architecture with inherited weights.

    Attributes:
        images: number of images on which it was measured.
        natural_correct: number of natural images that are classified correctly.
        adversarial_correct: number of attacked images that are classified correctly.
    """

    images: int
    natural_correct: int
    adversarial_correct: int


def inherited_accuracy(trained: TrainedSupernet, genotype: Genotype, batches: Iterable[tuple[Tensor, Tensor, Tensor]], *,
                       epsilon: float, steps: int, begin: Callable[[str], None] = lambda activity: None) -> InheritedAccuracy:
    """Measure the natural accuracy of an architecture, and its accuracy under PGD, with the weights of a supernet.

    A batch takes `steps` + 2 forward passes. Nothing is trained, changed or drawn at random, so equal arguments give equal
    results. PGD takes steps of epsilon / 4 and keeps pixels in 0..1.

    Args:
        trained: the supernet and its weights.
        genotype: architecture in the supernet's space.
        batches: (images [B, C, H, W] in 0..1, labels int64 [B], noise [B, C, H, W]) with the device and dtype of the weights. The
            attack starts from the images plus the noise. The division into batches matters, because BatchNorm uses the batch's
            statistics.
        epsilon: L-infinity radius of PGD, in pixel space.
        steps: number of steps of PGD.
        begin: called with a progress message before each forward pass. It may raise an exception to abandon the measurement.

    Raises:
        GenotypeError: the supernet's space does not contain the architecture.
        CheckpointError: the network returns NaN or infinite logits.
        ConfigError: images do not have the supernet's shape.
    """
    network, weights = _Discrete(trained.supernet), trained.weights
    operations = one_hot(trained.supernet, genotype).to(weights)
    attack = InnerAttack(epsilon, epsilon / 4, steps, clip=True)

    def correct(x: Tensor, y: Tensor, name: str) -> int:
        begin(f"{name} batch, weights of the supernet")
        return int((predictions(lambda images: network.logits(images, weights, operations), x) == y).sum())

    images = natural = adversarial = 0
    for x, y, noise in batches:
        images += len(y)
        natural += correct(x, y, "natural")
        x_adv = Bilevel().attack(attack, network, x, y, noise, weights, operations, announce=lambda number: begin(
            f"PGD step {number} of {steps}, weights of the supernet"))
        adversarial += correct(x_adv, y, "adversarial")
    return InheritedAccuracy(images, natural, adversarial)


@dataclass(frozen=True)
class _Discrete:
    """A supernet that takes the weights of its operations in the argument `alphas`, and applies no softmax to them.

    The class has the interface of `engine.search.objectives.FunctionalNetwork`.
    """

    supernet: Supernet

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, twice: bool = False) -> Tensor:
        return self.supernet.weighted_logits(x, weights, alphas)

    def image_unit(self, x: Tensor) -> Tensor:
        return self.supernet.image_unit(x)
