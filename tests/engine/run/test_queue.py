"""The order of waiting runs, as a pure function, and the file with the user's decisions."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import RunError
from engine.run import queue
from engine.run.queue import Queue, change_queue, path_of, read_queue

# Two chains: search, retraining and attack of each.
PARENTS = {"s": None, "r": "s", "a": "r", "S": None, "R": "S", "A": "R"}
ORDER = ["s", "r", "a", "S", "R", "A"]


@pytest.mark.parametrize(("run", "before", "order"), [
    ("S", "s", "SsraRA"), ("A", "s", "SRAsra"), ("R", "r", "sSRraA"), ("s", None, "SRAsra"), ("a", None, "srSRAa"),
    ("s", "R", "SsraRA"), ("r", "A", "sSRraA"), ("s", "s", "sraSRA")])
def test_a_run_takes_along_those_it_needs_ahead_and_those_that_need_it_back(run: str, before: str | None, order: str) -> None:
    assert queue.moved(ORDER, PARENTS, run, before) == list(order)


def test_a_run_does_not_stand_before_one_it_needs() -> None:
    with pytest.raises(RunError, match="a needs s, which must finish first"):
        queue.moved(ORDER, PARENTS, "a", "s")


@pytest.mark.parametrize(("move", "run", "order"), [
    (queue.up, "S", "srSaRA"), (queue.up, "R", "srSRaA"), (queue.up, "s", "sraSRA"), (queue.up, "a", "sraSRA"),
    (queue.down, "s", "SsraRA"), (queue.down, "a", "srSaRA"), (queue.down, "A", "sraSRA"), (queue.down, "S", "sraSRA"),
    (queue.first, "S", "SsraRA"), (queue.first, "A", "SRAsra"), (queue.first, "a", "sraSRA")])
def test_steps_of_one_place_pass_over_runs_of_the_same_chain(move: object, run: str, order: str) -> None:
    assert move(ORDER, PARENTS, run) == list(order)


def test_decisions_are_kept_and_each_change_starts_from_the_last(tmp_path: Path) -> None:
    assert read_queue(tmp_path) == Queue()
    change_queue(tmp_path, lambda one: queue.paused(one, 5.0, ["20261120-0915-retrain-digits-7f3a"]))
    change_queue(tmp_path, lambda one: queue.paused(one, 9.0))
    assert read_queue(tmp_path) == Queue(paused_at=5.0) and read_queue(tmp_path).hold("any") == queue.PAUSED
    assert change_queue(tmp_path, queue.continued) == read_queue(tmp_path) == Queue()


@pytest.mark.parametrize(("text", "reason"), [
    ('{"cpu_slots": 0}', "cpu_slots in control/queue.json must be a whole number from 1 to 256, got 0"),
    ('{"order": ["../x"]}', "order in control/queue.json must be a list of run ids"),
    ('{"paused_at": "now"}', "paused_at in control/queue.json must be unix seconds"), ("{", "must be a JSON object")])
def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path_of(tmp_path).parent.mkdir()
    path_of(tmp_path).write_text(text)
    with pytest.raises(RunError, match=reason):
        read_queue(tmp_path)
