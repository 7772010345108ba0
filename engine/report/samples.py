"""The images that a run stores: a few natural images and their adversarial versions. Does not import torch.

An attack run stores images of the test split. A search or a retraining stores images of its first batch, with the predictions of
the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.attack.catalogue import NATURAL
from engine.log.stored_images import read_images

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Stored images of one run.

    Attributes:
        images: positions of the images in the dataset.
        pixels: {name of an attack, or "natural": images [n, C, H, W] in 0..1}. A search or retraining has the attack "training".
        labels: classes of the images.
        predictions: {name of an attack, or "natural": predicted classes}; empty for an attack run, whose predictions are in its
            table of outcomes.
        confidences: {name of an attack, or "natural": probabilities of the predicted classes, 0..1}; empty like `predictions`.
        attack: description of the attack "training"; "" for an attack run.
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
    about, rows = read_images(path)
    shape = tuple(int(side) for side in about["shape"].split(","))

    def by_attack(value: Callable[[Mapping[str, Any]], Any]) -> dict[str, list[Any]]:
        """Return {name of an attack: list of `value(row)` for all its rows}; {} if `value` returns None for any row."""
        values: dict[str, list[Any]] = {}
        for row in rows:
            values.setdefault(str(row["attack"]), []).append(value(row))
        return {} if any(one is None for each in values.values() for one in each) else values

    pixels = {name: np.stack(each) for name, each in by_attack(
        lambda row: np.frombuffer(row["pixels"], "<f4").reshape(shape)).items()}
    return Samples(tuple(by_attack(lambda row: row["image"]).get(NATURAL, ())), pixels,
                   tuple(by_attack(lambda row: row["label"]).get(NATURAL, ())),
                   {name: tuple(each) for name, each in by_attack(lambda row: row.get("prediction")).items()},
                   {name: tuple(each) for name, each in by_attack(lambda row: row.get("confidence")).items()},
                   about.get("title", ""), int(about["step"]) if "step" in about else None)
