"""Random numbers by purpose, and augmentation of whole batches on their device.

A run keeps no random state: each use derives its own generator from the run's seed and a key that names the use, so a
resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.splits import stable_seed


def generator_for(seed: int, *key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh generator for one purpose.

    Args:
        seed: the run's seed.
        key: the purpose, for example ("attack", epoch, step). Equal keys give equal numbers, in every process.
        device: where the numbers are drawn; the streams of CPU and GPU differ.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(stable_seed(seed, *key))
    return generator


def augment(x: Tensor, generator: torch.Generator, crop_padding: int = 0, flip: bool = False, cutout: int = 0,
            blank: Tensor | None = None) -> Tensor:
    """Random crop, mirror and cutout, each image on its own, in the order of the published training code.

    Args:
        x: [B, C, H, W], pixels in 0..1.
        generator: decides everything.
        crop_padding: pixels of black border before a crop back to H x W; 0 for no crop.
        flip: mirror left and right with probability one half.
        cutout: side in pixels of a square, centred anywhere in the image, that is blanked (DeVries and Taylor 2017);
            what hangs over the edge is lost. 0 for none.
        blank: [C], the pixel of a blanked square; None for black. Where a network subtracts the mean of each channel, the
            published code blanks behind that: with the mean.

    Returns:
        [B, C, H, W], pixels in 0..1; `x` itself is not changed.
    """
    if crop_padding:
        x = _crop(x, generator, crop_padding)
    if flip:
        mirrored = _integers(2, len(x), generator, x.device).bool()
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    if cutout:
        x = _cut(x, generator, cutout, blank)
    return x


def _integers(high: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """[count] uniform integers in 0..high-1."""
    return torch.randint(high, (count,), generator=generator, device=generator.device).to(device)


def _crop(x: Tensor, generator: torch.Generator, padding: int) -> Tensor:
    B, C, H, W = x.shape
    padded = F.pad(x, (padding,) * 4)
    top = _integers(2 * padding + 1, B, generator, x.device)
    left = _integers(2 * padding + 1, B, generator, x.device)
    rows = (top[:, None] + torch.arange(H, device=x.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(W, device=x.device))[:, None, None, :]
    image = torch.arange(B, device=x.device)[:, None, None, None]
    channel = torch.arange(C, device=x.device)[None, :, None, None]
    return padded[image, channel, rows, columns]


def _cut(x: Tensor, generator: torch.Generator, side: int, blank: Tensor | None) -> Tensor:
    B, _, H, W = x.shape
    top = _integers(H, B, generator, x.device)[:, None] - side // 2
    left = _integers(W, B, generator, x.device)[:, None] - side // 2
    rows, columns = torch.arange(H, device=x.device), torch.arange(W, device=x.device)
    in_rows = (rows >= top) & (rows < top + side)
    in_columns = (columns >= left) & (columns < left + side)
    square = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    return x.masked_fill(square, 0.0) if blank is None else torch.where(square, blank.to(x)[:, None, None], x)
