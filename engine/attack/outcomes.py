"""Outcomes of attacks on single images, as tensors that can be saved in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.attack.ball import distance
from engine.attack.declaration import L2, LINF
from engine.attack.walk import margins

# In this order, so that the worst of several outcomes is the smallest.
UNKNOWN, WRONG, CORRECT = -1, 0, 1
COLUMNS = {"correct": torch.int8, "prediction": torch.int32, "margin": torch.float32, "linf": torch.float32, "l2": torch.float32,
           "iterations": torch.int32, "confidence": torch.float32}


class Outcomes:
    """The outcomes of one stage of an evaluation: an attack, a part of a suite, or the natural predictions. One row per image.

    Attributes:
        columns: {name: tensor [N] on the CPU}, with the columns below.

    Columns:
        correct: `CORRECT`, `WRONG`, or `UNKNOWN` while the image has not been attacked.
        prediction: predicted class at the adversarial image.
        margin: logit of the label minus the largest other logit, at the adversarial image.
        linf, l2: distance between the adversarial and the natural image, in the L-infinity and in the L2 norm.
        iterations: number of iterations spent on the image.
        confidence: softmax probability of the predicted class at the adversarial image, in 0..1; NaN if unknown.
    """

    def __init__(self, images: int) -> None:
        """Start without any outcome."""
        self.columns = {name: torch.zeros(images, dtype=dtype) for name, dtype in COLUMNS.items()}
        self.columns["correct"].fill_(UNKNOWN)
        self.columns["confidence"].fill_(torch.nan)

    @property
    def correct(self) -> Tensor:
        """The column `correct`: `CORRECT`, `WRONG` or `UNKNOWN` for each image, int8 [N]."""
        return self.columns["correct"]

    def record(self, positions: Tensor, x: Tensor, x_adv: Tensor, y: Tensor, logits: Tensor, iterations: Tensor, *,
               beyond: tuple[str, float] | None = None) -> None:
        """Record the outcome of some images.

        Args:
            positions: int64 [n], positions of these images among all images of the evaluation.
            x, x_adv: natural and adversarial images [n, C, H, W].
            y, logits: labels, int64 [n], and the network's logits at x_adv, [n, classes].
            iterations: number of iterations spent on each image, int [n].
            beyond: (norm, epsilon) to count a natural image as correct if its adversarial image is farther away than epsilon.
                None to ignore the distance.
        """
        far = {norm: distance(x_adv, x, norm) for norm in (LINF, L2)}
        prediction = logits.argmax(1)
        correct = prediction == y
        if beyond is not None:
            correct |= far[beyond[0]] > beyond[1] + 1e-6
        values = {"correct": torch.where(correct, CORRECT, WRONG), "prediction": prediction, "margin": margins(logits, y),
                  "linf": far[LINF], "l2": far[L2], "iterations": iterations,
                  "confidence": logits.softmax(1).amax(1)}
        for name, value in values.items():
            self.columns[name][positions] = value.to("cpu", COLUMNS[name])

    def inherit(self, positions: Tensor, before: Outcomes) -> None:
        """Copy the rows of images that an earlier attack has already broken, and set the column `iterations` of these rows to 0.

        Args:
            positions: row numbers of these images.
            before: outcomes of the earlier attack.
        """
        for name, column in self.columns.items():
            column[positions] = before.columns[name][positions]
        self.columns["iterations"][positions] = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the columns."""
        return {name: column.clone() for name, column in self.columns.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the columns from the result of `state_dict`.

        Checkpoints of older versions lack the column `confidence`, which then stays unchanged.
        """
        for name, column in self.columns.items():
            if name in state or name != "confidence":
                column.copy_(state[name])
