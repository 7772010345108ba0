"""Learning rate and drop-path probability by epoch, and by step where the schedule has steps. Imports no torch."""

from __future__ import annotations

from math import cos, pi

from engine.config.retrain import RetrainConfig, milestone_epochs


def learning_rate(config: RetrainConfig, epoch: int, step: int = 0, steps: int = 1) -> float:
    """The learning rate of step 0..steps-1 of epoch 0..epochs-1.

    step: times 0.1 at each of `milestone_epochs`. cosine: lr (1 + cos(pi e / E)) / 2 over the epochs behind the warm-up.
    cyclic: at progress t in 0..1 of all steps lr min(2 t, 2 - 2 t), beginning with 0 (Wong, Rice and Kolter 2020, released
    code).

    In `warmup_epochs` the rate grows by equal steps to the full one, which the last warm-up step has (Goyal et al. 2017,
    arXiv 1706.02677); the drops of `step` stay where they are, and one that lies inside the warm-up counts from its end.
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
    """The probability of dropping a path in epoch 0..epochs-1: from 0, by equal steps, to `config.drop_path` at the last.

    Differs: DARTS divides by the number of epochs, so that its last epoch stays one step below. ARNAS drops no path.
    """
    return config.drop_path * epoch / max(config.epochs - 1, 1)
