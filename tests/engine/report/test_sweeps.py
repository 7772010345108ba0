"""Curves of accuracy against radius or number of steps."""

from __future__ import annotations

import pandas as pd

from engine.attack.statistics import wilson
from engine.report.sweeps import curves


def frame(correct: dict[float, int], run: str = "r", sweep: str = "epsilon") -> pd.DataFrame:
    return pd.DataFrame([{"run": run, "sweep": sweep, "attack": "pgd-20", "title": "PGD-20", "norm": "Linf", "fingerprint": "f",
                          "epsilon": radius if sweep == "epsilon" else 0.1, "steps": 20 if sweep == "epsilon" else int(radius),
                          "images": 100, "correct": count} for radius, count in correct.items()])


def test_a_curve_is_ascending_with_wilson_intervals() -> None:
    (curve,) = curves(frame({0.2: 30, 0.0: 90, 0.1: 60}), {"r": "ARNAS"})
    assert [radius for radius, _ in curve.points] == [0.0, 0.1, 0.2]
    assert (curve.points[1][1].low, curve.points[1][1].high) == wilson(60, 100)
    assert curve.label == "ARNAS" and not curve.whole


def test_a_sweep_over_steps_has_the_steps_as_points() -> None:
    (curve,) = curves(frame({10: 60, 100: 30}, sweep="steps"), {"r": "A"})
    assert [steps for steps, _ in curve.points] == [10, 100]


def test_only_the_asked_networks_have_curves() -> None:
    both = pd.concat([frame({0.1: 50}), frame({0.1: 40}, run="s")])
    assert [curve.run for curve in curves(both, {"s": "B"})] == ["s"]
