"""Compare the time of each kind of pass in a search step between the engine and the published code, and count these passes.

    python -m benchmarks.search_step_passes                           # digits
    python -m benchmarks.search_step_passes --setting paper           # 24 channels, 8 cells, 3x32x32, batch 8

Here, a pass consists of one forward pass and one backward pass. There are four kinds, which compute the gradients of the images,
of the weights, of the alphas, or of weights and alphas. For the gradient of the images, which attacks need, the published code
also computes the gradients of all weights and alphas. In the other three kinds, the engine and the published code compute the
same gradients. Times are measured as in `benchmarks.search_step`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measurement import Spread, Table, add_output_options, cpu_seconds, publish, ratios
from benchmarks.search_step import PUBLISHED, SETTINGS, Comparison, Setting, add_pairs_option, add_setting_options, parse
from engine.search.bilevel import Bilevel
from engine.search.methods.arnas.method import Arnas
from engine.search.objectives import cross_entropy_of
from tests.reference_supernet import ReferenceSupernet

KINDS = ("input gradient", "weight gradient", "alpha gradient", "both gradients")
Passes = dict[str, Callable[[], list[Tensor]]]


def passes_per_step(attack_steps: int) -> dict[str, tuple[int, int]]:
    """Return {kind of pass: (number in a published step, number in a step of the engine)}.

    The engine makes one additional forward pass on natural images, which is not counted.
    """
    # Published: the weight step also back-propagates into the alphas, and each objective computes the training gradient.
    return dict(zip(KINDS, ((2 * attack_steps,) * 2, (2, 2), (4, 4), (3, 2)), strict=True))


def published_passes(model: ReferenceSupernet, x: Tensor, y: Tensor) -> Passes:
    """Return {kind of pass: function that makes this pass as in the released code}.

    Each function returns gradients in the order of the model's parameters.
    """
    weights, alphas = list(model.weight_parameters().values()), list(model.alphas.values())

    def loss() -> Tensor:
        return F.cross_entropy(model(x), y)

    def input_gradient() -> list[Tensor]:
        images = x.detach().requires_grad_()
        F.cross_entropy(model(images), y).backward()  # also accumulates into all weights and alphas
        return [_gradient(images)]

    def both_gradients() -> list[Tensor]:
        model.zero_grad()
        loss().backward()
        return [_gradient(parameter) for parameter in (*weights, *alphas)]

    return dict(zip(KINDS, (
        input_gradient, lambda: list(torch.autograd.grad(loss(), weights)),
        lambda: list(torch.autograd.grad(loss(), alphas)), both_gradients), strict=True))


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def our_passes(arnas: Arnas, x: Tensor, y: Tensor) -> Passes:
    """Return {kind of pass: function that makes this pass as in the engine}.

    Each function returns flat gradients. If there are two, the gradient of the weights comes first, then that of the alphas.
    """
    passes, objective = Bilevel(), cross_entropy_of(arnas.supernet, x, y)
    return dict(zip(KINDS, (
        lambda: [passes.input_gradient(arnas.supernet, x, y, arnas.weights, arnas.alphas)],
        lambda: [passes.weight_gradient(objective, arnas.weights, arnas.alphas)[0]],
        lambda: [passes.alpha_gradient(objective, arnas.weights, arnas.alphas)[0]],
        lambda: list(passes.both_gradients(objective, arnas.weights, arnas.alphas)[:2])), strict=True))


@dataclass(frozen=True)
class PassTimes:
    """CPU seconds of each kind of pass in one setting.

    Attributes:
        setting: name of the setting.
        sizes: sizes and attack radius of the setting.
        seconds: {kind of pass: {implementation: seconds in each round}}. The published code comes first, then each back end of
            the engine.
    """

    setting: str
    sizes: Setting
    seconds: dict[str, dict[str, list[float]]]

    def ratio(self, kind: str, choice: str) -> Spread:
        """Return how many times faster the engine makes a pass of one kind than the published code.

        Args:
            kind: kind of the pass.
            choice: back end of the engine.
        """
        return ratios(self.seconds[kind][PUBLISHED], self.seconds[kind][choice])

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON data."""
        ratio = {kind: {choice: vars(self.ratio(kind, choice)) for choice in sides if choice != PUBLISHED}
                 for kind, sides in self.seconds.items()}
        return {"setting": self.setting, "sizes": vars(self.sizes), "cpu_seconds": self.seconds, "ratio": ratio}


def measure(setting: str, *, pairs: int, choices: Sequence[str] = ()) -> PassTimes:
    """Time all kinds of pass in one setting.

    Args:
        setting: key of `SETTINGS`.
        pairs: number of rounds; each round times every implementation (the published code and our back ends) once.
        choices: back ends of the engine, from `CHOICES` of `benchmarks.search_step`. If empty, all that can run on this machine.
    """
    comparison = Comparison(SETTINGS[setting], attack_steps=1)
    return time_passes(setting, comparison, choices or comparison.choices(), pairs)


def time_passes(setting: str, comparison: Comparison, choices: Sequence[str], pairs: int) -> PassTimes:
    """Time all kinds of pass in the published code and in the engine with each back end. An additional first round is not timed.

    Args:
        setting: name of the setting.
        comparison: the implementations that are compared.
        choices: back ends of the engine.
        pairs: number of timed rounds; each round times every implementation once.
    """
    x, y = comparison.batch()
    sides = {PUBLISHED: published_passes(comparison.published.model, x, y)}
    sides |= {choice: our_passes(comparison.ours(choice), x, y) for choice in choices}
    seconds: dict[str, dict[str, list[float]]] = {kind: {side: [] for side in sides} for kind in KINDS}
    for pair in range(pairs + 1):
        for kind in KINDS:
            for side, passes in sides.items():
                spent = cpu_seconds(passes[kind])
                if pair:
                    seconds[kind][side].append(spent)
    return PassTimes(setting, comparison.setting, seconds)


def table(found: Sequence[PassTimes]) -> Table:
    """Return a table with one row per setting, back end and kind of pass."""
    counts, rows = passes_per_step(7), []
    for times in found:
        for choice in next(iter(times.seconds.values())):
            if choice == PUBLISHED:
                continue
            for kind, sides in times.seconds.items():
                rows.append((f"{times.setting}: {times.sizes}", choice, kind, " / ".join(map(str, counts[kind])),
                             *(f"{1000 * Spread.of(sides[side]).median:.1f}" for side in (PUBLISHED, choice)),
                             str(times.ratio(kind, choice))))
    rounds = min(len(values) for times in found for sides in times.seconds.values() for values in sides.values())
    return Table(f"Passes, CPU milliseconds, float32 (median of {rounds} interleaved rounds, ratio with its range)",
                 ("setting", "back end", "pass", "in a step with PGD-7, published / ours", "published", "ours",
                  "published / ours"), tuple(rows))


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison and print its table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_setting_options(parser)
    add_pairs_option(parser)
    add_output_options(parser)
    chosen = parse(parser, arguments)
    torch.set_num_threads(1)
    times = measure(chosen.setting, pairs=chosen.pairs, choices=chosen.backend)
    publish(chosen, "search_step_passes", arguments, times.record(), [table([times])])


if __name__ == "__main__":
    main()
