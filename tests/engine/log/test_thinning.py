"""Thinned series: a step that is added changes only the last bucket, and no smallest, largest or newest value is lost."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from engine.architecture.genotype import EDGES
from engine.log import RunLog
from engine.log.thinning import epoch_means, extremes
from engine.log.training_queries import EVERY
from tests.sample_runs import EventsFile, write_run_json

RUN = "20261118-1000-pcdarts-digits-1a01"
BUCKETS, STEPS = 4, 28  # the length of the buckets becomes 2, 4 and 8
PRIMITIVES = ["none", "skip_connect"]
Points = dict[int, float]  # {step: value}


def write_step(events: EventsFile, step: int) -> None:
    """Write a step with values that jump up and down. Many accuracies and weights are equal, and some losses are missing."""
    noise = np.random.default_rng(step)
    events.step, events.epoch = step, 1 + step // 10
    events.write("metric", split="alphas", values={"natural_loss": None if step % 7 == 0 else float(noise.normal()),
                                                   "natural_accuracy": float(noise.integers(3)) / 2})
    gamma, cosine = float(noise.integers(2)), float(noise.uniform(-1, 1))
    events.write("objectives", names=["natural", "adversarial"], losses=noise.normal(1, 0.1, 2).tolist(),
                 weights=[gamma, 1 - gamma], norms=noise.normal(1, 0.1, 2).tolist(), cosines=[[1.0, cosine], [cosine, 1.0]])
    events.write("alpha", cell="normal", primitives=PRIMITIVES, beta=noise.normal(0, 1, len(EDGES)).tolist(),
                 alpha=noise.normal(0, 1, (len(EDGES), len(PRIMITIVES))).tolist())


def series_of(log: RunLog, buckets: int) -> dict[str, Points]:
    """Return every series of the search by name, thinned to a number of buckets."""
    found: dict[str, Points] = {}
    for row in log.steps_curve(RUN, ["natural_loss", "natural_accuracy"], buckets).itertuples():
        found.setdefault(row.name, {})[row.step] = row.value
    for row in log.objectives(RUN, buckets).itertuples():
        for name in ("weight", "norm", "loss", "cosine"):
            found.setdefault(f"{row.objective} {name}", {})[row.step] = getattr(row, name)
    courses = log.alpha_courses(RUN, "normal", buckets) + log.edge_courses(RUN, "normal", buckets)
    return found | {f"edge {one.edge} {one.operation}": dict(zip(one.steps, one.weights, strict=True)) for one in courses}


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Points], dict[str, Points]]]:
    """The series of one search after each of its steps: thinned, and complete."""
    root = tmp_path_factory.mktemp("growing")
    events = EventsFile(write_run_json(root, RUN, "search"))
    log, found = RunLog.open(root, in_memory=True), []
    for step in range(1, STEPS + 1):
        write_step(events, step)
        assert log.ingest().faults == 0
        found.append((series_of(log, BUCKETS), series_of(log, EVERY)))
    log.close()
    return found


def length(steps: int) -> int:
    """Return the length of the buckets of a series of so many steps."""
    return next(2**power for power in range(10) if steps <= BUCKETS * 2**power)


def test_a_step_changes_only_the_last_bucket_unless_the_buckets_become_longer(
        growing: list[tuple[dict[str, Points], dict[str, Points]]]) -> None:
    kept = 0
    for steps in range(2, STEPS + 1):
        if length(steps) > length(steps - 1):
            continue
        first = 1 + (steps - 1) // length(steps) * length(steps)  # of the last bucket
        before, after = ([(name, step, points[step]) for name, points in series.items() for step in points if step < first]
                         for series in (growing[steps - 2][0], growing[steps - 1][0]))
        assert repr(before) == repr(after)  # NaN equals itself
        kept += len(after)
    assert kept > 1000


def test_the_smallest_the_largest_and_the_last_value_of_each_bucket_are_kept(
        growing: list[tuple[dict[str, Points], dict[str, Points]]]) -> None:
    for steps, (thinned, complete) in enumerate(growing, 1):
        assert thinned.keys() == complete.keys() and len(thinned) == 2 + 8 + 3 * len(EDGES)
        for name, points in complete.items():
            assert thinned[name].items() <= points.items() or "loss" in name
            for first in range(1, steps + 1, length(steps)):
                bucket, left = ({step: value for step, value in one.items() if first <= step < first + length(steps)}
                                for one in (points, thinned[name]))
                assert max(left) == max(bucket)
                measured, shown = ([value for value in one.values() if not isnan(value)] for one in (bucket, left))
                assert (min(measured, default=0), max(measured, default=0)) == (min(shown, default=0), max(shown, default=0))


def test_a_long_series_has_at_most_three_points_in_a_bucket_and_edges_keep_the_same_steps(
        growing: list[tuple[dict[str, Points], dict[str, Points]]]) -> None:
    thinned, complete = growing[-1]
    courses = {name: points for name, points in thinned.items() if name.startswith("edge") and not name.endswith(" ")}
    assert all(BUCKETS <= len(points) <= 3 * BUCKETS < len(complete[name]) for name, points in courses.items())
    assert len({tuple(points) for name, points in thinned.items() if name.endswith(" ")}) == 1


def test_missing_values_are_no_extremes_and_no_part_of_a_mean() -> None:
    steps, epochs = np.arange(1, 9), np.array([1, 1, 1, 1, 2, 2, 3, 3])
    values = np.array([np.nan, 2.0, 5.0, np.nan, np.nan, np.nan, 1.0, np.nan])
    assert [one.tolist() for one in extremes(steps, values[:, None], 2)] == [[1, 2, 3, 6, 7]]
    found, last, means = epoch_means(epochs, steps, values)
    assert found.tolist() == [1, 2, 3] and last.tolist() == [4, 6, 8]
    assert means[0] == 3.5 and np.isnan(means[1]) and means[2] == 1.0
