"""The passes that are timed against each other give the same gradients in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.search_step import PUBLISHED, Comparison
from benchmarks.search_step_passes import (
    KINDS,
    PassTimes,
    our_passes,
    passes_per_step,
    published_passes,
    table,
    time_passes,
)
from tests.benchmarks.test_search_step import TINY
from tests.darts_state import darts_state_dict


def test_passes_give_equal_gradients_in_float64() -> None:
    comparison = Comparison(TINY, attack_steps=1, dtype=torch.float64)
    x, y = comparison.batch()
    model = comparison.published.model
    theirs = {kind: compute() for kind, compute in published_passes(model, x, y).items()}
    weight_names, alpha_names = list(model.weight_parameters()), [f"alphas_{kind}" for kind in model.alphas]
    names = {"weight gradient": weight_names, "alpha gradient": alpha_names, "both gradients": weight_names + alpha_names}
    for choice in comparison.choices():
        arnas = comparison.ours(choice)
        ours = {kind: compute() for kind, compute in our_passes(arnas, x, y).items()}
        assert_close(ours["input gradient"][0], theirs["input gradient"][0])
        alone = darts_state_dict(arnas.supernet, ours["weight gradient"][0], alphas=ours["alpha gradient"][0])
        both = darts_state_dict(arnas.supernet, ours["both gradients"][0], alphas=ours["both gradients"][1])
        for kind, of_kind in names.items():
            found = both if kind == "both gradients" else alone
            for name, gradient in zip(of_kind, theirs[kind], strict=True):
                assert_close(found[name], gradient)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    scale = theirs.abs().max()
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-9)


def test_the_published_attack_pass_fills_all_gradients() -> None:
    """The cost that the benchmark is about."""
    comparison = Comparison(TINY, attack_steps=1)
    model = comparison.published.model
    published_passes(model, *comparison.batch())["input gradient"]()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_our_passes_per_step_are_those_of_the_method() -> None:
    comparison = Comparison(TINY, attack_steps=3)
    natural_pass = 1
    assert sum(ours for _, ours in passes_per_step(3).values()) + natural_pass == comparison.merged.passes_per_step


def test_times_every_kind_and_reports_ratios() -> None:
    times = time_passes("tiny", Comparison(TINY, attack_steps=1), ["plain"], pairs=1)
    assert list(times.seconds) == list(KINDS)
    assert all(len(seconds) == 1 and seconds[0] > 0 for sides in times.seconds.values() for seconds in sides.values())
    known = PassTimes("tiny", TINY, {kind: {PUBLISHED: [4.0, 6.0], "plain": [1.0, 2.0]} for kind in KINDS})
    rows = table([known]).rows
    assert [row[2] for row in rows] == list(KINDS)
    assert rows[0][3:] == ("14 / 14", "5000.0", "1500.0", "3.50 [3.00 - 4.00]")
