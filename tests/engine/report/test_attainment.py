"""Hypervolume and attainment over numbers of runs, against definitions counted on a grid and against random draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.report.attainment import attained, hypervolume, needed, stairs, volumes

POINTS = [(0.2, 0.9), (0.5, 0.5), (0.5, 0.3), (0.8, 0.4), (0.8, 0.4), (0.9, 0.1)]


def counted(points: list[tuple[float, float]], count: int, cells: int = 40) -> float:
    """Return the share of the cells of a grid over the unit square that at least `count` points attain."""
    middles = (np.arange(cells) + 0.5) / cells
    covered = sum((x >= middles[:, None]) & (y >= middles[None, :]) for x, y in points)
    return float((covered >= count).mean())


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_the_area_is_that_of_all_cells_with_enough_points(count: int) -> None:
    assert hypervolume(POINTS, count) == pytest.approx(counted(POINTS, count))


def test_areas_of_random_points() -> None:
    points = [(float(x), float(y)) for x, y in np.random.default_rng(1).integers(0, 21, (12, 2)) / 20]
    assert [hypervolume(points, count) for count in (1, 3, 5)] == pytest.approx([counted(points, c) for c in (1, 3, 5)])


def test_the_first_stairs_are_the_front() -> None:
    assert stairs(POINTS) == [(0.9, 0.1), (0.8, 0.4), (0.5, 0.5), (0.2, 0.9)]
    assert stairs(POINTS, 7) == []


def test_the_expected_hypervolume_is_the_mean_over_all_draws() -> None:
    points = POINTS[:4]
    for runs, one in enumerate(volumes(points, 3), start=1):
        draws = [hypervolume(draw) for draw in itertools.product(points, repeat=runs)]
        assert one.runs == runs and one.mean == pytest.approx(float(np.mean(draws)))
        assert min(draws) <= one.low <= one.mean <= one.high <= max(draws)


def test_more_runs_attain_more_and_a_single_point_has_no_spread() -> None:
    means = [one.mean for one in volumes(POINTS, 6)]
    assert means == sorted(means) and means[-1] <= hypervolume(POINTS)
    (one,) = volumes([(0.5, 0.5)], 1)
    assert (one.mean, one.low, one.high) == pytest.approx((0.25, 0.25, 0.25))


@pytest.mark.parametrize(("measured", "runs", "level"), [(10, 1, 0.5), (10, 5, 0.5), (7, 3, 0.9), (50, 50, 0.1)])
def test_the_number_of_points_that_a_level_needs(measured: int, runs: int, level: float) -> None:
    count = needed(measured, runs, level)
    assert 1 - (1 - count / measured) ** runs >= level - 1e-9
    assert count == 1 or 1 - (1 - (count - 1) / measured) ** runs < level


def test_one_run_attains_the_median_front_in_half_of_all_draws() -> None:
    assert attained(POINTS, 1, 0.5) == stairs(POINTS, 3)
    assert attained(POINTS, 1000, 0.5) == stairs(POINTS)
