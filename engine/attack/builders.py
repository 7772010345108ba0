"""Functions that build attacks with the settings of their papers, from torchattacks 3.5.1 or from our own code.

This module is imported only when an attack runs, because it imports torchattacks. Each function takes the network, the
declaration of the attack and its settings. It returns a `Walk` (an attack that runs iteration by iteration), or a callable that
turns images and labels into adversarial images.

FGSM, PGD and MI-FGSM come from torchattacks in L-infinity. In L2 they are our own code, because the L2 steps of torchattacks are
too short where gradients are tiny. The attacks of AutoAttack are our own code, too, because in torchattacks
finished images keep their places in a batch, and an interrupted attack cannot resume at an image.
"""

from __future__ import annotations

import torchattacks
from torch import nn

from engine.attack.apgd import APGD
from engine.attack.ball import Ball
from engine.attack.carlini_wagner import CarliniWagner
from engine.attack.declaration import LINF, Attack, AttackSettings
from engine.attack.fab import FAB
from engine.attack.gradient_steps import GradientSteps, cross_entropy, margin_loss
from engine.attack.minimum import FMN
from engine.attack.square import Square


def fgsm(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.FGSM | GradientSteps:
    """Build FGSM, the fast gradient sign method. In L2, build FGM, which takes one step along the normalised gradient."""
    if settings.norm == LINF:
        return torchattacks.FGSM(network, eps=settings.epsilon)
    return GradientSteps(network, _ball(settings), steps=1, step_size=settings.epsilon)


def pgd(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.PGD | GradientSteps:
    """Build PGD (projected gradient descent) with a fixed step size and the cross-entropy as loss."""
    if settings.norm == LINF:
        return torchattacks.PGD(network, eps=settings.epsilon, alpha=settings.step_size, steps=attack.steps,
                                random_start=attack.random_start)
    return GradientSteps(network, _ball(settings), attack.steps, settings.step_size, cross_entropy,
                         random_start=attack.random_start)


def pgd_margin(network: nn.Module, attack: Attack, settings: AttackSettings) -> GradientSteps:
    """Build PGD that maximises the largest wrong logit minus the logit of the label, instead of the cross-entropy."""
    return GradientSteps(network, _ball(settings), attack.steps, settings.step_size, margin_loss,
                         random_start=attack.random_start)


def mi_fgsm(network: nn.Module, attack: Attack, settings: AttackSettings) -> torchattacks.MIFGSM | GradientSteps:
    """Build MI-FGSM with steps of epsilon / steps and decay factor 1 (Dong et al. 2018, sections 3.1 and 4.2)."""
    if settings.norm == LINF:
        return torchattacks.MIFGSM(network, eps=settings.epsilon, alpha=settings.epsilon / attack.steps, steps=attack.steps,
                                   decay=1.0)
    return GradientSteps(network, _ball(settings), attack.steps, settings.epsilon / attack.steps, cross_entropy, decay=1.0)


def apgd(network: nn.Module, attack: Attack, settings: AttackSettings) -> APGD:
    """Build APGD with the loss that the declaration of the attack names."""
    return APGD(_ball(settings), attack.steps, attack.variant["loss"])


def fab_t(network: nn.Module, attack: Attack, settings: AttackSettings) -> FAB:
    """Build targeted FAB."""
    return FAB(_ball(settings), attack.steps)


def square(network: nn.Module, attack: Attack, settings: AttackSettings) -> Square:
    """Build Square with AutoAttack's schedule of square sizes. The schedule does not depend on the number of queries."""
    return Square(_ball(settings), attack.steps)


def carlini_wagner(network: nn.Module, attack: Attack, settings: AttackSettings) -> CarliniWagner:
    """Build the L2 attack of Carlini and Wagner. It tries 9 trade-off constants c, each for `attack.steps` iterations.

    The learning rate is 10 / attack.steps, limited to 0.01..0.1. The authors take 10,000 iterations with a learning rate of 0.01.
    """
    return CarliniWagner(_ball(settings), attack.steps, learning_rate=min(max(10 / attack.steps, 0.01), 0.1))


def fmn(network: nn.Module, attack: Attack, settings: AttackSettings) -> FMN:
    """Build FMN, the fast minimum-norm attack."""
    return FMN(_ball(settings), attack.steps)


def _ball(settings: AttackSettings) -> Ball:
    return Ball(settings.norm, settings.epsilon)
