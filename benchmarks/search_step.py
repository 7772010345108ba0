"""Compare the time of a whole ARNAS search step in the engine with that of a plain transcription of the published code.

    python -m benchmarks.search_step                                  # digits, 5 rounds; minutes
    python -m benchmarks.search_step --setting paper --pairs 1        # 24 channels, 8 cells, 3x32x32, batch 8
    python -m benchmarks.search_step --pairs 1 --attack-steps 1       # a quick look

The implementations that are compared are the published code, and the engine with each of its back ends. All compute the same step
on the same batches in float32 (`tests/benchmarks/test_search_step.py` compares them in float64). Times are CPU times of one
thread. Each round times every implementation once, so that other load on the machine affects all equally. The command prints the
median and range, over the rounds, of the ratio of the published time to ours.
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
    """The sizes of the supernet and of a batch in one comparison, and the attack radius."""

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
    """Return None if the compiled kernels can be used, otherwise a sentence giving the reason. This may build the kernels."""
    return unavailable()


def cell_backends(supernet: Supernet, choice: str, device_type: str = "cpu") -> list[str]:
    """Return the name of the back end of each cell of a supernet.

    Args:
        supernet: supernet with the cells.
        choice: "plain" (PyTorch only), "compiled" (compiled kernels in every cell) or "auto" (the default of a search).
        device_type: device type, such as "cpu".
    """
    if choice == "compiled":
        return ["compiled"] * len(supernet.cells)
    return supernet.backends(device_type, compiled=choice == "auto")


class Comparison:
    """The implementations that are compared: the published code, and the engine with each of its back ends.

    Each is built when it is first used. All start with the same weights and alphas. The methods also make random batches for
    them.

    Args:
        setting: sizes and attack radius.
        attack_steps: number of PGD steps.
        dtype: float32 for timing, float64 for comparing numbers.
        seed: seed of weights, alphas and batches. They are the same on every device.
        device: device of all implementations.
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
        """The published code, with the same initial weights and alphas as the engine."""
        start = self._arnas("plain")
        reference = ReferenceSupernet(**self._sizes).to(self.device, self.dtype)
        state = darts_state_dict(start.supernet, start.weights, start.buffers, start.alphas)
        reference.load_state_dict(state, strict=False)  # only BatchNorm's counters are missing
        return PublishedStep(reference, self.config)

    def ours(self, choice: str) -> Arnas:
        """Return the engine's search with the back end `choice`, one of `CHOICES`."""
        if choice not in self._ours:
            self._ours[choice] = self._arnas(choice)
        return self._ours[choice]

    @property
    def merged(self) -> Arnas:
        """The search of the engine with the back ends that a search uses by default."""
        return self.ours("auto")

    @property
    def supernet(self) -> Supernet:
        """The supernet of `merged`."""
        return self.merged.supernet

    def side(self, name: str) -> PublishedStep | Arnas:
        """Return one of the implementations that are compared. All have the same method `step`.

        Args:
            name: `PUBLISHED` for the published code, or one of `CHOICES` for the engine with this back end.
        """
        return self.published if name == PUBLISHED else self.ours(name)

    def _arnas(self, choice: str) -> Arnas:
        supernet = Supernet(**self._sizes)
        supernet.use_backends(cell_backends(supernet, choice, self.device.type))
        return Arnas(self.config, supernet, device=self.device, dtype=self.dtype, seed=self.seed)

    def choices(self) -> list[str]:
        """Return those of `CHOICES` that can run on this machine.

        "auto" is left out if it gives every cell the same back end as another choice.
        """
        available: list[str] = []
        supernet = Supernet(**self._sizes)
        for choice in CHOICES:
            if choice == "compiled" and why_not_compiled():
                continue
            if choice != "auto" or cell_backends(supernet, choice) not in [cell_backends(supernet, name) for name in available]:
                available.append(choice)
        return available

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return a batch of random pixels and random labels."""
        size, shape = self.setting.batch_size, self.setting.image_shape
        return (torch.rand(size, *shape, generator=self.generator, dtype=self.dtype).to(self.device),
                torch.randint(CLASSES, (size,), generator=self.generator).to(self.device))

    def noise(self) -> tuple[Tensor, Tensor]:
        """Return two random starts, one for the attack on each batch of a step."""
        shape = (self.setting.batch_size, *self.setting.image_shape)
        first, second = (((2 * torch.rand(shape, generator=self.generator, dtype=self.dtype) - 1)
                          * self.config.epsilon).to(self.device) for _ in range(2))
        return first, second

    def step_seconds(self, side: str, batches: tuple[tuple[Tensor, Tensor], ...], noise: tuple[Tensor, Tensor]) -> float:
        """Take one search step and return its CPU seconds.

        Args:
            side: name of the implementation that takes the step: `PUBLISHED` or one of `CHOICES`.
            batches: weights batch and alphas batch.
            noise: random starts of the attacks on the two batches.
        """
        method, rate = self.side(side), self.config.weights_learning_rate
        return cpu_seconds(lambda: method.step(*batches, learning_rate=rate, noise=noise))


@dataclass(frozen=True)
class StepTimes:
    """CPU seconds of search steps in one setting.

    Attributes:
        setting: name of the setting.
        sizes: sizes and attack radius of the setting.
        attack_steps: number of PGD steps.
        seconds: {implementation: CPU seconds of its step in each round}. The published code comes first, then each choice of back
            end for the engine.
        cells: {choice of back end ("plain", "compiled" or "auto"): back end of each cell}.
    """

    setting: str
    sizes: Setting
    attack_steps: int
    seconds: dict[str, list[float]]
    cells: dict[str, list[str]]

    def ratio(self, choice: str) -> Spread:
        """Return how many times faster the engine takes a step than the published code.

        Args:
            choice: back end of the engine, one of `CHOICES`.
        """
        return ratios(self.seconds[PUBLISHED], self.seconds[choice])

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON data."""
        return {"setting": self.setting, "sizes": vars(self.sizes), "attack_steps": self.attack_steps, "cells": self.cells,
                "cpu_seconds": self.seconds, "ratio": {choice: vars(self.ratio(choice)) for choice in self.cells}}


