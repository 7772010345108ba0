"""The images that an attack run stores: a few natural test images and their adversarial versions. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from engine.attack.catalogue import NATURAL
from engine.errors import RunLogError
from engine.files import open_to_read

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
    try:
        with open_to_read(path) as file:
            table = pq.read_table(file)
        shape = tuple(int(side) for side in table.schema.metadata[b"shape"].split(b","))
        attacks = np.array(table["attack"].to_pylist())
        numbers = np.array(table["image"].to_pylist())
        content = table["pixels"].to_pylist()
        pixels = {str(name): np.stack([np.frombuffer(content[row], "<f4").reshape(shape)
                                       for row in np.flatnonzero(attacks == name)]) for name in dict.fromkeys(attacks.tolist())}
        return Samples(tuple(numbers[attacks == NATURAL].tolist()), pixels)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise RunLogError("results/samples.parquet must be a table of stored images, but it is missing or cannot be read; attack "
                          "the network again to see its images.") from error
