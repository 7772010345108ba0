"""The images that an attack run stores: a few natural test images and their adversarial versions. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.attack.catalogue import NATURAL
from engine.log.stored_images import read_images

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Stored images of one attack run.

    Attributes:
        images: positions of the images in the dataset.
        pixels: {name of an attack, or "natural": images [n, C, H, W] in 0..1}.
    """

    images: tuple[int, ...]
    pixels: Mapping[str, Pixels]

    def pair(self, image: int, attack: str) -> tuple[Pixels, Pixels]:
        """Return the natural and the adversarial image, each [C, H, W].

        Raises:
            KeyError: no images of this attack are stored.
            ValueError: the image is not stored.
        """
        position = self.images.index(image)
        return self.pixels[NATURAL][position], self.pixels[attack][position]


def read_samples(path: Path) -> Samples:
    """Read results/samples.parquet of an attack run.

    Raises:
        RunLogError: the file is missing or cannot be read.
    """
    shape, rows = read_images(path)
    pixels = {attack: np.stack([np.frombuffer(content, "<f4").reshape(shape) for _, name, content in rows if name == attack])
              for attack in dict.fromkeys(name for _, name, _ in rows)}
    return Samples(tuple(image for image, name, _ in rows if name == NATURAL), pixels)