def measure(setting: str, *, attack_steps: int, pairs: int, choices: Sequence[str] = ()) -> StepTimes:
    """Time search steps in one setting.

    Args:
        setting: key of `SETTINGS`.
        attack_steps: number of PGD steps.
        pairs: number of rounds; each round times every implementation (the published code and our back ends) once.
        choices: back ends of the engine, from `CHOICES`. If empty, all that can run on this machine.
    """
    comparison = Comparison(SETTINGS[setting], attack_steps)
    return time_steps(setting, comparison, choices or comparison.choices(), pairs)


def time_steps(setting: str, comparison: Comparison, choices: Sequence[str], pairs: int) -> StepTimes:
    """Time the steps of all implementations that are compared. An additional first round is not timed.

    Args:
        setting: name of the setting.
        comparison: the implementations.
        choices: back ends of the engine, from `CHOICES`.
        pairs: number of timed rounds; each round times every implementation once.
    """
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
    """Run the comparison and print its table."""
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
    """Add the options `--setting` and `--backend` to a parser."""
    parser.add_argument("--setting", choices=SETTINGS, default=default, help=f"default: {default}")
    add_backend_option(parser)


def add_backend_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--backend` to a parser. `parse` checks its value."""
    parser.add_argument("--backend", choices=CHOICES, action="append", default=[],
                        help="back end of our side; may be given several times (default: all that can run here)")


def add_pairs_option(parser: argparse.ArgumentParser, default: int = 5) -> None:
    """Add the option `--pairs` (number of rounds) to a parser."""
    parser.add_argument("--pairs", type=int, default=default, help=f"interleaved rounds (default: {default})")


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options of a benchmark, which may lack `--backend` and `--pairs`.

    If a back end cannot run on this machine, or the number of rounds is less than 1, exit with an error message.
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
