"""Compare the time of the engine's AutoAttack with that of torchattacks' MultiAttack of the same four attacks.

    python -m benchmarks.attack                              # digits, 64 images, 3 rounds; about 15 minutes
    python -m benchmarks.attack --setting cifar --pairs 1    # 16 channels, 8 cells, 3x32x32; about half an hour
    python -m benchmarks.attack --setting cifar --budget 0.1 # with a tenth of the iterations

The engine and torchattacks attack the same images and the same adversarially trained network in the L-infinity norm:

* APGD-CE, 100 iterations.
* APGD-T, 100 iterations towards each of nine target classes.
* FAB-T, 100 iterations towards each of nine target classes.
* Square, 5,000 queries.

Each attack receives only the images that withstood the attacks before. In torchattacks, the network is called module by module,
as by any user of that package.

Times are CPU times of one thread. Each round times the engine and then torchattacks, so that other load on the machine affects
both equally. The command prints:

* the seconds of each,
* the ratio of their times in one round (median and range over the rounds),
* the number of images that withstand each attack,
* the percentage of the engine's time that is spent in passes through the network, which no faster attack code can reduce.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torchattacks
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measurement import Spread, Table, add_output_options, publish, ratios
from engine.architecture.catalogue import find_genotype
from engine.attack.catalogue import APGD_CE, APGD_T, FAB_T, SQUARE
from engine.attack.declaration import Attack, AttackSettings
from engine.attack.guard import Watched, attacked, predictions, under_attack
from engine.attack.methods import likely_classes, start
from engine.attack.pgd import pgd
from engine.data.digits import DIGITS
from engine.space.network import Network

CLASSES = 10
GENOTYPE = "ARNAS"
TITLES = {"ours": "engine", "theirs": "torchattacks"}


@dataclass(frozen=True)
class Setting:
    """The network, its training and the attacks in one comparison.

    Attributes:
        channels: number of channels.
        layers: number of cells.
        image_shape: shape of an image. Digits are enlarged to this shape.
        epsilon: L-infinity radius of the attacks to compare.
        training_epsilon: L-infinity radius of PGD-5 in training.
        epochs: number of training epochs.
        training_images: number of training images, a multiple of `training_batch`. They are not attacked afterwards.
        training_batch: number of images per training step.
        images: number of images to attack.
        batch_size: maximum number of images per batch in the engine's attacks.
        attacks: the attacks, in the order in which they run.
    """

    channels: int
    layers: int
    image_shape: tuple[int, int, int]
    epsilon: float
    training_epsilon: float
    epochs: int
    training_images: int
    training_batch: int
    images: int
    batch_size: int = 128
    attacks: tuple[Attack, ...] = (APGD_CE, APGD_T, FAB_T, SQUARE)


SETTINGS = {
    "digits": Setting(8, 5, (1, 8, 8), 0.15, 0.15, 8, 1408, 64, 64),
    "cifar": Setting(16, 8, (3, 32, 32), 8 / 255, 0.1, 3, 512, 32, 16),
}


@dataclass(frozen=True)
class Cascade:
    """The result of running all attacks one after another, by the engine or by torchattacks.

    Attributes:
        seconds: CPU seconds of each attack, keyed by its name.
        standing: number of correctly classified images without an attack, then after each attack.
        passes: CPU seconds spent in passes through the network; 0 for torchattacks, which does not report them.
    """

    seconds: dict[str, float]
    standing: list[int]
    passes: float = 0.0

    @property
    def total(self) -> float:
        """CPU seconds of all attacks together."""
        return sum(self.seconds.values())


def digits(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the images and labels of the digits dataset in random order.

    Args:
        shape: shape of the returned images. Height and width are interpolated bilinearly, and the channel is repeated.
    """
    pixels, labels = map(torch.from_numpy, DIGITS.load())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = F.interpolate(pixels[order], shape[1:], mode="bilinear") if shape[1:] != (8, 8) else pixels[order]
    return x.expand(-1, shape[0], -1, -1).contiguous(), labels[order]


