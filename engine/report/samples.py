"""The images that a run stores: a few natural images and their adversarial versions. Does not import torch.

An attack run stores images of the test split. A search or a retraining stores those of its first batch, with predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """Stored images of one run.

    Attributes:
        images: positions of the images in the dataset.
        pixels: {name of an attack, or "natural": images [n, C, H, W] in 0..1}. A search or retraining has the attack "training".
        labels: classes of the images.
        predictions: {name of an attack, or "natural": predicted classes}; empty for an attack run, whose outcomes hold them.
        confidences: {the same: probability of the predicted class, 0..1}.
        attack: the attack "training" in words; "" for an attack run.
        step: number of steps that the network had completed; None for an attack run.
    """

    images: tuple[int, ...]
    pixels: Mapping[str, Pixels]
    labels: tuple[int, ...] = ()
    predictions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    confidences: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    attack: str = ""
    step: int | None = None

    def pair(self, image: int, attack: str) -> tuple[Pixels, Pixels]:
        """Return the natural and the adversarial image, each [C, H, W].

        Raises:
            KeyError: no images of this attack are stored.
            ValueError: the image is not stored.
        """
        position = self.images.index(image)
        return self.pixels[NATURAL][position], self.pixels[attack][position]


def read_samples(path: Path) -> Samples:
    """Read results/samples.parquet of a run.

    Raises:
        RunLogError: the file is missing or cannot be read.
    """
    try:
        with open_to_read(path) as file:
            table = pq.read_table(file)
        about = {name.decode(): text.decode() for name, text in (table.schema.metadata or {}).items()}
        shape = tuple(int(side) for side in about["shape"].split(","))
        attacks = np.array(table["attack"].to_pylist())
        numbers = np.array(table["image"].to_pylist())
        content = table["pixels"].to_pylist()
        pixels = {str(name): np.stack([np.frombuffer(content[row], "<f4").reshape(shape)
                                       for row in np.flatnonzero(attacks == name)]) for name in dict.fromkeys(attacks.tolist())}
        natural = attacks == NATURAL
        return Samples(tuple(numbers[natural].tolist()), pixels, tuple(np.array(table["label"].to_pylist())[natural].tolist()),
                       _by_attack(table, "prediction", attacks), _by_attack(table, "confidence", attacks),
                       about.get("title", ""), int(about["step"]) if "step" in about else None)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise RunLogError("results/samples.parquet must be a table of stored images, but it is missing or cannot be read; attack "
                          "the network again to see its images.") from error


def _by_attack(table: pa.Table, column: str, attacks: npt.NDArray[np.str_]) -> dict[str, tuple[Any, ...]]:
    """Return {name of an attack: values of a column}; {} if the table lacks the column."""
    if column not in table.column_names:
        return {}
    values = np.array(table[column].to_pylist())
    return {name: tuple(values[attacks == name].tolist()) for name in dict.fromkeys(attacks.tolist())}
