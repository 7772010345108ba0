"""The pool: who leaves and when, with what; that images do not influence each other, and that an interruption changes nothing."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from engine.attack.apgd import APGD
from engine.attack.ball import Ball
from engine.attack.declaration import L2, LINF
from engine.attack.walk import Attacked, Pool, State, Walk, margins


class Ladder(Walk):
    """A walk that adds a tenth of the target to every pixel, evaluated `iterations` times, the first time at the image."""

    differentiates = False

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        return {"point": x.clone(), "step": torch.zeros_like(y)}

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        state["step"] += 1
        state["point"] = state["x"] + (state["step"] * state["target"] / 10)[:, None, None, None]
        return state["step"] >= self.iterations


class OutsideLadder(Ladder):
    leaves_ball = True


def brightness(points: Tensor) -> Tensor:
    """Return logits of two classes, of which the second wins for images brighter than 0.55."""
    bright = points.mean((1, 2, 3)) - 0.55
    return torch.stack((-bright, bright), 1)


def grey(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, 1, 2, 2).clone()


def drain(pool: Pool) -> list[Attacked]:
    attacked = []
    while not pool.over:
        attacked += pool.step()
    return attacked


def by_position(attacked: list[Attacked]) -> list[Attacked]:
    return sorted(attacked, key=lambda one: one.position)


def ladder(levels: Sequence[float], y: Sequence[int], runs: Sequence[Sequence[int]], walk: Walk, size: int = 100,
           logits: Callable[[Tensor], Tensor] = brightness, **options: bool) -> Pool:
    images = grey(*levels)
    return Pool(walk, logits, lambda points: brightness(points).argmax(1), lambda position: images[position], torch.tensor(y),
                runs=torch.tensor(runs), seed=lambda position, run: 0, size=size, **options)


def tiny_pool(images: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Pool:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5)).to(dtype).requires_grad_(False)
    y = network(images).argmax(1)
    runs = (y[:, None] + torch.arange(1, 4)) % 5
    return Pool(APGD(Ball(LINF, 0.08), 15, "dlr-targeted"), network, lambda points: network(points).argmax(1),
                lambda position: images[position], y, runs=runs, seed=lambda position, run: 100 * run + position, size=size)


def test_an_image_leaves_as_soon_as_it_falls() -> None:
    """At brightness 0.3, 0.4, 0.5 with steps of 0.1 the fourth, third and second evaluation is wrong; 0.1 needs too many."""
    pool = ladder([0.3, 0.1, 0.4, 0.5], [0, 0, 0, 0], [[1]] * 4, Ladder(Ball(LINF, 1.0), 4))
    left = [[one.position for one in pool.step()] for _ in range(4)]
    assert left == [[], [3], [2], [0, 1]] and pool.over


def test_the_end_of_an_attack_is_its_first_adversarial_or_its_best_point() -> None:
    """A fallen image brings its adversarial point, a survivor the point of its smallest margin in whatever run."""
    attacked = drain(ladder([0.4, 0.2], [0, 0], [[-1, 1, -2]] * 2, Ladder(Ball(LINF, 1.0), 3)))
    fallen, standing = by_position(attacked)
    assert (fallen.fell, standing.fell) == (True, False)
    assert torch.allclose(fallen.x_adv, grey(0.6)[0]) and torch.allclose(standing.x_adv, grey(0.4)[0])
    assert fallen.margin == pytest.approx(-0.1, abs=1e-6) and standing.margin == pytest.approx(0.3, abs=1e-6)


def test_later_runs_begin_together_once_the_first_is_over() -> None:
    """Runs take three evaluations. An image stands in the first, falls in the third at its second point, and so ends the second;
    another falls in the first run and begins no other; a third stands in all."""
    attacked = drain(ladder([0.4, 0.5, 0.4], [0] * 3, [[0, 1, 2], [1, 2, 2], [0, 0, 0]], Ladder(Ball(LINF, 1.0), 3)))
    ends = {one.position: (one.fell, one.iterations) for one in attacked}
    assert ends == {0: (True, 3 + 2 + 2), 1: (True, 2), 2: (False, 9)}


def test_the_batch_stays_full_while_images_wait() -> None:
    """With places for two, each image begins as soon as one leaves, and the two later runs of an image enter together."""
    sizes = []

    def counted(points: Tensor) -> Tensor:
        sizes.append(len(points))
        return brightness(points)

    attacked = drain(ladder([0.1, 0.5, 0.1, 0.1], [0] * 4, [[1]] * 4, Ladder(Ball(LINF, 1.0), 4), 2, counted))
    assert sizes == [2] * 6 + [1, 1] and [one.iterations for one in by_position(attacked)] == [4, 2, 4, 4]
    sizes.clear()
    attacked = drain(ladder([0.1, 0.2], [0] * 2, [[1, 1, 1]] * 2, Ladder(Ball(LINF, 1.0), 2), 2, counted))
    assert sizes == [2] * 6 and [one.iterations for one in by_position(attacked)] == [6, 6]
    sizes.clear()
    drain(ladder([0.1, 0.2], [0] * 2, [[1] * 4] * 2, Ladder(Ball(LINF, 1.0), 2), 2, counted))
    assert sizes == [2, 2, 3, 3, 3, 3]  # more later runs than places


def test_the_network_decides_whether_an_image_has_fallen() -> None:
    """If the differentiated function errs where the network does not, the image stands."""
    attacked = drain(ladder([0.1], [0], [[1]], Ladder(Ball(LINF, 1.0), 3), logits=lambda points: -brightness(points)))
    assert [one.fell for one in attacked] == [False]


def test_points_outside_the_ball_do_not_count() -> None:
    """An attack that leaves the ball fells an image only inside; its best point is inside, too."""
    levels, y, runs = [0.4, 0.3], [0, 0], [[1], [1]]
    inside, outside = by_position(drain(ladder(levels, y, runs, OutsideLadder(Ball(LINF, 0.21), 6))))
    assert (inside.fell, inside.iterations, outside.fell) == (True, 3, False)
    assert torch.allclose(outside.x_adv, grey(0.5)[0])


@pytest.mark.parametrize("norm", [LINF, L2])
def test_the_nearest_adversarial_image_is_kept_until_all_runs_are_over(norm: str) -> None:
    """The run towards 0.6 ends nearest, among 0.9, 0.6 and 0.8; an image that no run misclassifies keeps its best point."""
    attacked = drain(ladder([0.3, 0.0], [0, 0], [[6, 3, 5], [1, 5, -1]], OutsideLadder(Ball(norm, 0.01), 2), nearest=True))
    nearest, standing = by_position(attacked)
    assert (nearest.fell, nearest.iterations, standing.fell, standing.iterations) == (True, 6, False, 6)
    assert torch.allclose(nearest.x_adv, grey(0.6)[0]) and torch.allclose(standing.x_adv, grey(0.5)[0])
    assert nearest.margin == pytest.approx(-0.1, abs=1e-6)


def test_an_image_is_attacked_alike_in_any_batch() -> None:
    """In float64 the outcomes in batches of 1, 7 and 100 images are equal up to rounding."""
    images = torch.rand(20, 1, 4, 4, dtype=torch.float64)
    one_by_one, *others = (by_position(drain(tiny_pool(images, size, torch.float64))) for size in (1, 7, 100))
    assert 0 < sum(one.fell for one in one_by_one) < 20
    for batch in others:
        for alone, together in zip(one_by_one, batch, strict=True):
            assert (alone.position, alone.fell, alone.iterations) == (together.position, together.fell, together.iterations)
            assert torch.allclose(alone.x_adv, together.x_adv, rtol=0, atol=1e-9)
            assert alone.margin == pytest.approx(together.margin, abs=1e-9)


@pytest.mark.parametrize("tick", [0, 1, 5, 16, 33, 60])
def test_an_interruption_at_any_tick_changes_no_bit(tick: int) -> None:
    """A pool loaded from a file of another's state after `tick` steps returns the same, while the other goes on undisturbed."""
    images = torch.rand(12, 1, 4, 4)
    pool = tiny_pool(images, 5)
    before = [one for _ in range(tick) for one in pool.step()]
    file = io.BytesIO()
    content = pool.state_dict()
    torch.save(content, file)
    file.seek(0)
    uninterrupted = before + drain(pool)
    for saved in (torch.load(file), content):  # neither is written to by the pool that it came from
        resumed = tiny_pool(images, 5)
        resumed.load_state_dict(saved)
        for one, other in zip(uninterrupted, before + drain(resumed), strict=True):
            assert (one.position, one.fell, one.margin, one.iterations) == (
                other.position, other.fell, other.margin, other.iterations)
            assert torch.equal(one.x_adv, other.x_adv)


def test_a_step_that_was_stopped_in_the_network_can_be_repeated() -> None:
    """A step whose evaluation raises leaves the pool as it was."""
    class Stopped(Exception):
        pass

    calls = []

    def stopping(points: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) in (1, 4):
            raise Stopped
        return brightness(points)

    arguments = ([0.3, 0.4], [0, 0], [[1], [1]], Ladder(Ball(LINF, 1.0), 4))
    pool, attacked = ladder(*arguments, logits=stopping), []
    while not pool.over:
        try:
            attacked += pool.step()
        except Stopped:
            continue
    assert [(one.position, one.iterations) for one in attacked] == [(1, 3), (0, 4)]


def test_a_pool_without_images_is_over() -> None:
    assert ladder([], [], [[]], Ladder(Ball(LINF, 1.0), 4)).over


def test_margins_are_negative_where_another_class_wins() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, -4.0, 1.0]])
    assert torch.equal(margins(logits, torch.tensor([0, 1])), torch.tensor([0.5, -5.0]))
