"""Measure how the time of a search step in the engine grows with the number of cells, the number of channels and the batch size.

    python -m benchmarks.search_step_growth                           # minutes
    python -m benchmarks.search_step_growth --rounds 1 --axis batch   # a quick look

One of these sizes, n, is varied at a time, while the others stay small. The line a + b * n is fitted to the times with least
relative errors. Here, a is the fixed time, and b the time of one more cell, channel or image. If a is negative, the time grows
faster than n.

PGD has one step, so a search step has 11 forward passes. Times are CPU times of one thread. Every round times all sizes once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import torch

from benchmarks.measurement import Spread, Table, add_output_options, publish
from benchmarks.search_step import Comparison, Setting, add_backend_option, parse

MIDDLE = Setting(channels=16, layers=6, image_shape=(3, 16, 16), batch_size=8, epsilon=8 / 255)
FIELDS = {"cells": "layers", "channels": "channels", "batch": "batch_size"}
# Reductions are at one and two thirds of the cells: with multiples of 3, the proportions of map sizes stay the same.
AXES: dict[str, tuple[int, ...]] = {"cells": (6, 9, 12, 18), "channels": (8, 16, 32, 64), "batch": (8, 16, 32, 64)}


@dataclass(frozen=True)
class Line:
    """The line seconds = floor + per_unit * n, where n is the varied size: the number of cells or channels, or the batch size."""

    floor: float
    per_unit: float


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> Line:
    """Return the line through at least two points (size, seconds) that is fitted with least relative errors.

    Relative errors are used because the noise of a measured time is proportional to the time.
    """
    n, t = np.asarray(sizes, dtype=float), np.asarray(seconds, dtype=float)
    (floor, per_unit), *_ = np.linalg.lstsq(np.stack([1 / t, n / t], axis=1), np.ones_like(t), rcond=None)
    return Line(float(floor), float(per_unit))


@dataclass(frozen=True)
class Growth:
    """CPU seconds of the engine's search steps while one size is varied.

    Attributes:
        axis: the size that is varied, a key of `FIELDS`.
        middle: setting with the values of the sizes that are not varied.
        seconds: {back end: {value of the varied size: seconds of the step in each round}}.
        passes: number of forward passes of a step.
    """

    axis: str
    middle: Setting
    seconds: dict[str, dict[int, list[float]]]
    passes: int

    def medians(self, choice: str) -> dict[int, float]:
        """Return {value of the varied size: median CPU seconds of a step} for a back end."""
        return {size: Spread.of(values).median for size, values in self.seconds[choice].items()}

    def line(self, choice: str) -> Line:
        """Return the line fitted to the medians of a back end."""
        medians = self.medians(choice)
        return fit(list(medians), list(medians.values()))

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON data."""
        return {"axis": self.axis, "middle": vars(self.middle), "forward_passes": self.passes, "cpu_seconds": self.seconds,
                "line": {choice: vars(self.line(choice)) for choice in self.seconds}}


def measure(axes: Sequence[str] = tuple(AXES), *, rounds: int, choices: Sequence[str] = ()) -> list[Growth]:
    """Time steps while one size at a time is varied. Return one `Growth` per varied size.

    Args:
        axes: sizes to vary, keys of `AXES`.
        rounds: number of rounds; each round times every back end once with every value of the sizes.
        choices: back ends of the engine, from `CHOICES` of `benchmarks.search_step`. If empty, all that can run on this machine.
    """
    return time_growth({axis: AXES[axis] for axis in axes}, MIDDLE, choices or Comparison(MIDDLE, 1).choices(), rounds)


def time_growth(axes: dict[str, Sequence[int]], middle: Setting, choices: Sequence[str], rounds: int) -> list[Growth]:
    """Time one step per round, back end and point (a setting with one varied size). Return one `Growth` per varied size.

    Before the first step, each back end makes one untimed pass at each point. If two varied sizes have a point in common, it is
    timed once.

    Args:
        axes: {size to vary: its values}.
        middle: setting with the values of the sizes that are not varied.
        choices: back ends of the engine.
        rounds: number of rounds.
    """
    points = {axis: {size: replace(middle, **{FIELDS[axis]: size}) for size in sizes} for axis, sizes in axes.items()}
    comparisons = {setting: Comparison(setting, attack_steps=1) for along in points.values() for setting in along.values()}
    seconds: dict[tuple[Setting, str], list[float]] = {(setting, choice): [] for setting in comparisons for choice in choices}
    for number in range(rounds):
        for setting, comparison in comparisons.items():
            batches, noise = (comparison.batch(), comparison.batch()), comparison.noise()
            for choice in choices:
                if number == 0:
                    arnas = comparison.ours(choice)
                    arnas.supernet.logits(batches[0][0], arnas.weights, arnas.alphas)
                seconds[setting, choice].append(comparison.step_seconds(choice, batches, noise))
    passes = next(iter(comparisons.values())).ours(choices[0]).passes_per_step
    return [Growth(axis, middle, {choice: {size: seconds[setting, choice] for size, setting in along.items()}
                                  for choice in choices}, passes) for axis, along in points.items()]


def tables(found: Sequence[Growth]) -> list[Table]:
    """Return two tables.

    The first has all measured times, and the time of one more cell, channel or image. The second has the fitted lines.
    """
    return [_points(found), _lines(found)]


def _points(found: Sequence[Growth]) -> Table:
    rows = []
    for growth in found:
        for choice in growth.seconds:
            before: tuple[int, float] | None = None
            for size, seconds in growth.medians(choice).items():
                marginal, power = "", ""
                if before:
                    marginal = f"{1000 * (seconds - before[1]) / (size - before[0]):.1f}"
                    power = f"{log(seconds / before[1]) / log(size / before[0]):.2f}"
                rows.append((growth.axis, choice, str(size), str(Spread.of(growth.seconds[choice][size])),
                             f"{1000 * seconds / growth.passes:.1f}", marginal, power))
                before = size, seconds
    count = min(len(values) for growth in found for sizes in growth.seconds.values() for values in sizes.values())
    return Table(f"One of our steps around {found[0].middle}: PGD-1, {found[0].passes} forward passes, CPU time, float32 "
                 f"(median of {count}, range)",
                 ("axis", "back end", "n", "step, s", "per pass, ms", "one more, ms per step", "grows as n to the"), tuple(rows))


def _lines(found: Sequence[Growth]) -> Table:
    rows = []
    for growth in found:
        middle = getattr(growth.middle, FIELDS[growth.axis])
        for choice in growth.seconds:
            line = growth.line(choice)
            share = 100 * line.floor / (line.floor + line.per_unit * middle)
            rows.append((growth.axis, choice, f"{1000 * line.floor / growth.passes:.1f}",
                         f"{1000 * line.per_unit / growth.passes:.2f}",
                         f"{share:.0f} % at n = {middle}" if share > 0 else "none"))
    return Table("The floor: a pass as a + b n, CPU milliseconds", ("axis", "back end", "a", "b", "share of a"), tuple(rows))


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement and print its tables."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--axis", choices=AXES, action="append", help="may be given several times (default: all)")
    add_backend_option(parser)
    parser.add_argument("--rounds", type=int, default=3, help="steps timed at each point (default: 3)")
    add_output_options(parser)
    chosen = parse(parser, arguments)
    if chosen.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {chosen.rounds}")
    torch.set_num_threads(1)
    growths = measure(chosen.axis or tuple(AXES), rounds=chosen.rounds, choices=chosen.backend)
    publish(chosen, "search_step_growth", arguments, {"growth": [growth.record() for growth in growths]}, tables(growths))


if __name__ == "__main__":
    main()
