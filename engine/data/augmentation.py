"""Random generators by purpose, and augmentation of whole batches on their device.

Runs keep no random state: each use derives its own generator from the run's seed and a key for its purpose, so a resumed run
draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.splits import stable_seed


def generator_for(seed: int, *key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Create a generator for one purpose.

    Args:
        seed: the run's seed.
        key: the purpose, for example ("attack", epoch, step). Equal keys give equal numbers in every process.
        device: device on which the numbers are drawn; CPU and GPU give different streams.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(stable_seed(seed, *key))
    return generator


def augment(x: Tensor, generator: torch.Generator, crop_padding: int = 0, flip: bool = False, cutout: int = 0,
            blank: Tensor | None = None) -> Tensor:
    """Apply random crop, flip and cutout to each image independently, in the order of the published training code.

    Args:
        x: [B, C, H, W], pixels in 0..1.
        generator: the only source of randomness.
        crop_padding: pixels of black border added before cropping back to H x W; 0 for no crop.
        flip: mirror left and right with probability 1/2.
        cutout: side in pixels of a blanked square, centred anywhere in the image and clipped at its edges (DeVries and Taylor
            2017); 0 for none.
        blank: [C], pixel value of the blanked square; None for black. The published code blanks after normalisation, which for a
            network that subtracts the channel means is equivalent to blanking with the mean.

    Returns:
        [B, C, H, W], pixels in 0..1; `x` is not modified.
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
    """Draw [count] uniform integers in 0..high-1."""
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
