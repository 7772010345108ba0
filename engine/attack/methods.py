"""Functions that run an attack. Afterwards the network, its gradients and the global random state are unchanged.

Several properties of torchattacks 3.5.1 make this module necessary:
* It overwrites the global seeds.
* It may return images that require gradients, and may fill the `.grad` of parameters.
* After an attack, it puts all modules of the network into the mode (training or evaluation) of the outermost module.
* It reports wrong dtypes and too few classes with an IndexError, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from engine.attack.ball import Ball
from engine.attack.batches import Batches
from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import Attack, AttackSettings
from engine.attack.guard import Watched, attacked, predictions, under_attack
from engine.attack.pools import Pools
from engine.attack.walk import Pool, Walk
from engine.data.splits import stable_seed
from engine.data.transfer import to_device
from engine.errors import ConfigError
from engine.graphs import Graphs

Builder = Callable[[nn.Module, Attack, AttackSettings], Walk | Callable[[Tensor, Tensor], Tensor]]


def run_attack(attack: Attack, network: nn.Module, x: Tensor, y: Tensor, settings: AttackSettings, *,
               poll: Callable[[], None] = lambda: None, on_pass: Callable[[int], None] = lambda passes: None,
               graphs: Graphs | None = None, batch: int | None = None) -> Tensor:
    """Return adversarial images for one batch.

    A suite such as AutoAttack runs its parts in order. Each part attacks only the images on which all earlier parts failed.

    Args:
        attack: declaration of the attack, from `engine.attack.catalogue.ATTACKS`.
        network: network that maps pixels in 0..1 to logits [B, classes]. Any normalisation happens inside the network. Its
            modes, gradients and buffers are unchanged afterwards, even if `poll` raises. So is the global random state.
        x: images, float32 [B, C, H, W], pixels in 0..1, on the network's device.
        y: labels, int64 [B], on the network's device.
        settings: norm, radius, step size, number of classes and seed.
        poll: function called before each forward pass; it may raise StopRequested.
        on_pass: function called after each forward pass with the number of images evaluated so far, over all passes.
        graphs, batch: recorder of the network's passes, and the number of images of every recorded pass
            (`engine.attack.guard.attacked`).

    Returns:
        Adversarial images, float32 [B, C, H, W], in 0..1, which require no gradient. They are in the ball, unless
        `attack.nearest` is True.

    Raises:
        ConfigError: the attack needs more classes or another norm, or a tensor has an unsuitable dtype, shape, device or range.
    """
    check_attack(attack, settings)
    _check_tensors(network, x, y)
    if not len(x):
        return x.clone()
    with under_attack(network):
        watched = Watched(network, poll, on_pass, attacked(network, graphs=graphs, batch=batch))
        with torch.no_grad():
            targets = likely_classes(network(x), y, attack.targets_among(settings.classes))
        x_adv, standing = x.clone(), torch.arange(len(x), device=x.device)
        for part in attack.parts or (attack,):
            if attack.parts:
                standing = standing[predictions(network, x_adv[standing]) == y[standing]]
            x_adv[standing] = _attack_batch(part, watched, x[standing], y[standing], targets[standing], settings)
        return x_adv


def start(attack: Attack, network: Watched, images: Callable[[Tensor], Tensor], y: Tensor, *, targets: Tensor, ids: Sequence[int],
          settings: AttackSettings, size: int, first_block: int = 0, pools: int = 1) -> Pools | Batches:
    """Return an attack that is ready to run on many images.

    Inside `under_attack`, call the method `step` of the result until its property `over` is True. After each step, its method
    `finished` returns the images whose attack has ended.

    Args:
        attack: declaration of the attack; not a suite.
        network: the attacked network in the wrapper `Watched`, which counts evaluated images.
        images: function from positions, int64 [n] on the CPU, to natural images, float32 [n, C, H, W].
        y: labels of all images, int64 [N].
        targets: wrong classes of each image, most likely first, int64 [N, T]. T is at least the number of targets of the
            attack.
        ids: one number per image. The seeds for the random numbers of an image are derived from its number.
        settings: norm, radius, step size, number of classes and seed.
        size: maximum number of images in a batch of a pool.
        first_block: number of the first block of images. If an attack draws the random numbers of a whole block at once, it
            derives their seed from the number of the block.
        pools: number of pools among which an iterated attack divides the images.
    """
    built = builder_of(attack)(network, attack, settings)
    if not isinstance(built, Walk):
        # An iterate may leave the ball by a rounding error.
        ball = Ball(settings.norm, settings.epsilon)
        return Batches(lambda x, y: ball.project(built(x, y).detach(), x), images, y, size=size, iterations=attack.steps,
                       seed=lambda block: stable_seed(settings.seed, attack.name, first_block + block))
    aims = attack.targets_among(settings.classes)
    runs = targets[:, :aims] if aims else torch.full_like(targets[:, :1], -1)

    def pool_of(positions: Tensor) -> Pool:
        where = to_device(positions, y.device)
        walk, numbers = builder_of(attack)(network, attack, settings), [ids[position] for position in positions.tolist()]
        assert isinstance(walk, Walk)
        return Pool(walk, network, partial(predictions, network.network), lambda chosen: images(positions[chosen]), y[where],
                    runs=runs[where].repeat(1, attack.restarts), size=size, nearest=attack.nearest,
                    seed=lambda position, run: stable_seed(settings.seed, attack.name, "image", numbers[position], run))

    return Pools(pool_of, len(y), pools)


def likely_classes(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """Return the most likely wrong classes of each image, most likely first, int64 [B, max(count, 1)]."""
    return logits.scatter(1, y[:, None], -torch.inf).topk(max(count, 1), dim=1).indices


def check_attack(attack: Attack, settings: AttackSettings) -> None:
    """Check that an attack is defined for the norm and the number of classes in `settings`.

    Raises:
        ConfigError: the attack is not defined for one of the two.
    """
    if settings.norm not in attack.norms:
        others = ", ".join(name for name, other in ATTACKS.items() if settings.norm in other.norms)
        raise ConfigError(f"{attack.title} is defined in {' and '.join(attack.norms)}, got the norm {settings.norm}; choose "
                          f"among {others}.")
    if settings.classes < attack.min_classes:
        others = ", ".join(name for name, other in ATTACKS.items() if other.min_classes <= settings.classes)
        raise ConfigError(f"{attack.title} needs at least {attack.min_classes} classes, got {settings.classes}; choose among "
                          f"{others}.")


def builder_of(attack: Attack) -> Builder:
    """Import and return the function that builds the attack. `attack.builder` names it."""
    module, _, name = attack.builder.partition(":")
    return cast(Builder, getattr(import_module(module), name))


def _attack_batch(attack: Attack, network: Watched, x: Tensor, y: Tensor, targets: Tensor, settings: AttackSettings) -> Tensor:
    """Return adversarial images [B, C, H, W] for the images x of one batch.

    The random numbers of an image depend on its position in the batch.
    """
    x_adv = x.clone()
    running = start(attack, network, lambda position: x[to_device(position, x.device)], y, targets=targets, ids=range(len(x)),
                    settings=settings, size=max(len(x), 1))
    while not running.over:
        running.step()
        for image in chain.from_iterable(running.finished()):
            x_adv[image.position] = image.x_adv
    return x_adv


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
    low, high = torch.stack(x.aminmax()).tolist() if len(x) else (0.0, 0.0)
    if low < 0 or high > 1:
        raise ConfigError(f"Pixels must be in 0..1, got {low:g} to {high:g}; put normalisation inside the network.")
