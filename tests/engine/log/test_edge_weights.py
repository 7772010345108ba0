"""Edge weights in the run log: softmax(alpha) over operations times softmax(beta) over a node's edges decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from engine.architecture.genotype import EDGES
from engine.log import RunLog
from tests.sample_runs import EventsFile, write_run_json

RUN = "20261118-1000-pcdarts-digits-1a01"
PRIMITIVES = ["none", "skip_connect", "sep_conv_3x3"]


def betas_at(step: int) -> np.ndarray:
    """Return clearly unequal raw betas [14] of a step."""
    return np.random.default_rng(step).normal(0, 2, len(EDGES))


def shares(beta: np.ndarray) -> np.ndarray:
    """Return the softmax over the edges into each node, in edge order."""
    return np.concatenate([softmax(part) for part in np.split(beta, [2, 5, 9])])


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    """A log of five steps of one cell with betas and of another without, like the cells of older runs."""
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    for step in range(1, 6):
        events.step, events.epoch = step, 1
        alpha = np.random.default_rng(100 + step).normal(0, 1, (len(EDGES), len(PRIMITIVES))).tolist()
        events.write("alpha", cell="normal", primitives=PRIMITIVES, alpha=alpha, beta=betas_at(step).tolist())
        events.write("alpha", cell="reduce", primitives=PRIMITIVES, alpha=alpha)
    opened = RunLog.open(tmp_path, in_memory=True)
    assert opened.ingest().faults == 0
    return opened


def test_the_weight_is_the_product_of_both(log: RunLog) -> None:
    with_betas, without = (log.alpha_matrix(RUN, cell) for cell in ("normal", "reduce"))
    expected = np.repeat(shares(betas_at(5)), len(PRIMITIVES))
    np.testing.assert_allclose(with_betas["edge_weight"], expected, rtol=1e-6)
    np.testing.assert_allclose(without.groupby("edge")["weight"].sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(with_betas["weight"], without["weight"] * expected, rtol=1e-6)
    assert without["edge_weight"].isna().all()
    into_nodes = with_betas.groupby(with_betas["edge"].map(lambda edge: EDGES[edge][1]))["weight"].sum()
    np.testing.assert_allclose(into_nodes, 1, rtol=1e-6)


def test_the_course_of_the_weights_is_that_of_the_product(log: RunLog) -> None:
    lines = log.alpha_lines(RUN, "normal")
    last = lines[lines["step"] == 5].reset_index(drop=True)
    pd.testing.assert_series_equal(last["weight"], log.alpha_matrix(RUN, "normal")["weight"])


def test_the_course_of_the_edges(log: RunLog) -> None:
    lines = log.edge_lines(RUN, "normal")
    assert len(lines) == 5 * len(EDGES)
    for step in range(1, 6):
        found = lines[lines["step"] == step].sort_values("edge")
        assert list(found["edge"]) == list(range(len(EDGES)))
        np.testing.assert_allclose(found["edge_weight"], shares(betas_at(step)), rtol=1e-6)
    assert log.edge_lines(RUN, "reduce").empty and log.edge_lines(RUN, "nobody").empty
    assert list(log.edge_lines(RUN, "reduce").dtypes) == list(lines.dtypes)
    drawn = log.edge_courses(RUN, "normal")
    assert [one.edge for one in drawn] == list(range(len(EDGES))) and {tuple(one.steps) for one in drawn} == {(1, 2, 3, 4, 5)}
    np.testing.assert_allclose([one.weights[-1] for one in drawn], shares(betas_at(5)), atol=1e-4)
