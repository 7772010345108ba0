"""Square against torchattacks and a transcription with loops over images; its random numbers belong to each image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from engine.attack.ball import Ball, distance
from engine.attack.declaration import L2, LINF
from engine.attack.square import BUMP, CLEARED_COLUMN, CLEARED_ROW, COLUMN, ROW, SIDE, SIGNS, Square, bump
from engine.attack.walk import Pool, State
from tests.engine.attack.trained import trained

NORMS = pytest.mark.parametrize(("norm", "epsilon"), [(LINF, 0.15), (L2, 0.8)])


class PublishedSquare(torchattacks.Square):
    """torchattacks' Square with corners drawn as in the paper: the last place included."""

    def random_int(self, low: int = 0, high: int = 1, shape: Sequence[int] = (1,)) -> Tensor:
        return torch.randint(low, high + 1, tuple(shape))


def begun(walk: Square, x: Tensor, seeds: Sequence[int]) -> State:
    y = torch.zeros(len(x), dtype=torch.int64)
    return walk.begin(x, y, y - 1, seeds) | {"x": x, "y": y, "target": y - 1}


def accepted(walk: Square, state: State) -> None:
    """Take one query whose margin is always lower than before, so that every change is kept."""
    margin = -state["query"].float() - 1
    walk.advance(state, torch.stack([margin, torch.zeros_like(margin)], 1), None, None)


def repainted(norm: str, epsilon: float, held: Tensor, x: Tensor, plan: list[int]) -> Tensor:
    """Return the next candidate of one image [C, H, W] by slices, transcribed from Algorithms 2 and 3."""
    side, signs = plan[SIDE], torch.tensor(plan[SIGNS:], dtype=x.dtype)[:, None, None]
    first = (slice(None), slice(plan[ROW], plan[ROW] + side), slice(plan[COLUMN], plan[COLUMN] + side))
    difference = held - x
    if norm == LINF:
        difference[first] = difference[first] + 2 * epsilon * signs
        return (x + difference.clamp(-epsilon, epsilon)).clamp(0, 1)
    second = (slice(None), slice(plan[CLEARED_ROW], plan[CLEARED_ROW] + side),
              slice(plan[CLEARED_COLUMN], plan[CLEARED_COLUMN] + side))
    outside = difference.clone()
    outside[first] = outside[second] = 0
    hills = bump(side).T if plan[BUMP] % 2 else bump(side)
    unused = max(epsilon ** 2 - float(difference.square().sum()), 0) / len(x)
    for channel, old, sign in zip(range(len(x)), difference[first].clone(), signs, strict=True):
        new = sign * hills + old / max(float(old.norm()), 1e-12)
        windows = float(difference[channel].square().sum() - outside[channel].square().sum())
        outside[channel][first[1:]] = new / max(float(new.norm()), 1e-12) * math.sqrt(max(windows, 0) + unused)
    return (x + epsilon * outside / max(float(outside.norm()), 1e-12)).clamp(0, 1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 12, 20), (1, 4, 4), (2, 3, 5)])
@NORMS
def test_candidates_are_those_of_the_algorithm(norm: str, epsilon: float, shape: tuple[int, ...]) -> None:
    """Every query changes the kept image as a transcription with slices does, and stays in the ball."""
    x, walk = torch.rand(4, *shape), Square(Ball(norm, epsilon), 60)
    state = begun(walk, x, [3, 1, 4, 1])
    for query in range(60):
        held = state["point"]
        accepted(walk, state)
        plans = state["plan"][:, query].tolist()
        expected = [repainted(norm, epsilon, *one) for one in zip(held, x, plans, strict=True)]
        assert torch.allclose(state["point"], torch.stack(expected), atol=2e-5)
        assert walk.ball.contains(state["point"], x).all()


@NORMS
def test_starts_at_the_radius(norm: str, epsilon: float) -> None:
    """The start is epsilon away if no pixel is near a bound: stripes in L-infinity, tiles of both signs in L2."""
    x, walk = torch.full((5, 3, 32, 32), 0.5), Square(Ball(norm, epsilon / 2), 1)
    difference = begun(walk, x, range(5))["point"] - x
    assert torch.allclose(distance(x + difference, x, norm), torch.full((5,), epsilon / 2), atol=1e-6)
    if norm == LINF:
        assert torch.equal(difference, difference[:, :, :1].expand_as(difference)) and difference.unique().numel() <= 4
    else:
        assert not difference[:, :, 0].any() and not difference[:, :, 31].any()  # 5 x 5 tiles of side 6 from pixel 1
        assert (difference[:, :, 1:31, 1:31].unfold(2, 6, 6).unfold(3, 6, 6).square().sum((4, 5)) > 0).all()


