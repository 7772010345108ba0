"""Lines fit the timed points, and each point is timed with the sizes that its row prints."""

from __future__ import annotations

import pytest

from benchmarks.search_step import Comparison
from benchmarks.search_step_growth import Growth, fit, tables, time_growth
from tests.benchmarks.test_search_step import TINY


def test_fit_finds_floor_and_slope() -> None:
    line = fit([1, 2, 5, 20], [3.5, 4.0, 5.5, 13.0])
    assert line.floor == pytest.approx(3) and line.per_unit == pytest.approx(0.5)


def test_fit_weighs_relative_errors() -> None:
    """Noise of 10 % at the largest point hardly moves the floor of the small ones."""
    assert fit([1, 2, 100], [1.1, 1.2, 12.1]).floor == pytest.approx(1, rel=0.02)


def test_times_every_point_and_the_common_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    step_seconds = Comparison.step_seconds

    def noted(self: Comparison, *arguments) -> float:
        timed.append((self.setting.layers, self.setting.batch_size))
        return step_seconds(self, *arguments)

    monkeypatch.setattr(Comparison, "step_seconds", noted)
    cells, batch = time_growth({"cells": (4, 5), "batch": (2, 4)}, TINY, ["plain"], rounds=2)
    assert timed == 2 * [(4, 4), (5, 4), (4, 2)]
    assert cells.passes == 11
    assert list(cells.seconds["plain"]) == [4, 5] and list(batch.seconds["plain"]) == [2, 4]
    assert cells.seconds["plain"][4] is batch.seconds["plain"][4] and len(batch.seconds["plain"][2]) == 2


def test_reports_marginal_cost_power_and_floor() -> None:
    growth = Growth("batch", TINY, {"plain": {4: [3.3], 8: [4.4], 16: [6.6]}}, passes=11)
    points, lines = tables([growth])
    assert points.rows[1] == ("batch", "plain", "8", "4.40 [4.40 - 4.40]", "400.0", "275.0", "0.42")
    assert lines.rows == (("batch", "plain", "200.0", "25.00", "67 % at n = 4"),)


def test_what_grows_faster_than_n_has_no_floor() -> None:
    growth = Growth("channels", TINY, {"plain": {2: [1.0], 4: [4.0]}}, passes=10)
    assert tables([growth])[1].rows == (("channels", "plain", "-200.0", "150.00", "none"),)
