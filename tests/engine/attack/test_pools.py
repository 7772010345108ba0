"""Attacks in two lanes: the outcomes of one, stops in either lane, and checkpoints of another number of pools."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from engine.attack.evaluation import Evaluation
from engine.attack.sweep import Sweep
from engine.config import AttackConfig
from engine.errors import StopRequested
from tests.engine.attack.trained import trained


@pytest.fixture(autouse=True)
def threads_are_as_before() -> Iterator[None]:
    """Check that a test leaves no thread behind; restore torch's number of threads."""
    before, running = torch.get_num_threads(), threading.active_count()
    yield
    assert threading.active_count() == running
    torch.set_num_threads(before)


def evaluation(threads: int, **changes: Any) -> Evaluation:
    """Return an evaluation whose steps have a number of threads."""
    torch.set_num_threads(threads)
    network, x, y = trained()
    config = AttackConfig(**({"attacks": ("fgsm", "apgd-ce", "apgd-t"), "epsilon": 0.12, "step_size": 0.03, "batch_size": 16,
                              "sweep_radii": 4, "sweep_images": None} | changes))
    return Evaluation(config, network, x, y, classes=10, indices=range(len(y)), checkpoint="abc")


def run(it: Evaluation, poll: Callable[[], None] = lambda: None) -> int:
    """Run an evaluation to its end, and return the number of its steps."""
    steps = 0
    while not it.over:
        it.step(poll=poll)
        steps += 1
    return steps


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state that was written to disk and read again."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    read: dict[str, Any] = torch.load(buffer, weights_only=True)
    return read


def verdicts(it: Evaluation) -> dict[str, list[Any]]:
    """Return the columns of the outcomes that do not depend on rounding."""
    columns = it.outcome_columns()
    return {name: columns[name] for name in ("image", "attack", "correct", "prediction", "iterations")}


def test_two_lanes_find_what_one_finds() -> None:
    alone, callers = evaluation(1), set()
    steps = run(alone)
    beside = evaluation(2)
    assert run(beside, lambda: callers.add(threading.get_ident())) < steps
    assert len(callers) > 2, "the main thread and two lanes per step"
    assert torch.get_num_threads() == 2
    assert verdicts(beside) == verdicts(alone)
    fallen = [int((outcomes.correct == 0).sum()) for outcomes in beside.outcomes.values()]
    assert 0 < fallen[1] < fallen[3] < len(beside.y), "the attacks break some images and leave others"
    for name, outcomes in beside.outcomes.items():
        for column in ("margin", "linf", "l2", "confidence"):
            assert torch.allclose(outcomes.columns[column], alone.outcomes[name].columns[column], atol=1e-5), (name, column)
        assert torch.equal(beside.adversarial[name], alone.adversarial[name])


@pytest.mark.parametrize("asked", [1, 7, 8, 60, 61, 150, 301])
def test_a_stop_in_either_lane_changes_nothing(asked: int) -> None:
    whole = evaluation(2)
    steps = run(whole)
    stopped, polled = evaluation(2), 0

    def poll() -> None:
        nonlocal polled
        polled += 1
        if polled == asked:
            raise StopRequested

    taken = 0
    with pytest.raises(StopRequested):
        while not stopped.over:
            taken += 1
            stopped.step(poll=poll)
    again = evaluation(2)
    again.load_state_dict(saved(stopped.state_dict()))
    assert again.progress == stopped.progress and again.stage == stopped.stage
    for one in (stopped, again):
        assert taken + run(one) == steps + 1  # the step in which the stop came ends where it would have ended
        assert one.outcome_columns() == whole.outcome_columns()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_checkpoint_continues_with_another_number_of_threads(before: int, after: int) -> None:
    whole, first = evaluation(before), evaluation(before)
    run(whole)
    while first.stage != "apgd-t" or not first.keeps_iterations:
        first.step()
    second = evaluation(after)
    second.load_state_dict(saved(first.state_dict()))
    run(second)
    assert verdicts(second) == verdicts(whole)


def test_a_checkpoint_of_an_older_version_continues_as_one_pool() -> None:
    whole, first = evaluation(1), evaluation(1)
    run(whole)
    while not first.keeps_iterations:
        first.step()
    state = first.state_dict()
    (state["running"],) = state["running"]["pools"]
    second = evaluation(1)
    second.load_state_dict(saved(state | {"evaluations": 25}))
    run(second)
    assert second.outcome_columns() == whole.outcome_columns()


def test_progress_grows_while_the_lanes_attack() -> None:
    it, seen = evaluation(2), [0.0]
    run(it, lambda: seen.append(it.progress[0]))
    assert seen == sorted(seen) and len(set(seen)) > 0.8 * len(seen)
    assert seen[-1] < it.progress[0] == it.progress[1]


def test_a_sweep_in_two_lanes_measures_what_one_measures() -> None:
    distances = []
    for threads in (1, 2):
        it = evaluation(threads, attacks=("fgsm",))
        run(it)
        sweep, events = Sweep(it), []
        while not sweep.over:
            events += sweep.step()
        distances.append((sweep.columns(), events))
    assert distances[0] == distances[1] and len(distances[0][1]) > 4
