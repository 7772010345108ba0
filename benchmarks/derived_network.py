"""Compare the time of training and attacking a derived network in the engine with that of a plain PyTorch implementation.

    python -m benchmarks.derived_network                     # digits, 5 rounds, about half a minute
    python -m benchmarks.derived_network --setting cifar     # 36 channels, 8 cells, 3x32x32, batch 16; several minutes

Two things are timed: one step of adversarial training (PGD-7), and a PGD attack with ten gradients. The time of the attack
includes preparing the network for it. The plain implementation has

* one module per edge,
* feature maps in the layout [B, C, H, W],
* PyTorch's own gradients of depthwise convolutions,
* attacks that back-propagate into every parameter.

Both implementations compute the same numbers, which `tests/benchmarks/test_derived_network.py` checks in float64. Times are CPU
times of one thread. Each round times both implementations, so that other load on the machine affects both equally. The command
prints the median and range of their ratio over the rounds.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.search_step import cpu_seconds
from engine.architecture.catalogue import find_genotype
from engine.attack.guard import attacked, under_attack
from engine.attack.pgd import pgd
from engine.config import RetrainConfig
from engine.configuring import build
from engine.data.augmentation import generator_for
from engine.space.network import Network
from engine.space.primitives import Depthwise
from engine.train.retrain import Retraining

CLASSES = 10
GENOTYPE = "ARNAS"
ATTACK_GRADIENTS = 10


@dataclass(frozen=True)
class Setting:
    """The sizes of the network and of a batch in one comparison, and the attack radius."""

    channels: int
    layers: int
    image_shape: tuple[int, int, int]
    batch_size: int
    epsilon: float


SETTINGS = {
    "digits": Setting(8, 5, (1, 8, 8), 64, 0.15),
    "cifar": Setting(36, 8, (3, 32, 32), 16, 8 / 255),
}


class PlainNetwork(nn.Module):
    """The plain implementation: a copy of a network that calls its modules one by one.

    It uses PyTorch's own depthwise convolutions.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for module in list(self.network.modules()):
            for name, child in module.named_children():
                if isinstance(child, Depthwise):
                    setattr(module, name, _plain(child))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] of images x [B, C, H, W] with pixels in 0..1."""
        network = self.network
        before_last = last = network.stem((x - network.mean[:, None, None]) / network.std[:, None, None])
        for cell in network.cells:
            before_last, last = last, cell(before_last, last, 0.0, None)
        return network.classifier(last.mean(dim=(2, 3)))


class Comparison:
    """A network that can be trained and attacked in two ways: by the engine and by the plain PyTorch implementation.

    Args:
        setting: sizes and attack radius.
        attack_steps: PGD steps in a training step.
        dtype: float32 for timing, float64 for comparing numbers.
    """

    def __init__(self, setting: Setting, attack_steps: int = 7, dtype: torch.dtype = torch.float32) -> None:
        self.setting, self.dtype, self.steps = setting, dtype, 0
        self.generator = torch.Generator().manual_seed(0)
        changes = {"channels": setting.channels, "layers": setting.layers, "batch_size": setting.batch_size,
                   "epsilon": setting.epsilon, "step_size": setting.epsilon / 4, "attack_steps": attack_steps}
        self.config = cast(RetrainConfig, build("retrain", preset="quick", changes=changes))
        torch.manual_seed(0)
        self.network = Network(find_genotype(GENOTYPE), channels=setting.channels, layers=setting.layers, classes=CLASSES,
                               image_shape=setting.image_shape).to(dtype)
        self.plain = PlainNetwork(self.network)
        self.training = Retraining(self.config, self.network)
        self.optimizer = torch.optim.SGD(self.plain.parameters(), lr=self.config.learning_rate, momentum=self.config.momentum,
                                         weight_decay=self.config.weight_decay)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return a batch of random pixels and random labels."""
        size, shape = self.setting.batch_size, self.setting.image_shape
        return (torch.rand(size, *shape, generator=self.generator, dtype=self.dtype),
                torch.randint(CLASSES, (size,), generator=self.generator))

    def train(self, x: Tensor, y: Tensor) -> None:
        """Take one training step with the engine."""
        self.training.step(x, y, epoch=0, step=self.steps)

    def train_plain(self, x: Tensor, y: Tensor) -> None:
        """Take the same training step with the plain implementation."""
        config, plain = self.config, self.plain
        plain.train()
        with torch.no_grad():
            plain(x)  # the published pass on natural images, for BatchNorm's statistics
        noise = torch.randn(x.shape, generator=generator_for(config.seed, "attack", 0, self.steps), dtype=x.dtype)
        plain.eval()
        x_adv = pgd(lambda images: self._gradient(images, y), x, x + config.start_noise * noise, epsilon=config.epsilon,
                    step_size=config.step_size, steps=config.attack_steps, clip=True)
        self.optimizer.zero_grad()
        F.cross_entropy(plain.train()(x_adv), y).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), config.gradient_clip)
        self.optimizer.step()

    def attack(self, x: Tensor, y: Tensor) -> Tensor:
        """Return images that the engine has attacked with PGD. The network is prepared for the attack in each call."""
        with under_attack(self.network):
            logits_of = attacked(self.network)

            def gradient(images: Tensor) -> Tensor:
                images = images.detach().requires_grad_()
                return torch.autograd.grad(F.cross_entropy(logits_of(images), y), images)[0]

            return self._pgd(gradient, x)

    def attack_plain(self, x: Tensor, y: Tensor) -> Tensor:
        """Return images that the plain implementation has attacked with the same PGD."""
        self.plain.eval()
        return self._pgd(lambda images: self._gradient(images, y), x)

    def _gradient(self, images: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of the loss with respect to the images.

        As in the published code, `backward()` computes it and also accumulates the gradients of all parameters.
        """
        images = images.detach().requires_grad_()
        F.cross_entropy(self.plain(images), y).backward()
        assert images.grad is not None
        return images.grad

    def _pgd(self, gradient: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        epsilon = self.config.epsilon
        return pgd(gradient, x, x, epsilon=epsilon, step_size=epsilon / 4, steps=ATTACK_GRADIENTS, clip=True)


def _plain(module: Depthwise) -> nn.Conv2d:
    plain = nn.Conv2d(module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding, module.dilation,  # type: ignore[arg-type]
                      module.groups, bias=False)
    plain.weight = module.weight
    return plain


def time_pairs(comparison: Comparison, what: str, pairs: int) -> list[tuple[float, float]]:
    """Time both implementations in rounds. Return one tuple (CPU seconds of the plain one, CPU seconds of the engine) per round.

    Args:
        comparison: network to train or attack.
        what: "train" or "attack".
        pairs: number of rounds. An additional first round is not timed.
    """
    plain, ours = getattr(comparison, f"{what}_plain"), getattr(comparison, what)
    times = []
    for pair in range(pairs + 1):
        x, y = comparison.batch()
        seconds = cpu_seconds(lambda x=x, y=y: plain(x, y)), cpu_seconds(lambda x=x, y=y: ours(x, y))
        if what == "train":
            comparison.steps += 1
        if pair:
            times.append(seconds)
    return times


def report(name: str, comparison: Comparison, times: dict[str, list[tuple[float, float]]]) -> str:
    """Return a text with the CPU seconds of both implementations and their ratio, for training and for the attack.

    Args:
        name: name of the setting.
        comparison: network that was timed.
        times: results of `time_pairs`, keyed by "train" and "attack".
    """
    setting = comparison.setting
    shape = "x".join(map(str, setting.image_shape))
    lines = [f"{name}: {GENOTYPE}, {setting.channels} channels, {setting.layers} cells, {shape}, batch {setting.batch_size}, "
             f"float32, {torch.get_num_threads()} thread, torch {torch.__version__}"]
    titles = {"train": f"training step, PGD-{comparison.config.attack_steps}", "attack": f"{ATTACK_GRADIENTS} attack gradients"}
    for what, measured in times.items():
        ratios = [plain / ours for plain, ours in measured]
        lines.append(f"  {titles[what]}, {len(measured)} pairs")
        for side, k in (("modules, edge by edge", 0), ("engine", 1)):
            lines.append(f"    {side:24s}{median(pair[k] for pair in measured):9.3f} s CPU")
        lines.append(f"    {'ratio':24s}{median(ratios):9.2f} [{min(ratios):.2f} - {max(ratios):.2f}]")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison and print its report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--setting", choices=SETTINGS, default="digits")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs (default: 5)")
    parser.add_argument("--attack-steps", type=int, default=7, help="steps of PGD in training (published: 7)")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    comparison = Comparison(SETTINGS[chosen.setting], chosen.attack_steps)
    print(report(chosen.setting, comparison, {what: time_pairs(comparison, what, chosen.pairs) for what in ("train", "attack")}))


if __name__ == "__main__":
    main()
