"""The attacks of torchattacks 3.5.1 at the settings of their papers; imported when an attack runs.

Each function takes the network, the declaration of the attack and the settings of the call. Defaults of torchattacks that
differ from the papers are overridden: 10 iterations instead of 100, all classes as targets instead of 9, and a schedule of
Square that AutoAttack does not use.
"""

from __future__ import annotations

import torchattacks
from torch import nn

from engine.attack.declaration import Attack, AttackSettings


def fgsm(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.FGSM:
    """Build FGSM."""
    return torchattacks.FGSM(network, eps=settings.epsilon)


def pgd(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.PGD:
    """Build PGD."""
    return torchattacks.PGD(network, eps=settings.epsilon, alpha=settings.step_size, steps=attack.steps,
                            random_start=attack.random_start)


def apgd_ce(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.APGD:
    """Build APGD on the cross-entropy."""
    return torchattacks.APGD(network, loss="ce", steps=attack.steps, **_adaptive(attack, settings))


def apgd_t(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.APGDT:
    """Build targeted APGD."""
    return torchattacks.APGDT(network, **_targeted(attack, settings))


def fab_t(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.FAB:
    """Build targeted FAB."""
    return torchattacks.FAB(network, multi_targeted=True, **_targeted(attack, settings))


def square(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.Square:
    """Build Square with the schedule of AutoAttack; torchattacks by default compresses it into the number of queries."""
    return torchattacks.Square(network, n_queries=attack.steps, resc_schedule=False, **_adaptive(attack, settings))


def _adaptive(attack: Attack, settings: AttackSettings) -> dict[str, str | float | int]:
    return {"norm": attack.norm, "eps": settings.epsilon, "n_restarts": attack.restarts, "seed": settings.seed}


def _targeted(attack: Attack, settings: AttackSettings) -> dict[str, str | float | int]:
    # torchattacks attacks n_classes - 1 targets.
    return _adaptive(attack, settings) | {"steps": attack.steps, "n_classes": attack.targets_among(settings.classes) + 1}
