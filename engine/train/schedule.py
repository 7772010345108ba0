"""Learning rate and drop-path probability of an epoch or step. Imports no torch."""

from __future__ import annotations

from math import cos, pi

from engine.config.retrain import RetrainConfig, milestone_epochs


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
