"""Random generators, one for each purpose, and augmentation of whole batches on the device of the batch.

Runs do not store the state of random generators. Instead, each use of random numbers derives a new generator from the run's seed
and a key that names the purpose. Therefore a resumed run draws the same numbers as an uninterrupted run.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.splits import stable_seed
from engine.data.transfer import to_device


def generator_for(seed: int, *key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Create a random generator for one purpose.

    Args:
        seed: seed of the run.
        key: integers and strings that name the purpose, for example ("attack", epoch, step). Equal seeds and keys give equal
            numbers in every process.
        device: device on which the numbers are drawn. CPU and GPU draw different numbers from the same seed.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(stable_seed(seed, *key))
    return generator


def augment(x: Tensor, generator: torch.Generator, crop_padding: int = 0, flip: bool = False, cutout: int = 0,
            blank: Tensor | None = None) -> Tensor:
    """Apply random crop, flip and cutout, in this order, to each image of a batch independently.

    The published training code uses the same order. `x` is not modified.

    Args:
        x: images [B, C, H, W], pixels in 0..1.
        generator: source of all random numbers.
        crop_padding: width in pixels of a black border that is added before a random crop back to H x W; 0 for no crop.
        flip: True to swap left and right with probability 1/2.
        cutout: side in pixels of a square that is blanked (DeVries and Taylor 2017); 0 for no cutout. The centre of the square is
            anywhere in the image, and parts of the square outside the image are ignored.
        blank: colour of the blanked square, [C]; None for black. The published code sets the square to zero after normalisation.
            To reproduce this for a network that normalises, give the mean colour.

    Returns:
        Augmented images [B, C, H, W], pixels in 0..1.
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
    """Draw `count` integers from the uniform distribution over 0..high-1, as a tensor [count] on `device`."""
    return to_device(torch.randint(high, (count,), generator=generator, device=generator.device), device)


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
