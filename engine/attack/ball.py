"""A ball around an image, in L-infinity or L2. An attack searches for adversarial images in this ball."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.attack.declaration import L2, LINF
from engine.data.transfer import to_device


@dataclass(frozen=True)
class Ball:
    """A ball of radius `epsilon` around an image whose pixels are in 0..1.

    Attributes:
        norm: `LINF` or `L2`, over all pixels and channels of an image.
        epsilon: radius in pixel space.
    """

    norm: str
    epsilon: float

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return x_adv [B, C, H, W], moved into the ball around x and into 0..1.

        In L-infinity, the result is the nearest such point. In L2, a difference x_adv - x longer than epsilon is scaled down to
        length epsilon, and then the pixels are clipped to 0..1.
        """
        if self.norm == LINF:
            return x_adv.clamp(x - self.epsilon, x + self.epsilon).clamp(0, 1)
        difference = x_adv - x
        return (x + difference * (self.epsilon / lengths(difference, L2).clamp(min=1e-12)).clamp(max=1)).clamp(0, 1)

    def contains(self, x_adv: Tensor, x: Tensor, tolerance: float = 1e-6) -> Tensor:
        """Return a bool [B]: True for images with pixels in 0..1 and a distance from x of at most epsilon + `tolerance`."""
        inside = distance(x_adv, x, self.norm) <= self.epsilon + tolerance
        return inside & (x_adv.flatten(1).amin(1) >= 0) & (x_adv.flatten(1).amax(1) <= 1)


def lengths(difference: Tensor, norm: str) -> Tensor:
    """Return the norm of each image in `difference` [B, C, H, W]. The result [B, 1, 1, 1] can be broadcast against images."""
    flat = difference.flatten(1)
    length = flat.abs().amax(1) if norm == LINF else torch.linalg.vector_norm(flat, dim=1)
    return length[:, None, None, None]


def distance(x_adv: Tensor, x: Tensor, norm: str) -> Tensor:
    """Return the distance [B] between images x_adv and x [B, C, H, W]."""
    return lengths(x_adv - x, norm).flatten()


def uniform(seeds: Sequence[int], like: Tensor, purpose: int = 0) -> Tensor:
    """Return uniform random numbers in [0, 1), shaped like `like` [B, ...]. Row i is drawn with the seed seeds[i] + purpose."""
    return _draw(torch.rand, seeds, like, purpose)


def normal(seeds: Sequence[int], like: Tensor, purpose: int = 0) -> Tensor:
    """Return standard normal random numbers, shaped like `like` [B, ...]. Row i is drawn with the seed seeds[i] + purpose."""
    return _draw(torch.randn, seeds, like, purpose)


def _draw(draw: object, seeds: Sequence[int], like: Tensor, purpose: int) -> Tensor:
    # On the CPU, so that every device gets the same numbers.
    rows = [draw(like.shape[1:], generator=torch.Generator().manual_seed((seed + purpose) % 2**63))  # type: ignore[operator]
            for seed in seeds]
    return to_device(torch.stack(rows), like.device) if rows else torch.zeros_like(like)