def trained(setting: Setting) -> tuple[Network, Tensor, Tensor]:
    """Train the network of a setting adversarially.

    Returns:
        network: the trained network, in evaluation mode.
        x: images to attack, [images, *image_shape].
        y: labels of these images.
    """
    torch.manual_seed(0)
    network = Network(find_genotype(GENOTYPE), channels=setting.channels, layers=setting.layers, classes=CLASSES,
                      image_shape=setting.image_shape)
    x, y = digits(setting.image_shape)
    steps = setting.epochs * (setting.training_images // setting.training_batch)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(setting.epochs):
        for batch in torch.randperm(setting.training_images).split(setting.training_batch):
            x_adv = _adversarial(network, x[batch], y[batch], setting.training_epsilon)
            optimizer.zero_grad()
            F.cross_entropy(network.train()(x_adv), y[batch]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    chosen = slice(-setting.images, None)
    return network.eval(), x[chosen], y[chosen]


def ours(setting: Setting, network: Network, x: Tensor, y: Tensor) -> Cascade:
    """Run the attacks of a setting one after another with the engine, as `engine.attack.evaluation` does."""
    settings = AttackSettings(setting.epsilon, setting.epsilon / 4, CLASSES, seed=0)
    seconds, passes, ids = {}, 0.0, torch.arange(len(x))
    with under_attack(network):
        started = time.process_time()
        watched = Watched(network, logits=attacked(network))
        ids = ids[predictions(network, x) == y]
        standing = [len(ids)]
        for attack in setting.attacks:
            images, labels, count = x[ids], y[ids], attack.targets_among(CLASSES)
            with torch.no_grad():
                targets = likely_classes(network(images), labels, count)
            pool: Any = start(attack, watched, images.__getitem__, labels, targets=targets, ids=ids.tolist(), settings=settings,
                              size=setting.batch_size)
            withstood = []
            while not pool.over:
                pool.step()
                withstood += [image.position for batch in pool.finished() for image in batch if not image.fell]
            ids = ids[sorted(withstood)]
            standing.append(len(ids))
            seconds[attack.name] = time.process_time() - started
            passes += pool.pass_seconds
            started = time.process_time()
    return Cascade(seconds, standing, passes)


def theirs(setting: Setting, network: Network, x: Tensor, y: Tensor) -> Cascade:
    """Run the attacks of a setting with torchattacks' MultiAttack.

    MultiAttack also spends time between the attacks, for example on checking images. This time is counted for Square.
    """
    norm = {"norm": "Linf", "eps": setting.epsilon, "seed": 0}
    steps = {attack.name: attack.steps for attack in setting.attacks}
    parts = {
        "apgd-ce": lambda name: torchattacks.APGD(network, steps=steps[name], **norm),
        "apgd-t": lambda name: torchattacks.APGDT(network, steps=steps[name], n_classes=CLASSES, **norm),
        "fab-t": lambda name: torchattacks.FAB(network, steps=steps[name], n_classes=CLASSES, multi_targeted=True, **norm),
        "square": lambda name: torchattacks.Square(network, n_queries=steps[name], resc_schedule=False, **norm),
    }
    with under_attack(network):
        started = time.process_time()
        timed = [_Timed(parts[name](name)) for name in steps]
        natural = predictions(network, x) == y
        x, y = x[natural], y[natural]
        adversarial = torchattacks.MultiAttack(timed)(x, y).detach()
        seconds = {name: each.seconds for name, each in zip(steps, timed, strict=True)}
        seconds[SQUARE.name] = seconds.get(SQUARE.name, 0.0) + time.process_time() - started - sum(seconds.values())
        withstood = int((predictions(network, adversarial) == y).sum())
    return Cascade(seconds, [len(x), *(each.images for each in timed[1:]), withstood])


class _Timed:
    """A wrapper of a torchattacks attack that records the CPU seconds and the number of images of its latest call."""

    def __init__(self, attack: torchattacks.attack.Attack) -> None:
        self.attack, self.model, self.seconds, self.images = attack, attack.model, 0.0, 0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        started = time.process_time()
        self.images = len(x)
        x_adv: Tensor = self.attack(x, y)
        self.seconds = time.process_time() - started
        return x_adv


def run_pairs(setting: Setting, pairs: int, sides: Sequence[str] = tuple(TITLES)) -> dict[str, list[Cascade]]:
    """Train a network and attack it in rounds. Return {implementation: one `Cascade` per round}.

    Args:
        setting: the network, its training and the attacks.
        pairs: number of rounds. Each round runs every implementation once.
        sides: the implementations to run: "ours" (the engine), "theirs" (torchattacks) or both.
    """
    network, x, y = trained(setting)
    cascades: dict[str, list[Cascade]] = {side: [] for side in sides}
    for _ in range(pairs):
        for side in sides:
            run = {"ours": ours, "theirs": theirs}[side]
            cascades[side].append(run(setting, network, x, y))
            print(f"  {TITLES[side]}: {cascades[side][-1].total:.1f} s, standing {cascades[side][-1].standing}", file=sys.stderr)
    return cascades


def table(name: str, setting: Setting, cascades: dict[str, list[Cascade]]) -> Table:
    """Return a table with one row per attack and one row for all attacks.

    The columns give the CPU seconds of the engine and of torchattacks, and their ratio. Below are the numbers of images that
    withstand the attacks and the percentage of the engine's time that is spent in passes through the network.

    Args:
        name: name of the setting.
        setting: the network, its training and the attacks.
        cascades: {implementation ("ours" or "theirs"): one result per round}.
    """
    shape = "x".join(map(str, setting.image_shape))
    caption = (f"{name}: {GENOTYPE}, {setting.channels} channels, {setting.layers} cells, {shape}, {setting.images} images, "
               f"epsilon {setting.epsilon:.3g}, {_iterations(setting)}, CPU seconds")
    rows = []
    for part in [*(attack.name for attack in setting.attacks), "all"]:
        seconds = {side: [_seconds(cascade, part) for cascade in each] for side, each in cascades.items()}
        both = str(ratios(seconds["theirs"], seconds["ours"])) if len(seconds) == 2 else ""
        rows.append((part, *(str(Spread.of(each)) for each in seconds.values()), both))
    standing = (" ".join(str(count) for count in each[-1].standing) for each in cascades.values())
    rows.append(("images standing", *standing, ""))
    if "ours" in cascades:
        share = Spread.of(100 * cascade.passes / cascade.total for cascade in cascades["ours"])
        rows.append(("in the network's passes", f"{share.median:.0f} %", *[""] * len(cascades)))
    return Table(caption, ("attack", *(TITLES[side] for side in cascades), "ratio"), tuple(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and print its table."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--setting", choices=SETTINGS, default="digits")
    parser.add_argument("--pairs", type=int, default=3, help="interleaved pairs (default: 3)")
    parser.add_argument("--images", type=int, help="images attacked (default: 64 digits, 16 of CIFAR's size)")
    parser.add_argument("--budget", type=float, default=1.0, help="share of the iterations of every attack (default: 1)")
    parser.add_argument("--side", choices=TITLES, help="run one side only")
    add_output_options(parser)
    chosen = parser.parse_args(given)
    torch.set_num_threads(1)
    setting = SETTINGS[chosen.setting]
    setting = replace(setting, images=chosen.images or setting.images, attacks=tuple(
        replace(attack, steps=max(round(chosen.budget * attack.steps), 1)) for attack in setting.attacks))
    cascades = run_pairs(setting, chosen.pairs, [chosen.side] if chosen.side else tuple(TITLES))
    numbers = {side: [{"seconds": each.seconds, "standing": each.standing, "passes": each.passes} for each in cascades[side]]
               for side in cascades}
    publish(chosen, "attack", given, {"cascades": numbers}, [table(chosen.setting, setting, cascades)])


def _iterations(setting: Setting) -> str:
    return "iterations " + ", ".join(f"{attack.steps:,}" for attack in setting.attacks)


def _seconds(cascade: Cascade, part: str) -> float:
    return cascade.total if part == "all" else cascade.seconds[part]


def _adversarial(network: Network, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    def gradient(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(network(images), y), images)[0]

    network.train()
    return pgd(gradient, x, x + 0.001 * torch.randn_like(x), epsilon=epsilon, step_size=epsilon / 4, steps=5, clip=True)


if __name__ == "__main__":
    main()
