"""Compare a whole ARNAS step on the merged supernet with a plain transcription of the published code.

    python -m benchmarks.search_step                                  # digits, 5 rounds; minutes
    python -m benchmarks.search_step --setting paper --pairs 1        # 24 channels, 8 cells, 3x32x32, batch 8
    python -m benchmarks.search_step --pairs 1 --attack-steps 1       # a quick look

All sides compute the same step on the same batches in float32 (`tests/benchmarks/test_search_step.py` compares them in
float64). CPU time of one thread; the sides alternate (published, plain, compiled, published, ...) so that other load on the
machine affects all equally. Prints the median and range of the ratios within rounds.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.measurement import Spread, Table, add_output_options, cpu_seconds, publish, ratios
from benchmarks.published_step import PublishedStep
from engine.configuring import build
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.space.compiled.build import unavailable
from engine.space.supernet import Supernet
from tests.darts_state import darts_state_dict
from tests.reference_supernet import ReferenceSupernet


@dataclass(frozen=True)
class Setting:
    """The sizes of one comparison."""

    channels: int
    layers: int
    image_shape: tuple[int, int, int]
    batch_size: int
    epsilon: float

    def __str__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return f"{self.channels} channels, {self.layers} cells, {shape}, batch {self.batch_size}"


SETTINGS = {
    "digits": Setting(8, 5, (1, 8, 8), 64, 0.15),
    "paper": Setting(24, 8, (3, 32, 32), 8, 8 / 255),
}
CLASSES = 10
PUBLISHED = "published"
# Back ends of our side: PyTorch only, the compiled kernels in every cell, or the default of a search.
CHOICES = ("plain", "compiled", "auto")


def why_not_compiled() -> str | None:
    """Return None if the compiled kernels can be used, otherwise a sentence with the reason. May build them."""
    return unavailable()


def cell_backends(supernet: Supernet, choice: str, device_type: str = "cpu") -> list[str]:
    """Return the back end of each cell for one of `CHOICES`."""
    if choice == "compiled":
        return ["compiled"] * len(supernet.cells)
    return supernet.backends(device_type, compiled=choice == "auto")


class Comparison:
    """All implementations, each built on first use with the same weights and alphas, and batches of noise images for them.

    Args:
        setting: sizes.
        attack_steps: PGD steps.
        dtype: float32 for timing, float64 for comparing numbers.
        seed: seed of weights, alphas and batches, which are the same on every device.
        device: device of all sides.
    """

    def __init__(self, setting: Setting, attack_steps: int, dtype: torch.dtype = torch.float32, seed: int = 0,
                 device: str = "cpu") -> None:
        self.setting, self.dtype, self.seed, self.device = setting, dtype, seed, torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        changes = {"channels": setting.channels, "layers": setting.layers, "batch_size": setting.batch_size,
                   "epsilon": setting.epsilon, "step_size": setting.epsilon / 4, "attack_steps": attack_steps}
        self.config = cast(ArnasConfig, build("search", "arnas", "digits", "paper", changes))
        self._sizes: dict[str, Any] = {"channels": setting.channels, "layers": setting.layers, "classes": CLASSES,
                                       "image_shape": setting.image_shape}
        self._ours: dict[str, Arnas] = {}

    @cached_property
    def published(self) -> PublishedStep:
        """The transcription of the published code, at the common initial weights and alphas."""
        start = self._arnas("plain")
        reference = ReferenceSupernet(**self._sizes).to(self.device, self.dtype)
        state = darts_state_dict(start.supernet, start.weights, start.buffers, start.alphas)
        reference.load_state_dict(state, strict=False)  # only BatchNorm's counters are missing
        return PublishedStep(reference, self.config)

    def ours(self, choice: str) -> Arnas:
        """Return the engine's search with one of `CHOICES`, built on the first call."""
        if choice not in self._ours:
            self._ours[choice] = self._arnas(choice)
        return self._ours[choice]

    @property
    def merged(self) -> Arnas:
        """The engine's search with its default back ends."""
        return self.ours("auto")

    @property
    def supernet(self) -> Supernet:
        """The supernet of `merged`."""
        return self.merged.supernet

    def side(self, name: str) -> PublishedStep | Arnas:
        """Return the side of this name, `PUBLISHED` or one of `CHOICES`; all have the same `step`."""
        return self.published if name == PUBLISHED else self.ours(name)

    def _arnas(self, choice: str) -> Arnas:
        supernet = Supernet(**self._sizes)
        supernet.use_backends(cell_backends(supernet, choice, self.device.type))
        return Arnas(self.config, supernet, device=self.device, dtype=self.dtype, seed=self.seed)

    def choices(self) -> list[str]:
        """Return the `CHOICES` that can run here, and "auto" only if it differs from the others."""
        available: list[str] = []
        supernet = Supernet(**self._sizes)
        for choice in CHOICES:
            if choice == "compiled" and why_not_compiled():
                continue
            if choice != "auto" or cell_backends(supernet, choice) not in [cell_backends(supernet, name) for name in available]:
                available.append(choice)
        return available

    def batch(self) -> tuple[Tensor, Tensor]:
        """Draw noise images and random labels."""
        size, shape = self.setting.batch_size, self.setting.image_shape
        return (torch.rand(size, *shape, generator=self.generator, dtype=self.dtype).to(self.device),
                torch.randint(CLASSES, (size,), generator=self.generator).to(self.device))

    def noise(self) -> tuple[Tensor, Tensor]:
        """Draw the random starts of the two attacks."""
        shape = (self.setting.batch_size, *self.setting.image_shape)
        first, second = (((2 * torch.rand(shape, generator=self.generator, dtype=self.dtype) - 1)
                          * self.config.epsilon).to(self.device) for _ in range(2))
        return first, second

    def step_seconds(self, side: str, batches: tuple[tuple[Tensor, Tensor], ...], noise: tuple[Tensor, Tensor]) -> float:
        """Return the CPU time of one step of a side."""
        method, rate = self.side(side), self.config.weights_learning_rate
        return cpu_seconds(lambda: method.step(*batches, learning_rate=rate, noise=noise))


