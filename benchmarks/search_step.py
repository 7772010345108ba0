"""How many times faster a whole ARNAS step is on the merged supernet than in a plain transcription of the published code.

    python -m benchmarks.search_step                                  # digits, 5 pairs, about a minute and a half
    python -m benchmarks.search_step --setting paper --pairs 1        # 24 channels, 8 cells, 3x32x32, batch 8
    python -m benchmarks.search_step --pairs 1 --attack-steps 1       # a quick look

Both do the same mathematics on the same batches in float32 (`tests/benchmarks/test_search_step.py` compares them in
float64). CPU time of one thread, steps interleaved A B A B so that a neighbour's load hits both, median and range of
the ratios of neighbouring steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor

from benchmarks.published_step import PublishedStep
from engine.config import build
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.space.supernet import Supernet
from tests.reference_supernet import ReferenceSupernet


@dataclass(frozen=True)
class Setting:
    """Sizes of one comparison."""

    channels: int
    layers: int
    image_shape: tuple[int, int, int]
    batch_size: int
    epsilon: float


SETTINGS = {
    "digits": Setting(8, 5, (1, 8, 8), 64, 0.15),
    "paper": Setting(24, 8, (3, 32, 32), 8, 8 / 255),
}
CLASSES = 10


class Comparison:
    """Both implementations at the same weights and alphas, and batches of noise images for them.

    Args:
        setting: sizes.
        attack_steps: of PGD.
        dtype: float32 for timing, float64 for comparing numbers.
        seed: of weights, alphas and batches.
    """

    def __init__(self, setting: Setting, attack_steps: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        self.setting = setting
        self.generator = torch.Generator().manual_seed(seed)
        changes = {"channels": setting.channels, "layers": setting.layers, "batch_size": setting.batch_size,
                   "epsilon": setting.epsilon, "step_size": setting.epsilon / 4, "attack_steps": attack_steps}
        self.config = cast(ArnasConfig, build("search", "arnas", "digits", "paper", changes))
        self.dtype = dtype
        sizes = {"channels": setting.channels, "layers": setting.layers, "classes": CLASSES, "image_shape": setting.image_shape}
        self.supernet = Supernet(**sizes)
        self.merged = Arnas(self.config, self.supernet, device="cpu", dtype=dtype, seed=seed)
        reference = ReferenceSupernet(**sizes).to(dtype)
        state = self.supernet.to_darts_state_dict(self.merged.weights, self.merged.buffers, self.merged.alphas)
        reference.load_state_dict(state, strict=False)  # lacks only BatchNorm's counters
        self.published = PublishedStep(reference, self.config)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Noise images and random labels."""
        size, shape = self.setting.batch_size, self.setting.image_shape
        return (torch.rand(size, *shape, generator=self.generator, dtype=self.dtype),
                torch.randint(CLASSES, (size,), generator=self.generator))

    def noise(self) -> tuple[Tensor, Tensor]:
        """Random starts of the two attacks."""
        shape = (self.setting.batch_size, *self.setting.image_shape)
        first, second = ((2 * torch.rand(shape, generator=self.generator, dtype=self.dtype) - 1) * self.config.epsilon
                         for _ in range(2))
        return first, second


def time_steps(comparison: Comparison, pairs: int) -> list[tuple[float, float]]:
    """CPU seconds of (published, merged) steps, after one untimed step of each."""
    times = []
    for pair in range(pairs + 1):
        arguments = (comparison.batch(), comparison.batch())
        options = {"learning_rate": comparison.config.weights_learning_rate, "noise": comparison.noise()}
        seconds = (cpu_seconds(lambda a=arguments, o=options: comparison.published.step(*a, **o)),
                   cpu_seconds(lambda a=arguments, o=options: comparison.merged.step(*a, **o)))
        if pair:
            times.append(seconds)
    return times


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main(arguments: list[str] | None = None) -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--setting", choices=SETTINGS, default="digits")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs of steps (default: 5)")
    parser.add_argument("--attack-steps", type=int, default=7, help="steps of PGD (published: 7)")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    comparison = Comparison(SETTINGS[chosen.setting], chosen.attack_steps)
    print(report(chosen.setting, comparison, time_steps(comparison, chosen.pairs)))


def report(name: str, comparison: Comparison, times: list[tuple[float, float]]) -> str:
    """What is printed: the setting, CPU seconds per step of each side, and the ratio with its range."""
    setting, ratios = comparison.setting, [published / merged for published, merged in times]
    shape = "x".join(map(str, setting.image_shape))
    lines = [f"{name}: {setting.channels} channels, {setting.layers} cells, {shape}, batch {setting.batch_size}, "
             f"PGD-{comparison.config.attack_steps}, float32, {torch.get_num_threads()} thread, torch {torch.__version__}"]
    for side, k in (("published, transcribed", 0), ("merged supernet", 1)):
        lines.append(f"  {side:24s}{median(pair[k] for pair in times):9.3f} s CPU per step (median of {len(times)})")
    lines.append(f"  {'ratio':24s}{median(ratios):9.2f} [{min(ratios):.2f} - {max(ratios):.2f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
