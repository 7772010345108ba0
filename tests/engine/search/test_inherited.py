"""Accuracy with inherited weights: equal to a count by hand on the reference supernet's own modules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import PRIMITIVES
from engine.errors import CheckpointError
from engine.search.inherited import TrainedSupernet, inherited_accuracy
from engine.search.methods.random_search.method import RandomSearch
from engine.search.methods.random_search.sampling import random_genotype
from tests.engine.search.methods.test_random_search import MEASURING, batches, make, noise
from tests.engine.space.test_one_hot import ARNAS, discrete, pair
from tests.reference_supernet import ReferenceSupernet

EPSILON, STEPS = 0.1, 3


@pytest.fixture(scope="module")
def supernets() -> tuple[ReferenceSupernet, TrainedSupernet]:
    torch.manual_seed(3)
    reference, supernet, weights = pair(4, 4, ARNAS, PRIMITIVES, 1, False, None)
    return reference, TrainedSupernet(supernet, weights)


def by_hand(reference: ReferenceSupernet, genotype: Any, x: Tensor, y: Tensor, added: Tensor) -> tuple[int, int]:
    """Return the numbers of correct natural and attacked images, with one pass per image set in training mode."""
    x_adv = (x + added).clamp(x - EPSILON, x + EPSILON).clamp(0, 1)
    for _ in range(STEPS):
        x_adv.requires_grad_()
        loss = F.cross_entropy(discrete(reference, PRIMITIVES, genotype, x_adv), y, reduction="sum")
        step = EPSILON / 4 * torch.autograd.grad(loss, x_adv)[0].sign()
        x_adv = (x_adv + step).detach().clamp(x - EPSILON, x + EPSILON).clamp(0, 1)
    with torch.no_grad():
        wrong = [[int(one.argmax()) != int(label) for one, label in zip(discrete(reference, PRIMITIVES, genotype, images), y)]
                 for images in (x, x_adv)]
    return tuple(len(y) - sum(one) for one in wrong)  # type: ignore[return-value]


def shown(seed: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(size, 1, 8, 8, generator=generator, dtype=torch.float64), torch.randint(10, (size,), generator=generator),
            0.3 * torch.randn(size, 1, 8, 8, generator=generator, dtype=torch.float64))


def test_counts_are_those_of_the_reference_by_brute_force(supernets: tuple[ReferenceSupernet, TrainedSupernet]) -> None:
    reference, trained = supernets
    generator, counts = torch.Generator().manual_seed(1), set()
    for number in range(4):
        genotype, split = random_genotype(ARNAS, generator), [shown(number, 12), shown(9 + number, 7)]
        if number % 2:  # labels that the network mostly gives, so that the attack has images to turn
            split = [(x, discrete(reference, PRIMITIVES, genotype, x).argmax(1), added) for x, _, added in split]
        ours = inherited_accuracy(trained, genotype, split, epsilon=EPSILON, steps=STEPS)
        expected = [sum(one) for one in zip(*(by_hand(reference, genotype, *batch) for batch in split))]
        assert [ours.natural_correct, ours.adversarial_correct] == expected and ours.images == 19
        counts.add(tuple(expected))
        assert ours == inherited_accuracy(trained, genotype, split, epsilon=EPSILON, steps=STEPS)
    assert len(counts) > 2 and any(natural == 19 > adversarial for natural, adversarial in counts)


def test_weights_that_overflow_are_refused(supernets: tuple[ReferenceSupernet, TrainedSupernet]) -> None:
    trained = replace(supernets[1], weights=torch.full_like(supernets[1].weights, float("nan")))
    genotype = random_genotype(ARNAS, torch.Generator())
    with pytest.raises(CheckpointError, match="finite logits"):
        inherited_accuracy(trained, genotype, [shown(1, 4)], epsilon=EPSILON, steps=1)


# In random search


def measured(search: RandomSearch) -> RandomSearch:
    """Train and measure the first candidate."""
    for epoch in range(MEASURING + 1):
        search.begin_epoch(epoch)
        for number in range(2):
            search.step(*batches(10 * epoch + number), learning_rate=0.05, noise=noise(number, 0.1))
        search.end_epoch()
    return search


def inheriting(trained: TrainedSupernet) -> RandomSearch:
    search = make()
    search.trained = trained
    return search


@pytest.fixture(scope="module")
def trained() -> TrainedSupernet:
    supernet = make().supernet
    return TrainedSupernet(supernet, 3 * supernet.initial_weights(torch.Generator().manual_seed(5), torch.float64))


def test_random_search_measures_both_on_the_same_images_and_trains_as_without(trained: TrainedSupernet) -> None:
    plain, search = measured(make()), measured(inheriting(trained))
    ours, theirs = search.candidates[0], plain.candidates[0]
    assert replace(ours, inherited_natural_correct=None, inherited_adversarial_correct=None) == theirs
    split = [(*batches(10 * MEASURING + number)[1], noise(number, 0.1)[1]) for number in range(2)]
    expected = inherited_accuracy(trained, ours.genotype, split, epsilon=0.1, steps=3)
    assert (ours.inherited_natural_correct, ours.inherited_adversarial_correct, ours.images) == (
        expected.natural_correct, expected.adversarial_correct, expected.images)
    assert torch.equal(search.weights, plain.weights)


def test_a_measuring_step_makes_as_many_passes_as_it_says_and_an_abandoned_one_leaves_no_trace(trained: TrainedSupernet) -> None:
    search, told = inheriting(trained), []
    search.begin_epoch(MEASURING)
    search.step(*batches(1), learning_rate=0.1, noise=noise(1, 0.1), poll=lambda: told.append(search.activity))
    assert len(told) == search.passes_per_step == 10
    steps = [f"PGD step {number} of 3" for number in (1, 2, 3)]
    assert told[5:] == [f"{what}, weights of the supernet" for what in ("natural batch", *steps, "adversarial batch")]
    before = search.state_dict()

    def stop() -> None:
        if search.activity.startswith("PGD step 2 of 3, weights"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.step(*batches(1), learning_rate=0.1, noise=noise(1, 0.1), poll=stop)
    assert search.state_dict() == before and before["inherited_natural_correct"] + before["natural_correct"] > 0


def test_a_checkpoint_in_the_middle_of_a_measurement_goes_on_where_it_was(trained: TrainedSupernet) -> None:
    whole, search = measured(inheriting(trained)), inheriting(trained)
    for epoch in range(MEASURING + 1):
        search.begin_epoch(epoch)
        for number in range(2):
            state, search = search.state_dict(), inheriting(trained)
            search.load_state_dict(state)
            search.begin_epoch(epoch)
            search.step(*batches(10 * epoch + number), learning_rate=0.05, noise=noise(number, 0.1))
        search.end_epoch()
    assert search.candidates == whole.candidates and whole.candidates[0].inherited_natural_correct is not None


def test_a_checkpoint_from_before_the_setting_still_loads() -> None:
    search = measured(make())
    state = search.state_dict() | {"layout": "random search 2"}
    for name in ("natural", "adversarial"):
        del state[f"inherited_{name}_correct"]
        del state["candidates"][0][f"inherited_{name}_correct"]
    fresh = make()
    fresh.load_state_dict(state)
    assert fresh.candidates == search.candidates
