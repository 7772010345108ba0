"""Weights of objectives: shares at each vertex, stationarity, the closed form of MGDA, and the sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.insight import objectives
from engine.log import RunLog
from engine.search.weighting import gramian_of, mgda
from tests.engine.insight.planted import SEARCH, alphas_of, write_objectives, write_search
from tests.sample_runs import EventsFile, write_resumed_retrain, write_run_json


def write_steps(root: Path, weights: Sequence[float], **changes: object) -> EventsFile:
    """Write the weights of the natural loss of one step after another, two steps an epoch."""
    events = EventsFile(write_run_json(root, SEARCH, "search", changes=dict(changes)))
    for weight in weights:
        events.step, events.epoch = events.step + 1, events.step // 2 + 1
        write_objectives(events, weight, norms=(0.3, 0.4), cosine=0.0)
    return events


@pytest.mark.parametrize("seed", range(20))
def test_the_closed_form_is_the_solver(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gradients = torch.from_numpy(generator.normal(size=(2, 5)) * generator.choice([0.01, 1.0, 30.0], size=(2, 1)))
    first, second = gradients.norm(dim=1).tolist()
    cosine = float(gradients[0] @ gradients[1]) / (first * second)
    weight = float(objectives.first_weight(first, second, cosine))
    assert weight == pytest.approx(float(mgda(gramian_of(gradients))[0]), abs=1e-12)
    assert (weight == 0) == (cosine >= second / first)  # the natural loss is ignored exactly then


def test_the_closed_form_of_equal_gradients_is_one_half() -> None:
    assert objectives.first_weight(np.array([0.5, 0.0]), np.array([0.5, 0.0]), np.array([1.0, 0.0])).tolist() == [0.5, 0.5]


def test_shares_at_each_vertex_and_the_sentence(read: Callable[[], RunLog], tmp_path: Path) -> None:
    write_steps(tmp_path, [0.0, 0.0, 0.0, 1.0, 0.5, 0.25, 0.0, 0.0])
    log = read()
    found = objectives.vertices(log, SEARCH)
    assert found.steps == 8 and found.alone == {"natural": 1 / 8, "adversarial": 5 / 8}
    assert found.ignored == {"natural": 5 / 8, "adversarial": 1 / 8} and found.mixed == pytest.approx(2 / 8)
    assert objectives.vertices(log, SEARCH, last=2).alone == {"natural": 0.0, "adversarial": 1.0}
    assert objectives.in_words(log, SEARCH) == ("The natural loss was ignored in 62 % of the last 8 steps: the other gradient "
                                                "was the shortest convex combination of both.")
    assert objectives.in_words(log, SEARCH, last=1).startswith("The natural loss was ignored in 100 % of the only step")


def test_steps_in_which_a_loss_had_no_weight_do_not_count_for_it(read: Callable[[], RunLog], tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, SEARCH, "search", method="dsara"))
    for weight in (None, None, 0.0, 0.5, 0.5, 0.5):  # the first stage weighs the adversarial loss alone
        events.step, events.epoch = events.step + 1, 1
        if weight is None:
            events.write("objectives", names=["adversarial"], losses=[0.25], weights=[1.0], norms=[0.4], cosines=[[1.0]])
        else:
            write_objectives(events, weight)
    found = objectives.vertices(read(), SEARCH)
    assert found.steps == 6 and found.weighed == {"natural": 4, "adversarial": 6}
    assert found.ignored["natural"] == 1 / 4 and found.alone["adversarial"] == 1 / 2 and found.mixed == pytest.approx(1 / 2)
    assert objectives.in_words(read(), SEARCH).startswith("The natural loss was ignored in 25 % of the last 4 steps")
    assert objectives.in_words(read(), SEARCH, last=3) == "Both losses had a weight above 0 in all of the last 3 steps."


def test_epochs_hold_means_shares_and_the_norm_of_the_combined_gradient(read: Callable[[], RunLog], tmp_path: Path) -> None:
    write_steps(tmp_path, [0.5, 0.5, 0.0, 0.0])
    log = read()
    table = objectives.by_epoch(log, SEARCH).set_index(["epoch", "objective"])
    natural, adversarial = table.loc[(1, "natural")], table.loc[(2, "adversarial")]
    # Half of each of two orthogonal gradients of the lengths 0.3 and 0.4, and then the second alone.
    assert natural["stationarity"] == pytest.approx(0.25) and adversarial["stationarity"] == pytest.approx(0.4)
    assert natural["weight"] == 0.5 and natural["norm"] == pytest.approx(0.3) and natural["steps"] == 2 == natural["step"]
    assert (natural["ignored"], natural["alone"], adversarial["alone"]) == (0, 0, 1) and adversarial["cosine"] == 0
    assert log.stationarity(SEARCH)["stationarity"].tolist() == pytest.approx([0.25, 0.25, 0.4, 0.4])
    assert len(log.stationarity(SEARCH, buckets=1)) == 2


def test_three_gradients_use_the_cosines_of_all_pairs(read: Callable[[], RunLog], tmp_path: Path) -> None:
    gradients = np.random.default_rng(1).normal(size=(3, 6))
    norms, weights = np.linalg.norm(gradients, axis=1), np.array([0.2, 0.3, 0.5])
    cosines = gradients @ gradients.T / np.outer(norms, norms)
    events = EventsFile(write_run_json(tmp_path, SEARCH, "search"))
    events.step = events.epoch = 1
    events.write("objectives", names=["natural", "adversarial", "mac_share"], losses=[1.0, 2.0, 0.1], weights=weights.tolist(),
                 norms=norms.tolist(), cosines=cosines.tolist())
    log = read()
    assert log.stationarity(SEARCH)["stationarity"].tolist() == pytest.approx([np.linalg.norm(weights @ gradients)])
    assert objectives.closed_form(log, SEARCH) is None and log.objective_pairs(SEARCH).empty
    assert objectives.in_words(log, SEARCH) == "All 3 losses had a weight above 0 in the only step."


def test_the_closed_form_finds_weights_that_are_not_those_of_mgda(read: Callable[[], RunLog], tmp_path: Path) -> None:
    right = float(objectives.first_weight(0.3, 0.4, 0.0))
    write_steps(tmp_path, [right, right, right + 0.1, right])
    found = objectives.closed_form(read(), SEARCH)
    assert found is not None and (found.steps, found.agreeing) == (4, 0.75)
    assert found.largest_difference == pytest.approx(0.1)


def test_weights_that_do_not_follow_the_gradients_are_named(read: Callable[[], RunLog], tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(), alphas_of()], weight=0.5, changes={"weighting": "equal"})
    log = read()
    assert objectives.in_words(log, SEARCH) == "Every loss has the same weight, whatever the gradients are."
    assert objectives.closed_form(log, SEARCH) is None


def test_a_run_without_objectives_says_so(read: Callable[[], RunLog], tmp_path: Path) -> None:
    run = write_resumed_retrain(tmp_path)
    log = read()
    assert objectives.in_words(log, run) == "No losses have been weighed yet." and objectives.vertices(log, run).steps == 0
    assert objectives.by_epoch(log, run).empty and objectives.closed_form(log, run) is None and log.stationarity(run).empty
