"""Accuracy against the radius of the ball, or against the number of steps, as curves. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from engine.attack.catalogue import ATTACKS
from engine.attack.statistics import wilson
from engine.report.robustness import Measurement


@dataclass(frozen=True)
class Curve:
    """Accuracy of one network under one attack, against a quantity that varies.

    Attributes:
        run, label: attack run, and label of the network.
        sweep: what varies: "epsilon" or "steps".
        attack, title: name and title of the attack.
        norm: norm of the ball.
        points: (radius or number of steps, accuracy with its interval), ascending.
        whole: True for an attack that searches for the nearest adversarial image, so that one search gives every radius.
    """

    run: str
    label: str
    sweep: str
    attack: str
    title: str
    norm: str
    points: tuple[tuple[float, Measurement], ...]
    whole: bool

    @property
    def median_critical(self) -> tuple[float, float] | None:
        """The two neighbouring radii between which half of the images have fallen; None if the curve does not reach one half.

        The median critical radius is the smallest radius at which at least half of the images are misclassified.
        """
        fallen = [radius for radius, result in self.points if result.accuracy <= 0.5]
        if self.sweep != "epsilon" or not fallen:
            return None
        return max((radius for radius, _ in self.points if radius < fallen[0]), default=0.0), fallen[0]


def curves(sweeps: pd.DataFrame, labels: Mapping[str, str]) -> list[Curve]:
    """Return one curve per network and attack.

    Args:
        sweeps: table from `RunLog.sweeps`.
        labels: label of each network by run. Other runs are left out.
    """
    result = []
    for (run, sweep, attack, norm), rows in sweeps[sweeps["run"].isin(list(labels))].groupby(
            ["run", "sweep", "attack", "norm"], sort=False):
        points = tuple((float(row.epsilon if sweep == "epsilon" else row.steps), _measured(int(row.correct), int(row.images)))
                       for row in rows.sort_values(["epsilon", "steps"]).itertuples())
        result.append(Curve(run, labels[run], sweep, attack, rows["title"].iloc[0], norm, points,
                            attack in ATTACKS and ATTACKS[attack].nearest))
    return result


def _measured(correct: int, images: int) -> Measurement:
    return Measurement(correct / images, *wilson(correct, images), correct, images)
