"""The attacks themselves, through torchattacks 3.5.1, with its traps closed.

Closed here (measured, torchattacks 3.5.1): iterations default to 10 instead of 100; targets run over all classes instead
of 9; the schedule of Square is not that of AutoAttack; global seeds are overwritten; results may require gradients; an
attack may leave modes and `.grad` changed (it puts a wrapper that says "training" back into training, and the network inside
with it); wrong dtypes and too few classes fail with an IndexError or not at all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchattacks
from torch import Tensor, nn

from engine.attack import Attack
from engine.attack.guard import Watched, attacked, under_attack
from engine.attack.pgd import project
from engine.errors import ConfigError


def run_attack(attack: Attack, network: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, step_size: float, classes: int,
               seed: int, poll: Callable[[], None] = lambda: None,
               on_pass: Callable[[int], None] = lambda passes: None) -> Tensor:
    """Adversarial images for one batch. A suite is run as its cascade: a broken image is not attacked again.

    Args:
        attack: from `engine.attack.ATTACKS`.
        network: x -> logits [B, classes], normalisation inside. Its mode, gradients, buffers and the global random
            state are as found afterwards, also when `poll` raises.
        x: float32 [B, C, H, W], pixels in 0..1, on the network's device.
        y: int64 [B] labels.
        epsilon: L-infinity radius, pixel space.
        step_size: of PGD, pixel space; ignored by the others.
        classes: of the dataset.
        seed: of every random number of the attack, 0..2**63-1.
        poll: called before each forward pass; may raise StopRequested.
        on_pass: called after each forward pass with their number so far.

    Returns:
        float32 [B, C, H, W] in the ball and in 0..1, without gradient. An image that withstood APGD, FAB or Square
        comes back as it went in.

    Raises:
        ConfigError: too few classes, or tensors the attack cannot take.
    """
    check_classes(attack, classes)
    _check_tensors(network, x, y)
    if not len(x):
        return x.clone()
    with under_attack(network):
        watched = Watched(network, poll, on_pass, attacked(network))
        if attack.parts:
            return _cascade(attack, watched, x, y, epsilon=epsilon, step_size=step_size, classes=classes, seed=seed)
        return _attack_batch(attack, watched, x, y, epsilon, step_size, classes, seed)


def check_classes(attack: Attack, classes: int) -> None:
    """Raises ConfigError when the attack's loss is not defined for so few classes."""
    if classes < attack.min_classes:
        raise ConfigError(f"{attack.title} needs at least {attack.min_classes} classes, got {classes}; use fgsm, pgd-20, "
                          f"fab-t or square instead.")


def expected_passes(attack: Attack, classes: int) -> int:
    """Forward passes over one batch when no image breaks: an upper bound for progress, right to a few passes."""
    targets = min(attack.targets, classes - 1)
    per_run = {"apgd-ce": attack.steps + 1, "apgd-t": targets * (attack.steps + 2),
               "fab-t": targets * (2 * attack.steps + 3), "square": attack.steps + 2}
    return per_run.get(attack.name, attack.steps) + 1


def _cascade(suite: Attack, network: Watched, x: Tensor, y: Tensor, **settings: float | int) -> Tensor:
    x_adv, standing = x.clone(), torch.arange(len(x), device=x.device)
    for part in suite.parts:
        if not len(standing):
            break
        tried = _attack_batch(part, network, x[standing], y[standing], **settings)  # type: ignore[arg-type]
        with torch.no_grad():
            broken = network.network(tried).argmax(1) != y[standing]  # the network itself decides, not its frozen form
        x_adv[standing[broken]] = tried[broken]
        standing = standing[~broken]
    return x_adv


def _attack_batch(attack: Attack, network: Watched, x: Tensor, y: Tensor, epsilon: float, step_size: float, classes: int,
                  seed: int) -> Tensor:
    # The caller restores the global random state; torchattacks draws from it.
    torch.manual_seed(seed)
    built = _build(attack, network, epsilon, step_size, classes, seed)
    return project(built(x, y).detach(), x, epsilon)


def _build(attack: Attack, network: Watched, epsilon: float, step_size: float, classes: int,
           seed: int) -> torchattacks.attack.Attack:
    adaptive = {"norm": attack.norm, "eps": epsilon, "n_restarts": attack.restarts, "seed": seed}
    # torchattacks aims at n_classes - 1 targets.
    targeted = adaptive | {"steps": attack.steps, "n_classes": min(attack.targets, classes - 1) + 1}
    if attack.name == "fgsm":
        return torchattacks.FGSM(network, eps=epsilon)
    if attack.name.startswith("pgd-"):
        return torchattacks.PGD(network, eps=epsilon, alpha=step_size, steps=attack.steps, random_start=attack.random_start)
    if attack.name == "apgd-ce":
        return torchattacks.APGD(network, loss="ce", steps=attack.steps, **adaptive)
    if attack.name == "apgd-t":
        return torchattacks.APGDT(network, **targeted)
    if attack.name == "fab-t":
        return torchattacks.FAB(network, multi_targeted=True, **targeted)
    if attack.name == "square":
        # As AutoAttack has it: torchattacks by default squeezes the schedule of the squares' size into the queries.
        return torchattacks.Square(network, n_queries=attack.steps, resc_schedule=False, **adaptive)
    raise ValueError(f"attack {attack.name!r} is registered but has no code")


def _check_tensors(network: nn.Module, x: Tensor, y: Tensor) -> None:
    parameter = next(network.parameters(), None)
    if parameter is None:
        raise ConfigError("An attack needs a network with parameters (they name its device), got none; give it a layer.")
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
