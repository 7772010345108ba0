"""Learning rate and drop-path probability by epoch. Imports no torch."""

from __future__ import annotations

from math import cos, pi

from engine.config import RetrainConfig


def learning_rate(config: RetrainConfig, epoch: int) -> float:
    """The learning rate of epoch 0..epochs-1.

    step: times 0.1 at one half and again at three quarters of the epochs, one epoch early as published (indices 99 and
    149 of 200). cosine: lr (1 + cos(pi e / E)) / 2.
    """
    if config.schedule == "cosine":
        return config.learning_rate * (1 + cos(pi * epoch / config.epochs)) / 2
    drops = (config.epochs // 2 - 1, 3 * config.epochs // 4 - 1)
    return config.learning_rate * 0.1 ** sum(epoch >= max(drop, 1) for drop in drops)


def drop_path(config: RetrainConfig, epoch: int) -> float:
    """The probability of dropping a path in epoch 0..epochs-1: from 0, by equal steps, to `config.drop_path` at the last.

    Differs: DARTS divides by the number of epochs, so that its last epoch stays one step below. ARNAS drops no path.
    """
    return config.drop_path * epoch / max(config.epochs - 1, 1)
