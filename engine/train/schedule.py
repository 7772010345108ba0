"""Learning rate and drop-path probability of an epoch or step. Imports no torch."""

from __future__ import annotations

import re
from fractions import Fraction
from math import cos, pi
from typing import TYPE_CHECKING

from engine.errors import ConfigError, shortened

if TYPE_CHECKING:  # engine.config reads milestones with this module
    from engine.config import RetrainConfig


def milestone_epochs(text: str, epochs: int) -> list[int]:
    """The epochs, counted from 0, from which on the rate of `step` is a tenth of what it was.

    Args:
        text: with commas, each a share of all epochs below 1 ("99/200", "0.5"; rounded down) or a whole number of epochs that
            pass before the drop ("30").
        epochs: of the whole training.

    Raises:
        ConfigError: something else, not ascending, or a drop that would never come.
    """
    advice = 'give shares of the epochs like "1/3, 2/3" or whole numbers of epochs like "30, 60"'
    parts = [part.strip() for part in text.split(",")]
    values = [Fraction(part) for part in parts if re.fullmatch(r"\d{1,5}(\.\d{1,6}|/0*[1-9]\d{0,4})?", part)]
    if len(values) < len(parts) or any(value <= 0 or value > 1 and value.denominator != 1 for value in values):
        raise ConfigError(f"milestones must be shares below 1 or whole numbers above 0, with commas, got {shortened(text)}; "
                          f"{advice}.")
    # The first epoch has the full rate, however short the training.
    found = [int(value) if value >= 1 else max(1, int(value * epochs)) for value in values]
    if sorted(found) != found:
        raise ConfigError(f"milestones must ascend, got {shortened(text)}; {advice}.")
    if values[-1] >= epochs:
        raise ConfigError(f"milestones must lie within the {epochs} epochs, got {shortened(text)}; {advice}.")
    return found


def learning_rate(config: RetrainConfig, epoch: int, step: int = 0, steps: int = 1) -> float:
    """Return the learning rate of step 0..steps-1 of epoch 0..epochs-1.

    Schedules: step multiplies the rate by 0.1 at each of `milestone_epochs`; cosine is lr (1 + cos(pi e / E)) / 2 over the epochs
    after the warm-up; cyclic is lr min(2 t, 2 - 2 t) at progress t in 0..1 of all steps, starting at 0 (Wong, Rice and Kolter
    2020, released code).

    During `warmup_epochs` the rate grows linearly and reaches the full rate at the last warm-up step (Goyal et al. 2017,
    arXiv 1706.02677). Milestones do not move with the warm-up; one inside it takes effect at its end.
    """
    if epoch < config.warmup_epochs:
        return config.learning_rate * (epoch * steps + step + 1) / (config.warmup_epochs * steps)
    if config.schedule == "cyclic":
        progress = (epoch * steps + step) / (config.epochs * steps)
        return config.learning_rate * min(2 * progress, 2 - 2 * progress)
    if config.schedule == "cosine":
        done, whole = epoch - config.warmup_epochs, config.epochs - config.warmup_epochs
        return config.learning_rate * (1 + cos(pi * done / whole)) / 2
    return config.learning_rate * 0.1 ** sum(epoch >= drop for drop in milestone_epochs(config.milestones, config.epochs))


def drop_path(config: RetrainConfig, epoch: int) -> float:
    """Return the drop-path probability of epoch 0..epochs-1: it grows linearly from 0 to `config.drop_path` in the last epoch.

    Differs: DARTS divides by the number of epochs, so that its last epoch stays one step below. ARNAS drops no path.
    """
    return config.drop_path * epoch / max(config.epochs - 1, 1)
