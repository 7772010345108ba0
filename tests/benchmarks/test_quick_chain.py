"""The chain's benchmark with the `smoke` preset: real processes, and margins that follow from the alphas."""

from __future__ import annotations

import pytest

from benchmarks import quick_chain


def test_prints_durations_margins_and_accuracies(capsys: pytest.CaptureFixture[str]) -> None:
    quick_chain.main(["--preset", "smoke"])
    printed = capsys.readouterr().out
    assert "smoke: " in printed and "retraining" in printed and "natural accuracy" in printed
    edges = [line.split() for line in printed.splitlines() if line.split()[:1] in (["robust"], ["reduce"], ["accurate"])]
    assert [edge[1] for edge in edges] == [*map(str, range(14)), "median"] * 3
    # At the start alphas are 1e-3 N(0, 1): margins of seven softmaxed values are of the order of 1e-4.
    assert all(0 <= float(edge[2]) < 2e-3 and float(edge[3]) >= 0 for edge in edges)
