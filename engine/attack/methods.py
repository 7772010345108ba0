"""Running an attack on one batch: the network, its gradients and the random state are the same afterwards.

What torchattacks 3.5.1 leaves to its caller is done here (each point was measured). It overwrites the global seeds, may return
images that require gradients, may leave `.grad` filled and modes changed (a wrapper that is in training mode goes back to it,
and takes the network inside along), and answers wrong dtypes and too few classes with an IndexError or not at all.
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
    """Return adversarial images for one batch. A suite attacks no image again that one of its parts has broken.

    Args:
        attack: the declaration, from `engine.attack.catalogue.ATTACKS`.
        network: x -> logits [B, classes], with any normalisation inside. Its modes, gradients and buffers and the global random
            state are unchanged afterwards, also when `poll` raises.
        x: float32 [B, C, H, W], pixels in 0..1, on the network's device.
        y: int64 [B] labels.
        epsilon: radius of the ball in pixel space, 0..1.
        step_size: step of PGD in pixel space, 0..1; other attacks ignore it.
        classes: number of classes of the dataset.
        seed: seed of every random number of the attack, 0..2**63-1.
        poll: called before each forward pass; may raise StopRequested.
        on_pass: called after each forward pass with the number of passes so far.

    Returns:
        float32 [B, C, H, W] in the ball and in 0..1, without gradient. APGD, FAB and Square return an image unchanged if it
        withstood them.

    Raises:
        ConfigError: too few classes, or tensors that the attack cannot use.
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
    """Check that the attack is defined for this number of classes.

    Raises:
        ConfigError: there are too few.
    """
    if classes < attack.min_classes:
        others = ", ".join(name for name, other in ATTACKS.items() if other.min_classes <= classes)
        raise ConfigError(f"{attack.title} needs at least {attack.min_classes} classes, got {classes}; choose among {others}.")


def builder_of(attack: Attack) -> Builder:
    """Import the builder of an attack."""
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
    # The caller restores the global random state; torchattacks draws from it.
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