def test_plans_follow_the_published_schedule() -> None:
    """Sides follow 0.8 pixels, halved after 10, 50, ... queries; corners are uniform over all places; signs are balanced."""
    plan = begun(Square(Ball(LINF, 0.1), 5000), torch.rand(2, 3, 32, 32), [0, 1])["plan"].long()
    official = torchattacks.Square(nn.Linear(1, 1), n_queries=5000, resc_schedule=False)
    assert plan[0, :, SIDE].tolist() == [max(round(math.sqrt(official.p_selection(i) * 32 * 32)), 1) for i in range(5000)]
    assert (plan[..., ROW] >= 0).all() and ((plan[..., ROW] + plan[..., SIDE]).amax() == 32) and plan[..., ROW].amin() == 0
    smallest = plan[0, 4001:, ROW]
    assert smallest.float().mean().item() == pytest.approx((32 - plan[0, -1, SIDE].item()) / 2, abs=1)
    assert set(plan[..., SIGNS:].unique().tolist()) == {-1, 1} and plan[..., SIGNS:].float().mean().abs() < 0.03
    odd = begun(Square(Ball(L2, 0.1), 5000), torch.rand(1, 3, 32, 32), [0])["plan"][..., SIDE]
    assert (odd % 2 == 1).all() and odd.amin() == 3 and odd.amax() == 29


@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 29])
def test_bumps_are_those_of_torchattacks(side: int) -> None:
    """A bump is torchattacks' one or its transpose, of length 1."""
    attack = torchattacks.Square(nn.Linear(1, 1))
    theirs = attack.eta(side)
    assert torch.allclose(bump(side), theirs, atol=1e-6) or torch.allclose(bump(side).T, theirs, atol=1e-6)


def standing(norm: str, epsilon: float, queries: int, *, size: int, rows: slice) -> dict[int, tuple[bool, int]]:
    """Return for each position if it fell, and after how many evaluations."""
    network, x, y = trained()
    x, y = x[rows], y[rows]
    pool = Pool(Square(Ball(norm, epsilon), queries), network, lambda images: network(images).argmax(1), lambda at: x[at], y,
                runs=torch.full((len(y), 1), -1), seed=lambda position, run: position + (rows.start or 0), size=size)
    outcome = {}
    while not pool.over:
        for attacked in pool.step():
            outcome[attacked.position + (rows.start or 0)] = attacked.fell, attacked.iterations
            assert pool.walk.ball.contains(attacked.x_adv[None], x[attacked.position, None])
    return outcome


@NORMS
def test_an_image_has_its_own_random_numbers(norm: str, epsilon: float) -> None:
    """Fall and number of evaluations are the same in batches of 16 as of 3, and without the images before."""
    together = standing(norm, epsilon, 60, size=16, rows=slice(0, 20))
    assert together == standing(norm, epsilon, 60, size=5, rows=slice(0, 20))
    assert {position: together[position] for position in range(12, 20)} == standing(norm, epsilon, 60, size=4, rows=slice(12, 20))
    assert max(count for _, count in together.values()) == 61


@NORMS
def test_withstood_by_as_many_images_as_in_torchattacks(norm: str, epsilon: float) -> None:
    """On a trained network, the mean robust accuracy is that of torchattacks' Square within the randomness of both."""
    network, x, y = trained()
    with torch.random.fork_rng():
        theirs = [int((network(PublishedSquare(network, norm=norm, eps=epsilon, n_queries=300, resc_schedule=False, seed=seed)(
            x, y)).argmax(1) == y).sum()) for seed in range(3)]
    fell = [at for at, (fallen, _) in standing(norm, epsilon, 300, size=100, rows=slice(0, None)).items() if fallen]
    ours = len(x) - len(fell)
    assert 10 < ours < 75 and abs(ours - sum(theirs) / 3) <= 5
