"""Measure how much sooner an evaluation ends when its attacks run in two lanes (threads) instead of one.

    python -m benchmarks.attack_threads                # digits, 359 images, 3 pairs; about 5 minutes
    python -m benchmarks.attack_threads --images 64 --pairs 1

The attacks, the sweep and the certified bound of the preset `quick` run on an adversarially trained network, by turns with one
thread and with two. Times are wall-clock times, because the gain comes from a second core; other load on the machine shows in the
range of the ratios. Both sides must classify the same images correctly under every attack.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from benchmarks.attack import CLASSES, SETTINGS, trained
from benchmarks.measurement import Spread, Table, add_output_options, publish, ratios
from engine.attack.certification import Certification
from engine.attack.evaluation import Evaluation
from engine.attack.sweep import Sweep
from engine.config import AttackConfig
from engine.configuring import build
from engine.space.network import Network

THREADS = (1, 2)


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        seconds: {part: wall-clock seconds}. The parts are the attacks, "sweep" and "certified".
        correct: {attack: number of images that are classified correctly under it}.
    """

    seconds: dict[str, float]
    correct: dict[str, int]

    @property
    def total(self) -> float:
        """Wall-clock seconds of all parts together."""
        return sum(self.seconds.values())


def evaluate(network: Network, x: Tensor, y: Tensor, epsilon: float) -> Run:
    """Run the attacks, the sweep and the certified bound of the preset `quick` with torch's current number of threads.

    Args:
        network: the network to attack.
        x, y: images [N, C, H, W] and labels [N].
        epsilon: L-infinity radius of the attacks.
    """
    config = cast(AttackConfig, build("attack", None, "digits", "quick", {"epsilon": epsilon, "step_size": epsilon / 4}))
    evaluation = Evaluation(config, network, x, y, classes=CLASSES, indices=range(len(y)))
    seconds: dict[str, float] = {}
    while not evaluation.over:
        with _timed(seconds, evaluation.stage):
            evaluation.step()
    for name, measurement in (("sweep", Sweep(evaluation)), ("certified", Certification(evaluation))):
        while not measurement.over:
            with _timed(seconds, name):
                measurement.step()
    return Run(seconds, {row["attack"]: row["correct"] for row in evaluation.rows()})


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the wall-clock seconds of the `with` block to those of a part."""
    started = time.perf_counter()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started


def measure(images: int, pairs: int) -> dict[int, list[Run]]:
    """Train a network and evaluate it by turns. Return {number of threads: one run per pair}."""
    setting = replace(SETTINGS["digits"], images=images)
    network, x, y = trained(setting)
    runs: dict[int, list[Run]] = {threads: [] for threads in THREADS}
    for _ in range(pairs):
        for threads in THREADS:
            torch.set_num_threads(threads)
            runs[threads].append(evaluate(network, x, y, setting.epsilon))
    return runs


def check_outcomes(runs: dict[int, list[Run]]) -> None:
    """Check that the outcomes do not depend on the number of threads.

    Raises:
        RuntimeError: they do.
    """
    found = {tuple(run.correct.items()) for each in runs.values() for run in each}
    if len(found) > 1:
        raise RuntimeError(f"outcomes must not depend on the number of threads, got {found}")


def table(runs: dict[int, list[Run]]) -> Table:
    """Return a table with one row per part of an evaluation and one row for all parts."""
    parts = list(runs[THREADS[0]][0].seconds)
    rows = []
    for part in [*parts, "all"]:
        one, two = ([run.total if part == "all" else run.seconds[part] for run in runs[threads]] for threads in THREADS)
        rows.append((part, str(Spread.of(one)), str(Spread.of(two)), str(ratios(one, two))))
    return Table("Evaluation of the preset quick on digits, wall-clock seconds", ("part", "1 thread", "2 threads", "ratio"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and print its table."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=359, help="images attacked (default: 359)")
    parser.add_argument("--pairs", type=int, default=3, help="interleaved pairs (default: 3)")
    add_output_options(parser)
    chosen = parser.parse_args(given)
    runs = measure(chosen.images, chosen.pairs)
    check_outcomes(runs)
    numbers = {str(threads): [vars(run) for run in each] for threads, each in runs.items()}
    publish(chosen, "attack_threads", given, {"runs": numbers}, [table(runs)])


if __name__ == "__main__":
    main()
