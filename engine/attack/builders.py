"""The attacks at the settings of their papers, those of torchattacks 3.5.1 and our own; imported when an attack runs.

Each function takes the network, the declaration of the attack and the settings of the call. It returns a callable from images
and labels to adversarial images, or a `Walk`. Defaults of torchattacks that differ from the papers are overridden: 10 iterations
instead of 100, all classes as targets instead of 9, and a schedule of Square that AutoAttack does not use.

Gradient steps in L2 are our own: those of torchattacks are short where gradients are tiny, as on confident networks.
"""

from __future__ import annotations

import torchattacks
from torch import nn

from engine.attack.ball import Ball
from engine.attack.carlini_wagner import CarliniWagner
from engine.attack.declaration import LINF, Attack, AttackSettings
from engine.attack.gradient_steps import GradientSteps, cross_entropy, margin_loss
from engine.attack.minimum import FMN


def fgsm(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.FGSM | GradientSteps:
    """Build FGSM; in L2 one step along the normalised gradient (FGM)."""
    if settings.norm == LINF:
        return torchattacks.FGSM(network, eps=settings.epsilon)
    return GradientSteps(network, _ball(settings), steps=1, step_size=settings.epsilon)


def pgd(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.PGD | GradientSteps:
    """Build PGD on the cross-entropy."""
    if settings.norm == LINF:
        return torchattacks.PGD(network, eps=settings.epsilon, alpha=settings.step_size, steps=attack.steps,
                                random_start=attack.random_start)
    return GradientSteps(network, _ball(settings), attack.steps, settings.step_size, cross_entropy, seed=_start(attack, settings))


def pgd_margin(network: nn.Module, attack: Attack, settings: AttackSettings) -> GradientSteps:
    """Build PGD on the margin, whose gradients do not vanish on confident networks."""
    return GradientSteps(network, _ball(settings), attack.steps, settings.step_size, margin_loss, seed=_start(attack, settings))


def mi_fgsm(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.MIFGSM | GradientSteps:
    """Build MI-FGSM with steps of epsilon / steps and decay factor 1 (Dong et al. 2018, sections 3.1 and 4.2)."""
    if settings.norm == LINF:
        return torchattacks.MIFGSM(network, eps=settings.epsilon, alpha=settings.epsilon / attack.steps, steps=attack.steps,
                                   decay=1.0)
    return GradientSteps(network, _ball(settings), attack.steps, settings.epsilon / attack.steps, cross_entropy, decay=1.0)


def carlini_wagner(network: nn.Module, attack: Attack, settings: AttackSettings) -> CarliniWagner:
    """Build the L2 attack of Carlini and Wagner with 9 search steps of `attack.steps` iterations.

    The learning rate is 10 / steps within 0.01..0.1: few iterations need longer steps than the authors' 0.01 for 10,000.
    """
    return CarliniWagner(_ball(settings), attack.steps, learning_rate=min(max(10 / attack.steps, 0.01), 0.1))


def fmn(network: nn.Module, attack: Attack, settings: AttackSettings) -> FMN:
    """Build FMN."""
    return FMN(_ball(settings), attack.steps)


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


def _ball(settings: AttackSettings) -> Ball:
    return Ball(settings.norm, settings.epsilon)


def _start(attack: Attack, settings: AttackSettings) -> int | None:
    return settings.seed if attack.random_start else None


def _adaptive(attack: Attack, settings: AttackSettings) -> dict[str, str | float | int]:
    return {"norm": attack.norm, "eps": settings.epsilon, "n_restarts": attack.restarts, "seed": settings.seed}


def _targeted(attack: Attack, settings: AttackSettings) -> dict[str, str | float | int]:
    # torchattacks attacks n_classes - 1 targets.
    return _adaptive(attack, settings) | {"steps": attack.steps, "n_classes": attack.targets_among(settings.classes) + 1}
