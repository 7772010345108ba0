"""A comparison of two networks that stops early, against a direct computation from their complete evaluations."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.attack.comparison import ALPHA, PairedEvaluation, chunk_size
from engine.attack.evaluation import Evaluation
from engine.attack.outcomes import CORRECT
from engine.attack.sequential import ConfidenceSequence
from engine.attack.verdict import Verdict, in_words
from engine.config import AttackConfig
from engine.errors import CheckpointError, StopRequested
from engine.graphs import Graphs
from tests.engine.search.recordings import Counting, Rerun

N, EPSILON = 200, 0.05
INDICES = range(1000, 1000 + N)


class Level(nn.Module):
    """Two classes, dark and bright, divided at a threshold of the mean grey level.

    In L-infinity an image withstands every attack if and only if its level is farther than epsilon from the threshold, on the
    right side."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x: Tensor) -> Tensor:
        score = 20 * (x.mean((1, 2, 3)) - self.threshold)
        return torch.stack([-score, score], 1)


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    level = torch.linspace(0.2, 0.8, N)[torch.randperm(N, generator=torch.Generator().manual_seed(3))]
    return level[:, None, None, None].expand(N, 1, 3, 3).clone(), (level > 0.5).long()


def config(**changes) -> AttackConfig:
    return AttackConfig(**({"attacks": ("fgsm", "pgd-4"), "epsilon": EPSILON, "step_size": 0.02, "batch_size": 16}
                           | changes))


def withstands(threshold: float, images: tuple[Tensor, Tensor]) -> list[bool]:
    """Return the worst case of each image by the distance to the threshold."""
    level = images[0].mean((1, 2, 3))
    signed = (level - threshold) * (2 * images[1] - 1)
    return (signed > EPSILON).tolist()


def comparison(first: float, second: float, images: tuple[Tensor, Tensor], checkpoint: str = "abc",
               **changes) -> PairedEvaluation:
    other = dict(zip(INDICES, withstands(second, images), strict=True))
    return PairedEvaluation(config(**changes), Level(first), *images, classes=2, indices=INDICES, other=other,
                            checkpoint=checkpoint)


def run(it: PairedEvaluation) -> PairedEvaluation:
    while not it.over:
        it.step()
    return it


def direct(first: float, second: float, images: tuple[Tensor, Tensor], order: list[int]) -> tuple[Verdict, int]:
    """Return the verdict and the number of images seen, with the known outcomes and a look after each chunk."""
    own, other = withstands(first, images), withstands(second, images)
    differences = [int(own[position]) - int(other[position]) for position in order]
    sequence = ConfidenceSequence(N, ALPHA)
    while sequence.verdict is Verdict.OPEN:
        sequence.observe(differences[sequence.seen:sequence.seen + chunk_size(N, sequence.seen, 16)])
    return sequence.verdict, sequence.seen


@pytest.mark.parametrize("first, second, verdict", [(0.5, 0.62, Verdict.FIRST), (0.62, 0.5, Verdict.SECOND),
                                                    (0.5, 0.5, Verdict.EQUAL), (0.5, 0.51, Verdict.SECOND)])
def test_the_verdict_is_that_of_the_known_outcomes(images: tuple[Tensor, Tensor], first: float, second: float,
                                                   verdict: Verdict) -> None:
    """Networks whose worst cases are known analytically: verdict, number of images and counts equal a direct computation."""
    it = run(comparison(first, second, images))
    assert (it.sequence.verdict, it.sequence.seen) == direct(first, second, images, it.order)
    assert it.sequence.verdict is verdict
    own, other = withstands(first, images), withstands(second, images)
    seen = it.order[:it.sequence.seen]
    assert it.pairs() == {"image": [INDICES[position] for position in seen], "first": [own[position] for position in seen],
                          "second": [other[position] for position in seen]}
    assert it.counts.images == len(seen) and it.counts.first_only == sum(own[p] and not other[p] for p in seen)
    if abs(first - second) > 0.1:
        assert it.sequence.seen < 0.6 * N
    assert (verdict is Verdict.FIRST) == (sum(own) > sum(other)) and (verdict is Verdict.SECOND) == (sum(own) < sum(other))
    if verdict is Verdict.EQUAL:
        assert it.sequence.seen == N and it.sequence.interval == (0.0, 0.0)


def test_the_outcomes_are_those_of_a_complete_evaluation(images: tuple[Tensor, Tensor]) -> None:
    """By-image attacks draw their random numbers from the number of the image, in any order and any chunk."""
    whole = Evaluation(config(attacks=("apgd-ce",)), Level(0.53), *images, classes=2, indices=INDICES)
    while not whole.over:
        whole.step()
    it = run(comparison(0.53, 0.53, images, attacks=("apgd-ce",)))
    standing = (whole.outcomes["apgd-ce"].correct == CORRECT).tolist()
    assert it.correct == [standing[position] for position in it.order] and it.sequence.verdict is Verdict.EQUAL


class Frozen(Level):
    """A network whose passes in attacks can be recorded."""

    def frozen(self, compiled: bool) -> nn.Module:
        return self


def test_all_chunks_share_the_recorded_passes(images: tuple[Tensor, Tensor]) -> None:
    def compared(graphs: Graphs) -> PairedEvaluation:
        other = dict(zip(INDICES, withstands(0.53, images), strict=True))
        return run(PairedEvaluation(config(), Frozen(0.53), *images, classes=2, indices=INDICES, other=other, graphs=graphs))

    recorded, eager = compared(Graphs(counting := Counting(Rerun))), compared(Graphs())
    assert recorded.correct == eager.correct and len(recorded.correct) == N
    assert len(counting.made) == 2 and recorded.graphs.replays > 50


