"""The course of the architecture weights: softmax, entropy, margins and planted flips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.architecture.genotype import PRIMITIVES, derive
from engine.insight.alphas import river, river_of, rivers
from engine.log import RunLog
from engine.log.alpha_queries import AlphaHistory
from tests.engine.insight.planted import EDGES, SEARCH, alphas_of, write_alphas, write_search
from tests.sample_runs import EventsFile, write_resumed_retrain

K = len(PRIMITIVES)


def history(alpha: np.ndarray, primitives: tuple[str, ...] = PRIMITIVES, per_epoch: int = 1) -> AlphaHistory:
    steps = np.arange(len(alpha))
    return AlphaHistory(primitives, steps, -(-steps // per_epoch), alpha.astype(np.float32), None)


def test_even_weights_have_the_largest_entropy_and_one_operation_alone_has_none() -> None:
    alpha = np.zeros((2, EDGES, K))
    alpha[1, :, 3] = 60.0
    course = river_of(history(alpha), "robust")
    assert np.allclose(course.entropy[0], np.log(K)) and np.allclose(course.relative_entropy[0], 1)
    assert np.allclose(course.entropy[1], 0, atol=1e-20) and np.allclose(course.margin, [[0.0], [1.0]])


@pytest.mark.parametrize("seed", range(5))
def test_numbers_agree_with_their_definitions(seed: int) -> None:
    alpha = np.random.default_rng(seed).normal(0, 2, (9, EDGES, K)).astype(np.float32)
    course = river_of(history(alpha), "robust")
    weights = np.exp(alpha.astype(float)) / np.exp(alpha.astype(float)).sum(axis=2, keepdims=True)
    assert np.allclose(course.weights, weights) and np.allclose(course.entropy, -(weights * np.log(weights)).sum(axis=2))
    first, second = np.sort(weights, axis=2)[..., -1], np.sort(weights, axis=2)[..., -2]
    assert np.allclose(course.margin, first - second) and (course.strongest == alpha.argmax(axis=2)).all()
    # Between two flips of an edge, its strongest operation stays.
    replayed = course.strongest[0].copy()
    for flip in course.flips.sort_values("step").itertuples():
        assert PRIMITIVES[replayed[flip.edge]] == flip.before != flip.after
        replayed[flip.edge] = PRIMITIVES.index(flip.after)
    assert (replayed == course.strongest[-1]).all()


def test_none_is_never_the_strongest_operation() -> None:
    alpha = np.zeros((1, EDGES, 8))
    alpha[:, :, 0], alpha[:, :, 4] = 5.0, 1.0
    course = river_of(history(alpha, ("none", *PRIMITIVES)), "normal")
    cell = derive(course.weights[0].tolist(), course.primitives)
    assert set(course.operations()) == {"sep_conv_3x3"} == {operation for operation, _ in cell.edges}
    assert 0 < course.margin[0, 0] < 0.1


def test_infinite_alphas_leave_every_number_finite() -> None:
    alpha = np.zeros((1, EDGES, K))
    alpha[0, 3, 2], alpha[0, 4, :] = np.inf, -np.inf
    course = river_of(history(alpha), "robust")
    assert np.isfinite(course.weights).all() and np.isfinite(course.entropy).all()
    assert course.weights[0, 3].tolist() == [0, 0, 1, 0, 0, 0, 0] and np.allclose(course.weights[0, 4], 1 / K)


def test_a_planted_flip_is_found_at_its_step_and_edge_and_only_there(read: Callable[[], RunLog], tmp_path: Path) -> None:
    before, after = alphas_of(), alphas_of()
    after["reduce"][5, PRIMITIVES.index("dil_conv_3x3")] = 3.0
    write_search(tmp_path, [before, before, after, after])
    found = rivers(read(), SEARCH)
    assert list(found) == ["robust", "reduce", "accurate"]
    assert found["reduce"].flips.to_dict("records") == [
        {"step": 8, "epoch": 2, "edge": 5, "before": "sep_conv_5x5", "after": "dil_conv_3x3"}]
    assert found["robust"].flips.empty and found["accurate"].flips.empty
    assert found["reduce"].epochs.tolist() == [0, 1, 2, 3] and found["reduce"].steps.tolist() == [0, 4, 8, 12]


def test_a_long_search_is_thinned_to_its_last_step_and_keeps_every_flip() -> None:
    alpha = np.zeros((1001, EDGES, K))
    alpha[500, 2, 4] = 1.0  # one step long, between two of the moments
    course = river_of(history(alpha, per_epoch=10), "robust", by_epoch=False, most=100)
    assert len(course.steps) <= 100 and course.steps[-1] == 1000 and (np.diff(course.steps) == 11).all()
    assert course.flips[["step", "edge"]].to_numpy().tolist() == [[500, 2], [501, 2]]
    assert river_of(history(alpha, per_epoch=10), "robust").epochs.tolist() == list(range(101))


def test_superseded_steps_and_other_operations_are_left_out(read: Callable[[], RunLog], tmp_path: Path) -> None:
    folder = write_search(tmp_path, [alphas_of(), alphas_of(), alphas_of()])
    events = EventsFile(folder, t=1_795_001_000.0)
    events.attempt, events.step, events.epoch = 2, 4, 1
    events.write("resumed", from_step=4)
    course = river(read(), SEARCH, "robust")
    assert course is not None and course.steps.tolist() == [0, 4]
    events.step, events.epoch = 5, 2
    events.write("alpha", cell="robust", primitives=["none", "skip_connect"], alpha=[[0.0, 1.0]] * EDGES, beta=[0.0] * EDGES)
    course = river(read(), SEARCH, "robust")
    assert course is not None and course.primitives == ("none", "skip_connect") and course.steps.tolist() == [5]
    assert course.edge_weights is not None and np.allclose(course.edge_weights[0, :5], [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    assert (course.margin > 0.7).all()  # a single operation can be derived


def test_a_run_without_alphas_has_no_course(read: Callable[[], RunLog], tmp_path: Path) -> None:
    run = write_resumed_retrain(tmp_path)
    log = read()
    assert river(log, run, "robust") is None and rivers(log, run) == {} == rivers(log, "20260101-0000-arnas-digits-0000")


def test_the_ends_of_epochs_are_read_alone(read: Callable[[], RunLog], tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(strength) for strength in (1.0, 1.5, 2.0)])
    events = EventsFile(tmp_path / SEARCH)
    for step in (11, 12):  # of epoch 3
        events.step, events.epoch = step, 3
        write_alphas(events, alphas_of(float(step)))
    log = read()
    whole, ends = log.alpha_history(SEARCH, "robust"), log.alpha_history(SEARCH, "robust", by_epoch=True)
    assert whole is not None and ends is not None
    assert (whole.steps.tolist(), ends.steps.tolist()) == ([0, 4, 8, 11, 12], [0, 4, 8, 12])
    assert ends.epochs.tolist() == [0, 1, 2, 3] and (ends.alpha[-1] == whole.alpha[-1]).all()
