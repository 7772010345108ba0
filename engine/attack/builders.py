"""Functions that build the attacks of torchattacks 3.5.1 with the settings of their papers.

This module imports torchattacks, so it is itself imported only when an attack runs. Each function takes the network, the
declaration of the attack and the settings of the call, and returns an attack ready to call.

By default, torchattacks runs 10 iterations (100 in the papers), targets all wrong classes (9 in the papers), and gives Square a
schedule that AutoAttack does not use. The functions override these three defaults.
"""

from __future__ import annotations

import torchattacks
from torch import nn

from engine.attack.declaration import Attack, AttackSettings


def fgsm(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.FGSM:
    """Build FGSM, the fast gradient sign method, which takes a single step."""
    return torchattacks.FGSM(network, eps=settings.epsilon)


def pgd(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.PGD:
    """Build PGD, projected gradient descent with a fixed step size."""
    return torchattacks.PGD(network, eps=settings.epsilon, alpha=settings.step_size, steps=attack.steps,
                            random_start=attack.random_start)


def apgd_ce(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.APGD:
    """Build APGD-CE: APGD (PGD with an adaptive step size) on the cross-entropy loss."""
    return torchattacks.APGD(network, loss="ce", steps=attack.steps, **_adaptive(attack, settings))


def apgd_t(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.APGDT:
    """Build APGD-T, which runs APGD (PGD with an adaptive step size) towards one wrong class after another."""
    return torchattacks.APGDT(network, **_targeted(attack, settings))


def fab_t(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.FAB:
    """Build FAB-T, which runs FAB (fast adaptive boundary) towards one wrong class after another."""
    return torchattacks.FAB(network, multi_targeted=True, **_targeted(attack, settings))


def square(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.Square:
    """Build Square, a random search without gradients, with the schedule of square sizes that AutoAttack uses.

    By default, torchattacks would rescale that schedule to the number of queries.
    """
    return torchattacks.Square(network, n_queries=attack.steps, resc_schedule=False, **_adaptive(attack, settings))


def _adaptive(attack: Attack, settings: AttackSettings) -> dict[str, str | float | int]:
    return {"norm": settings.norm, "eps": settings.epsilon, "n_restarts": attack.restarts, "seed": settings.seed}


def _targeted(attack: Attack, settings: AttackSettings) -> dict[str, str | float | int]:
    # torchattacks targets n_classes - 1 classes, so the argument is one more than the number of targets.
    return _adaptive(attack, settings) | {"steps": attack.steps, "n_classes": attack.targets_among(settings.classes) + 1}
