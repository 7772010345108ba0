"""Running an attack on one batch. Afterwards the network, its gradients and the global random state are unchanged.

This module handles what torchattacks 3.5.1 leaves to its caller; each point was confirmed by experiment. torchattacks
overwrites the global seeds. It may return images that require gradients. It may fill the `.grad` of parameters. It may change the
modes of modules, because after an attack it puts the module that it was given, and every module inside, into the mode that the
outermost module had before. It reports wrong dtypes and too few classes with an IndexError, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

import torch
from torch import Tensor, nn

from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import Attack, AttackSettings
from engine.attack.guard import Watched, attacked, under_attack
from engine.attack.pgd import project
from engine.errors import ConfigError

Builder = Callable[[nn.Module, Attack, AttackSettings], Callable[[Tensor, Tensor], Tensor]]


def run_attack(attack: Attack, network: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, step_size: float, classes: int,
               seed: int, poll: Callable[[], None] = lambda: None,
               on_pass: Callable[[int], None] = lambda passes: None) -> Tensor:
    """Return adversarial images for one batch.

    A suite such as AutoAttack runs its parts in order. Each part attacks only the images on which all earlier parts failed.

    Args:
        attack: declaration of the attack, from `engine.attack.catalogue.ATTACKS`.
        network: network that maps pixels in 0..1 to logits [B, classes]. Any normalisation happens inside the network. Its modes,
            gradients and buffers and the global random state are unchanged afterwards, even if `poll` raises.
        x: images, float32 [B, C, H, W], pixels in 0..1, on the network's device.
        y: labels, int64 [B], on the network's device.
        epsilon: radius of the ball around each image, with pixels in 0..1.
        step_size: length of one PGD step, with pixels in 0..1. Other attacks ignore it.
        classes: number of classes of the dataset.
        seed: seed for all random numbers of the attack, 0..2**63-1.
        poll: function called before each forward pass; it may raise StopRequested.
        on_pass: function called after each forward pass with the number of passes so far.

    Returns:
        Adversarial images, float32 [B, C, H, W], within epsilon of x and in 0..1, which require no gradient. APGD, FAB and Square
        return an image unchanged if they cannot make the network misclassify it.

    Raises:
        ConfigError: the attack needs more classes, or a tensor has an unsuitable dtype, shape, device or range of values.
    """
    check_classes(attack, classes)
    _check_tensors(network, x, y)
    if not len(x):
        return x.clone()
    settings = AttackSettings(epsilon, step_size, classes, seed)
    with under_attack(network):
        watched = Watched(network, poll, on_pass, attacked(network))
        return (_cascade if attack.parts else _attack_batch)(attack, watched, x, y, settings)


def check_classes(attack: Attack, classes: int) -> None:
    """Check that a dataset has enough classes for an attack.

    Raises:
        ConfigError: the dataset has fewer classes than the attack needs.
    """
    if classes < attack.min_classes:
        others = ", ".join(name for name, other in ATTACKS.items() if other.min_classes <= classes)
        raise ConfigError(f"{attack.title} needs at least {attack.min_classes} classes, got {classes}; choose among {others}.")


def builder_of(attack: Attack) -> Builder:
    """Import and return the function that builds an attack, named by `attack.builder`."""
    module, _, name = attack.builder.partition(":")
    return cast(Builder, getattr(import_module(module), name))


def _cascade(suite: Attack, network: Watched, x: Tensor, y: Tensor, settings: AttackSettings) -> Tensor:
    x_adv, standing = x.clone(), torch.arange(len(x), device=x.device)
    for part in suite.parts:
        if not len(standing):
            break
        tried = _attack_batch(part, network, x[standing], y[standing], settings)
        with torch.no_grad():
            broken = network.network(tried).argmax(1) != y[standing]  # the network itself decides, not its frozen form
        x_adv[standing[broken]] = tried[broken]
        standing = standing[~broken]
    return x_adv


def _attack_batch(attack: Attack, network: Watched, x: Tensor, y: Tensor, settings: AttackSettings) -> Tensor:
    # torchattacks draws from the global random state, which the caller restores.
    torch.manual_seed(settings.seed)
    attack_images = builder_of(attack)(network, attack, settings)
    return project(attack_images(x, y).detach(), x, settings.epsilon)


def _check_tensors(network: nn.Module, x: Tensor, y: Tensor) -> None:
    parameter = next(network.parameters(), None)
    if parameter is None:
        raise ConfigError("An attack needs a network with parameters (they name its device), got none; add a layer.")
    if x.dtype != torch.float32 or parameter.dtype != torch.float32:
        raise ConfigError(f"Attacks run in float32, got images {x.dtype} and a network {parameter.dtype}; convert both.")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ConfigError(f"Labels must be int64 of shape {tuple(x.shape[:1])}, got {y.dtype} of shape {tuple(y.shape)}; "
                          f"convert them.")
    if x.device != parameter.device or y.device != parameter.device:
        raise ConfigError(f"Images and labels must be on the network's device {parameter.device}, got {x.device} and "
                          f"{y.device}; move them.")
    if len(x) and (x.min() < 0 or x.max() > 1):
        raise ConfigError(f"Pixels must be in 0..1, got {x.min():g} to {x.max():g}; put normalisation inside the network.")
