"""The learning rate and the drop-path probability at each epoch or step of a training run. Imports no torch."""

from __future__ import annotations

from math import cos, pi

from engine.config.retrain import RetrainConfig, milestone_epochs


def learning_rate(config: RetrainConfig, epoch: int, step: int = 0, steps: int = 1) -> float:
    """Return the learning rate of one training step.

    The schedules, with the full rate lr = `config.learning_rate`, are:

    - step: lr is multiplied by 0.1 at each of `milestone_epochs`.
    - cosine: lr (1 + cos(pi e / E)) / 2, where E is the number of epochs after the warm-up, and e counts these epochs from 0.
    - cyclic: lr min(2 t, 2 - 2 t), where t in 0..1 is the fraction of all steps that are done. The first step therefore has the
      rate 0 (Wong, Rice and Kolter 2020, released code).

    During `warmup_epochs` the rate grows linearly and reaches the full rate at the last warm-up step (Goyal et al. 2017, arXiv
    1706.02677). `milestone_epochs` count from the beginning of the run. A milestone during the warm-up takes effect when the
    warm-up ends.

    Args:
        config: the settings of the run.
        epoch: 0 to epochs - 1.
        step: step in the epoch, 0 to steps - 1.
        steps: number of steps in an epoch.
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
    """Return the drop-path probability in an epoch counted from 0.

    The probability grows linearly from 0 in the first epoch to `config.drop_path` in the last epoch.

    Differs: DARTS divides the epoch by the number of epochs, so that its last epoch does not reach the full value. ARNAS does not
    use drop path.
    """
    return config.drop_path * epoch / max(config.epochs - 1, 1)