@dataclass(frozen=True)
class StepTimes:
    """CPU seconds of the steps of one setting.

    Attributes:
        setting: name of the setting.
        sizes: the setting itself.
        attack_steps: PGD steps.
        seconds: side -> one value per round, published side first.
        cells: each of our sides -> the back end of each cell.
    """

    setting: str
    sizes: Setting
    attack_steps: int
    seconds: dict[str, list[float]]
    cells: dict[str, list[str]]

    def ratio(self, choice: str) -> Spread:
        """Return how many times faster a step is than the published one."""
        return ratios(self.seconds[PUBLISHED], self.seconds[choice])

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON data."""
        return {"setting": self.setting, "sizes": vars(self.sizes), "attack_steps": self.attack_steps, "cells": self.cells,
                "cpu_seconds": self.seconds, "ratio": {choice: vars(self.ratio(choice)) for choice in self.cells}}


def measure(setting: str, *, attack_steps: int, pairs: int, choices: Sequence[str] = ()) -> StepTimes:
    """Time the steps of one of `SETTINGS` with the given back ends, by default all that can run here."""
    comparison = Comparison(SETTINGS[setting], attack_steps)
    return time_steps(setting, comparison, choices or comparison.choices(), pairs)


def time_steps(setting: str, comparison: Comparison, choices: Sequence[str], pairs: int) -> StepTimes:
    """Time the published step and ours in turn, after one untimed round."""
    sides = (PUBLISHED, *choices)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for pair in range(pairs + 1):
        batches, noise = (comparison.batch(), comparison.batch()), comparison.noise()
        for side in sides:
            spent = comparison.step_seconds(side, batches, noise)
            if pair:
                seconds[side].append(spent)
    cells = {choice: cell_backends(comparison.ours(choice).supernet, choice) for choice in choices}
    return StepTimes(setting, comparison.setting, comparison.config.attack_steps, seconds, cells)


def table(found: Sequence[StepTimes]) -> Table:
    """Return a table with one row per setting and back end."""
    rows = []
    for times in found:
        published = f"{Spread.of(times.seconds[PUBLISHED]).median:.3f}"
        for choice, cells in times.cells.items():
            by_name = ", ".join(f"{count} {name}" for name, count in Counter(cells).items())
            rows.append((f"{times.setting}: {times.sizes}, PGD-{times.attack_steps}", f"{choice} ({by_name})", published,
                         f"{Spread.of(times.seconds[choice]).median:.3f}", str(times.ratio(choice))))
    count = min(len(values) for times in found for values in times.seconds.values())
    return Table(f"A whole search step, CPU seconds, float32 (median of {count} interleaved rounds, ratio with its range)",
                 ("setting", "back end (cells)", "published", "ours", "published / ours"), tuple(rows))


def main(arguments: list[str] | None = None) -> None:
    """Print the comparison."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_setting_options(parser)
    add_pairs_option(parser)
    parser.add_argument("--attack-steps", type=int, default=7, help="steps of PGD (published: 7)")
    add_output_options(parser)
    chosen = parse(parser, arguments)
    torch.set_num_threads(1)
    times = measure(chosen.setting, attack_steps=chosen.attack_steps, pairs=chosen.pairs, choices=chosen.backend)
    publish(chosen, "search_step", arguments, times.record(), [table([times])])


def add_setting_options(parser: argparse.ArgumentParser, default: str = "digits") -> None:
    """Add `--setting` and `--backend`."""
    parser.add_argument("--setting", choices=SETTINGS, default=default, help=f"default: {default}")
    add_backend_option(parser)


def add_backend_option(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`, which `parse` checks."""
    parser.add_argument("--backend", choices=CHOICES, action="append", default=[],
                        help="back end of our side; may be given several times (default: all that can run here)")


def add_pairs_option(parser: argparse.ArgumentParser, default: int = 5) -> None:
    """Add `--pairs`."""
    parser.add_argument("--pairs", type=int, default=default, help=f"interleaved rounds (default: {default})")


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options; exit with an error for a back end that cannot run here or for fewer than one round.

    Also works for commands without `--backend` or `--pairs`.
    """
    chosen = parser.parse_args(arguments)
    reason = why_not_compiled() if "compiled" in getattr(chosen, "backend", ()) else None
    if reason:
        parser.error(f"--backend compiled cannot run here: {reason}")
    if getattr(chosen, "pairs", 1) < 1:
        parser.error(f"--pairs must be at least 1, got {chosen.pairs}")
    return chosen


if __name__ == "__main__":
    main()
