"""Two kinds of overfitting of an adversarial training, found in its adversarial accuracies by epoch.

Robust overfitting (Rice, Wong and Kolter 2020, arXiv 2002.11569): after some epoch, adversarial accuracy falls on images held out
of training, while it still rises on the training images.

Catastrophic overfitting (Wong, Rice and Kolter 2020, arXiv 2001.03994): the accuracy under the training attack rises, while the
accuracy under a stronger attack falls to almost 0. A Fast-AT training also checks for this within an epoch, on a training batch
(`engine.train.retrain.Retraining.is_collapse`).

The thresholds in this module are our choice, because the papers describe curves and give no numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

FALLEN = 0.05  # how far the accuracy on held-out images must have fallen below its best
MEASUREMENTS = 2  # number of the latest measurements, all after the best one, whose mean must have fallen
NEAR_ZERO = 0.05  # accuracy at which robustness has gone
WAS_ROBUST = 0.2  # accuracy that the network must have had before


class Finding(NamedTuple):
    """An instance of overfitting found in a training. All accuracies are adversarial, in 0..1.

    Attributes:
        kind: "robust overfitting" or "catastrophic overfitting".
        best_epoch: epoch of the highest accuracy on held-out images.
        epoch: the latest measured epoch.
        step: last step of `epoch`.
        best: accuracy on held-out images in `best_epoch`.
        now: accuracy on held-out images in `epoch`. For robust overfitting, this is the mean of the last `MEASUREMENTS`
            accuracies.
        trained_then: accuracy on training batches in `best_epoch`.
        trained_now: accuracy on training batches in `epoch`.
    """

    kind: str
    best_epoch: int
    epoch: int
    step: int
    best: float
    now: float
    trained_then: float
    trained_now: float

    @property
    def sentence(self) -> str:
        """Description of the finding in two sentences."""
        percent = {name: f"{100 * value:.1f} %" for name, value in self._asdict().items() if isinstance(value, float)}
        return (f"{self.kind.capitalize()}: adversarial accuracy on the select split fell from {percent['best']} in epoch "
                f"{self.best_epoch} to {percent['now']}, while on training batches it rose from {percent['trained_then']} to "
                f"{percent['trained_now']}. The checkpoint of epoch {self.best_epoch} is kept.")


def overfitting(table: pd.DataFrame) -> Finding | None:
    """Return the overfitting found in a retraining, or None if there is none.

    Args:
        table: rows of `RunLog.retrained` of one run.
    """
    measured = table.dropna(subset=["measured", "trained"])
    if len(measured) < 2:
        return None
    best, last = measured.loc[measured["measured"].idxmax()], measured.iloc[-1]
    later = measured[measured["epoch"] > best["epoch"]].tail(MEASUREMENTS)
    if later.empty or last["trained"] <= best["trained"]:
        return None
    if best["measured"] >= WAS_ROBUST and last["measured"] <= NEAR_ZERO:
        return _finding("catastrophic overfitting", best, last, float(last["measured"]))
    now = float(later["measured"].mean())
    if len(later) < MEASUREMENTS or best["measured"] - now < FALLEN:
        return None
    return _finding("robust overfitting", best, last, now)


def _finding(kind: str, best: pd.Series, last: pd.Series, now: float) -> Finding:
    return Finding(kind, int(best["epoch"]), int(last["epoch"]), int(last["step"]), float(best["measured"]), now,
                   float(best["trained"]), float(last["trained"]))
