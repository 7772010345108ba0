"""Square, an attack by random search that needs no gradient.

Andriushchenko et al. 2020, arXiv 1912.00049, with the margin loss. Every query changes the pixels in a square at a random place.
The change is kept if the margin becomes smaller. All random numbers of a run are drawn at the start of the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from engine.attack.ball import Ball, lengths, uniform
from engine.attack.declaration import L2, LINF
from engine.attack.walk import State, Walk, margins

TINY = 1e-24  # smallest square of a length that is divided by
# Queries after which the share of pixels in a square halves, in the authors' code for a search of 10,000 queries.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Columns of a plan: which bump (twice the number of halvings, plus 1 if it is transposed), side and upper left corner of the
# square, corner of the window that L2 clears. The signs of the channels follow.
BUMP, SIDE, ROW, CLEARED_ROW, COLUMN, CLEARED_COLUMN, SIGNS = range(7)


class Square(Walk):
    """Square attack in L-infinity (paper, Algorithm 2) or L2 (Algorithm 3), untargeted.

    A run evaluates the network `iterations + 1` times: at the random start and once per query. The squares become smaller
    according to the published schedule, regardless of the number of queries, as in AutoAttack.

    Differs: every image has its own squares. The code of AutoAttack and torchattacks draws one square per query for the whole
    batch, so that the result of an image depends on the other images.
    Differs: squares may touch the last row and the last column, as in the paper. In the code of the authors, of AutoAttack and of
    torchattacks, they never do. This matters for small images.
    Differs: in L2, the length of the change in a channel is computed from the windows of this channel, as in Algorithm 3 and the
    authors' code. AutoAttack and torchattacks use the windows of all channels.
    Differs: squares are never larger than the shorter side of the image, so small images work, too (torchattacks crashes in L2
    below 5 pixels).
    """

    differentiates = False

    def __init__(self, ball: Ball, iterations: int, initial_share: float = 0.8) -> None:
        """Prepare the attack.

        Args:
            ball: ball that contains the adversarial images.
            iterations: number of queries after the start. AutoAttack takes 5,000.
            initial_share: fraction of the pixels that a square covers in the first queries, 0..1.
        """
        super().__init__(ball, iterations)
        self.initial_share = initial_share

    def begin(self, x: Tensor, y: Tensor, target: Tensor, seeds: Sequence[int]) -> State:
        start = self._stripes(x, seeds) if self.ball.norm == LINF else self._tiles(x, seeds)
        return {"point": start, "held": x.clone(), "held_margin": torch.full((len(x),), torch.inf, device=x.device),
                "query": torch.zeros_like(y), "plan": self._plan(x, seeds)}

    def advance(self, state: State, logits: Tensor, loss: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Keep each new point whose margin is lower than the lowest so far. Then make the change of the next query.

        Return a bool [n], True for runs (attempts on an image) that have ended.
        """
        margin = margins(logits, state["y"])
        better = margin < state["held_margin"]
        state["held"] = torch.where(better[:, None, None, None], state["point"], state["held"])
        state["held_margin"] = torch.where(better, margin, state["held_margin"])
        over = state["query"] >= self.iterations
        if not bool(over.all()):
            query = state["query"].clamp(max=self.iterations - 1)
            plan = state["plan"][torch.arange(len(query), device=query.device), query].long()
            repainted = self._square if self.ball.norm == LINF else self._windows
            state["point"] = repainted(state["held"], state["x"], plan)
        state["query"] = state["query"] + 1
        return over

    def _plan(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw in advance the random choices of all queries of the attack on images x [n, C, H, W].

        Returns:
            int16 [n, iterations, SIGNS + C]. The last dimension holds the choices of one query. The first `SIGNS` entries are
            size, shape and corners of the changed windows. One sign per channel follows.
        """
        _, channels, height, width = x.shape
        halved = (torch.arange(self.iterations, device=x.device)[:, None] > torch.tensor(HALVINGS, device=x.device)).sum(1)
        side = torch.tensor(self._sides(height, width), dtype=torch.int16, device=x.device)[halved]
        numbers = uniform(seeds, x.new_empty(len(x), self.iterations, SIGNS - ROW + channels + 1))
        choices = torch.stack([height - side + 1] * 2 + [width - side + 1] * 2 + [torch.full_like(side, 2)] * (channels + 1), 1)
        drawn = (numbers * choices).to(torch.int16).minimum(choices - 1)  # rounding may bring a product up to the bound
        corners, signs, transposed = drawn.split([SIGNS - ROW, channels, 1], 2)
        sides = side[:, None].expand_as(transposed)
        return torch.cat([2 * halved[:, None].to(torch.int16) + transposed, sides, corners, 2 * signs - 1], 2)

    def _sides(self, height: int, width: int) -> tuple[int, ...]:
        return _sides(self.initial_share, height, width, self.ball.norm)

    def _stripes(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the start points in L-infinity: x plus vertical stripes of random signs."""
        return (x + self.ball.epsilon * _signs(uniform(seeds, x[:, :, :1], purpose=1))).clamp(0, 1)

    def _tiles(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the start points in L2: x plus a grid of bumps (see `bump`).

        The grid is 5 x 5 for square images of at least 15 x 15.
        """
        count, channels, height, width = x.shape
        side = max(min(height, width) // 5, 1)
        margin = max((min(height, width) - 5 * side) // 2, 0)
        rows, columns = (height - margin) // side, (width - margin) // side
        numbers = uniform(seeds, x.new_empty(count, 1 + channels, rows, columns), purpose=1)
        upright, transposed = _bumps((side,), side, x.device).to(x.dtype)[:, :, None]
        numbers = numbers[:, :, :, None, :, None]
        tiles = torch.where(numbers[:, :1] < 0.5, upright, transposed) * _signs(numbers[:, 1:])
        difference = torch.zeros_like(x)
        difference[:, :, margin:margin + rows * side, margin:margin + columns * side] = tiles.reshape(
            count, channels, rows * side, columns * side)
        return self._scaled(difference, x)

    def _square(self, held: Tensor, x: Tensor, plan: Tensor) -> Tensor:
        """Return the images `held`, each changed in one square.

        In the square, pixels become x plus or minus epsilon, with one sign per channel.

        Args:
            held: the best adversarial images so far, [n, C, H, W].
            x: the natural images, [n, C, H, W].
            plan: random place of the square and signs of the channels for each image, in the columns that `_plan` describes.
        """
        (inside,) = _inside(_offsets(plan[:, ROW:SIGNS:2], x), plan, x)
        return torch.where(inside, (x + self.ball.epsilon * plan[:, SIGNS:, None, None]).clamp(0, 1), held)

    def _windows(self, held: Tensor, x: Tensor, plan: Tensor) -> Tensor:
        """Return the images `held`, each changed in two windows (Algorithm 3).

        In the second window, the pixels are set back to x. In the first window, the difference from x is scaled to length 1, and
        a bump is added to it. The sum is then scaled. Its new squared length in a channel is the squared length of the old
        differences in both windows, plus an equal share of the squared length that the ball leaves unused.

        Args:
            held, x: the best adversarial images so far, and the natural images, [n, C, H, W].
            plan: random places of the windows, form of the bump, and signs of the channels for each image, in the columns that
                `_plan` describes.
        """
        offsets = _offsets(plan[:, ROW:SIGNS], x)
        first, second = _inside(offsets, plan, x)
        either, difference = first | second, held - x
        squares, in_first = difference.square(), first.to(x.dtype)
        unused = (self.ball.epsilon ** 2 - squares.sum((1, 2, 3), keepdim=True)).clamp(min=0)
        available = (squares * either.to(x.dtype)).sum((2, 3), keepdim=True) + unused / x.shape[1]
        old = difference * (squares * in_first).sum((2, 3), keepdim=True).clamp(min=TINY).rsqrt()
        new = (self._bump(offsets, plan, x) * plan[:, SIGNS:, None, None] + old) * in_first
        new = new * (available / new.square().sum((2, 3), keepdim=True).clamp(min=TINY)).sqrt()
        return self._scaled(torch.where(either, new, difference), x)

    def _bump(self, offsets: Tensor, plan: Tensor, x: Tensor) -> Tensor:
        """Return the bump of Algorithm 3 that each image gets in its first window, [n, 1, H, W].

        Values outside the window are arbitrary.
        """
        height, width = x.shape[2:]
        bumps = _bumps(self._sides(height, width), max(height, width), x.device)
        row, column = offsets[:, 0, :height, None], offsets[:, 2, None, :width]
        places = (plan[:, BUMP, None, None] * bumps.shape[1] + row) * bumps.shape[2] + column
        return bumps.take(places.clamp(min=0))[:, None].to(x.dtype)

    def _scaled(self, difference: Tensor, x: Tensor) -> Tensor:
        return (x + difference * (self.ball.epsilon / lengths(difference, L2).clamp(min=1e-12))).clamp(0, 1)


@lru_cache(maxsize=16)
def _sides(initial_share: float, height: int, width: int, norm: str) -> tuple[int, ...]:
    """Return the side lengths of the squares in pixels. Entry k applies after the share of pixels has been halved k times.

    In L2, side lengths are odd and at least 3, unless the image is smaller.
    """
    pixels = [initial_share / 2 ** halved * height * width for halved in range(len(HALVINGS) + 1)]
    sides = [max(round(math.sqrt(count)), 1) for count in pixels]
    if norm == L2:
        sides = [max(side, 3) // 2 * 2 + 1 for side in sides]
    return tuple(min(side, height, width) for side in sides)


def _offsets(corners: Tensor, x: Tensor) -> Tensor:
    """Return the distance of every row (or column) from the first row (or column) of each window, [n, k, max(H, W)].

    The distance is negative before the window.

    Args:
        corners: index of the first row (or column) of each of k windows per image, [n, k].
        x: images [n, C, H, W].
    """
    return torch.arange(max(x.shape[2:]), dtype=corners.dtype, device=x.device) - corners[:, :, None]


def _inside(offsets: Tensor, plan: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Return k masks, bool [n, 1, H, W], one for each of the k square windows in an image. Each is True inside its window.

    Args:
        offsets: row numbers relative to the corners of the k windows, followed by column numbers relative to these corners,
            [n, 2 k, max(H, W)], from `_offsets`.
        plan: random choices of the current query for each image, including the side length of the windows.
        x: images [n, C, H, W].
    """
    height, width = x.shape[2:]
    rows, columns = ((offsets >= 0) & (offsets < plan[:, SIDE, None, None])).chunk(2, 1)
    inside: tuple[Tensor, ...] = (rows[:, :, :height, None] & columns[:, :, None, :width]).split(1, 1)
    return inside


def _signs(numbers: Tensor) -> Tensor:
    """Convert uniform random numbers in 0..1 to random signs, -1 or 1."""
    return (numbers < 0.5).to(numbers.dtype) * 2 - 1


@lru_cache(maxsize=16)
def _bumps(sides: tuple[int, ...], extent: int, device: torch.device) -> Tensor:
    """Return a bump for each side length, and the transpose of each bump. The L2 attack adds a bump to the pixels of a window.

    Returns:
        [2 * number of sides, extent, extent]. Each bump is followed by its transpose. Each is in the upper left corner of an
        extent x extent matrix, whose other entries are 0.
    """
    table = torch.zeros(len(sides), 2, extent, extent)
    for bumps, side in zip(table, sides, strict=True):
        bumps[0, :side, :side] = bump(side)
        bumps[1, :side, :side] = bump(side).T
    return table.flatten(0, 1).to(device)


def bump(side: int) -> Tensor:
    """Return the change that the L2 attack makes in a window, [side, side], scaled to length 1 (paper, section 3.4).

    It consists of a hill in the upper half and a hollow in the lower half.
    """
    hills = torch.cat([_hill(side // 2, side), -_hill(side - side // 2, side)])
    return hills / hills.square().sum().sqrt()


def _hill(rows: int, columns: int) -> Tensor:
    """Return a hill [rows, columns], scaled to length 1.

    At Chebyshev distance d from the centre, the height before scaling is the sum of 1 / j^2 over j = d + 1, d + 2, ...
    """
    reach = max(rows, columns) // 2 + 1
    heights = torch.arange(1, reach + 1).pow(-2.0).flip(0).cumsum(0).flip(0)
    down, across = (torch.arange(extent).sub(extent // 2).abs() for extent in (rows, columns))
    hill = heights[torch.maximum(down[:, None], across)]
    return hill / hill.square().sum().sqrt()
