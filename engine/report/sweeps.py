"""Curves of accuracy against the radius of the ball or the number of attack steps. This module does not import torch."""

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
        run: id of the attack run.
        label: label of the network.
        sweep: the quantity that varies, "epsilon" (the radius) or "steps".
        attack: name of the attack.
        title: title of the attack.
        norm: norm of the ball.
        points: pairs (radius or number of steps, accuracy with its interval), in ascending order of their first entries.
        whole: True if the attack searches for the nearest adversarial image. A single run of the attack then gives the accuracy
            at all radii.
    """

    run: str
    label: str
    sweep: str
    attack: str
    title: str
    norm: str
    points: tuple[tuple[float, Measurement], ...]
    whole: bool


def curves(sweeps: pd.DataFrame, labels: Mapping[str, str]) -> list[Curve]:
    """Return one curve per network and attack.

    Args:
        sweeps: table from `RunLog.sweeps`.
        labels: {id of an attack run: label of its network}. Other runs are left out.
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