def test_the_order_is_random_fixed_and_that_of_the_seed(images: tuple[Tensor, Tensor]) -> None:
    one, two, other = (comparison(0.5, 0.62, images, seed=seed) for seed in (0, 0, 1))
    assert sorted(one.order) == list(range(N)) and one.order == two.order != other.order != sorted(one.order)


@pytest.mark.parametrize("images, batch, sizes", [(359, 128, [23, 23, 23, 34, 51, 77, 115, 13]), (10_000, 100, [100] * 100),
                                                  (5, 128, [1, 1, 1, 1, 1]), (40, 8, [3, 3, 3, 4, 6, 8, 8, 5])])
def test_chunks_grow_and_cover_every_image_once(images: int, batch: int, sizes: list[int]) -> None:
    taken: list[int] = []
    while sum(taken) < images:
        taken.append(chunk_size(images, sum(taken), batch))
    assert taken == sizes


def test_every_chunk_draws_its_own_random_numbers(images: tuple[Tensor, Tensor]) -> None:
    """PGD draws the start points of a block at once: equal images in different chunks get different ones."""
    same = images[0][:1].expand(N, 1, 3, 3).clone(), images[1][:1].expand(N).clone()
    starts = []
    for first_block in (0, 1):
        it = Evaluation(config(attacks=("pgd-1",), step_size=0.001), Level(0.5), same[0][:4], same[1][:4], classes=2,
                        indices=INDICES[:4], first_block=first_block)
        while not it.over:
            it.step()
        starts.append(it.adversarial["pgd-1"])
    assert not torch.equal(*starts)


class Interruption:
    """A poll that stops at every n-th pass."""

    def __init__(self, every: int) -> None:
        self.every, self.passes = every, 0

    def __call__(self) -> None:
        self.passes += 1
        if self.passes % self.every == 0:
            raise StopRequested


def test_interrupted_anywhere_it_ends_alike(images: tuple[Tensor, Tensor]) -> None:
    attacks = ("fgsm", "pgd-4", "apgd-ce")
    whole = run(comparison(0.5, 0.62, images, attacks=attacks))
    it, poll = comparison(0.5, 0.62, images, attacks=attacks), Interruption(every=31)
    while not it.over:
        try:
            it.step(poll=poll)
        except StopRequested:
            buffer = io.BytesIO()
            torch.save(it.state_dict(), buffer)
            buffer.seek(0)
            it = comparison(0.5, 0.62, images, attacks=attacks)
            it.load_state_dict(torch.load(buffer, weights_only=True))
    assert poll.passes > 5 * poll.every and it.pairs() == whole.pairs() and it.sequence.interval == whole.sequence.interval


def test_a_state_of_another_comparison_is_refused(images: tuple[Tensor, Tensor]) -> None:
    state = comparison(0.5, 0.56, images).state_dict()
    for other in (comparison(0.5, 0.57, images), comparison(0.5, 0.56, images, checkpoint="def"),
                  comparison(0.5, 0.56, images, epsilon=0.04)):
        with pytest.raises(CheckpointError, match="same two networks"):
            other.load_state_dict(state)


def test_the_true_sign_is_rarely_missed_over_orders(images: tuple[Tensor, Tensor]) -> None:
    """Over 100 orders, at most alpha of the verdicts name the worse network."""
    differences = np.array(withstands(0.5, images), dtype=int) - np.array(withstands(0.58, images), dtype=int)
    assert differences.sum() > 0
    wrong = 0
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(N)
        sequence = ConfidenceSequence(N, ALPHA)
        while sequence.verdict is Verdict.OPEN:
            sequence.observe(differences[order[sequence.seen:sequence.seen + 13]])
        wrong += sequence.verdict is not Verdict.FIRST
    assert wrong <= ALPHA * 100


@pytest.mark.parametrize("changes, sentence", [
    ({}, "decided after 140 of 359 images: ARNAS is more robust than PC-DARTS on these test images (95 % time-uniform)"),
    ({"verdict": "second better"},
     "decided after 140 of 359 images: PC-DARTS is more robust than ARNAS on these test images (95 % time-uniform)"),
    ({"images": 359}, "decided after 359 of 359 images: ARNAS is more robust than PC-DARTS on these test images"),
    ({"verdict": "equal", "images": 359},
     "equal after all 359 images: ARNAS and PC-DARTS withstand the attacks on equally many of them"),
    ({"verdict": "still open"},
     "open after 140 of 359 images: ARNAS minus PC-DARTS is between 1.0 and 20.0 points on these test images")])
def test_the_words_speak_of_these_images(changes: dict, sentence: str) -> None:
    state = {"verdict": "first better", "images": 140, "total": 359, "low": 0.01, "high": 0.2, "level": 0.95} | changes
    assert in_words(state, "ARNAS", "PC-DARTS") == sentence


def test_networks_of_one_title_are_told_apart() -> None:
    state = {"verdict": "first better", "images": 140, "total": 359, "low": 0.01, "high": 0.2, "level": 0.95}
    assert "ARNAS (this run) is more robust than ARNAS (the other run)" in in_words(state, "ARNAS", "ARNAS")
