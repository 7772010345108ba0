"""Each step appears once after crashes, resumes, several attempts and duplicates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from engine.log import RunLog, metric_queries
from tests.sample_runs import EventsFile, alphas_at, write_attack, write_run_json, write_search_step, write_search_steps

RUN = "20261118-1000-arnas-digits-1a01"
ATTACK = "20261118-1000-attack-digits-1a02"


def read(root: Path) -> RunLog:
    log = RunLog.open(root, in_memory=True)
    log.ingest()
    return log


def steps_of(curve: pd.DataFrame) -> list[int]:
    return list(curve["step"])


def test_a_run_killed_between_checkpoints_and_resumed_has_no_doubled_or_zig_zag_steps(log: RunLog, ids: dict[str, str]) -> None:
    curve = log.steps_curve(ids["resumed"], ["train_loss"])
    assert steps_of(curve) == list(range(1, 21))
    # The third digit of the loss is the attempt (see write_retrain_epoch): 10 steps of the first, 5 of each later one.
    attempts = [round((value - (2.3 - 2 * step / 20)) / 0.001) for step, value in zip(curve["step"], curve["value"], strict=True)]
    assert attempts == [1] * 10 + [2] * 5 + [3] * 5
    assert (curve["value"].diff().dropna() < 0).all()
    epochs = log.curves(ids["resumed"])
    assert not epochs.duplicated(["epoch", "split", "name"]).any()
    assert list(epochs[epochs["name"] == "train_loss"]["epoch"]) == [1, 2, 3, 4]


def test_a_search_resumed_twice_from_different_steps(tmp_path: Path) -> None:
    """Attempt 2 resumes from step 10, attempt 3 from 4: only steps 1..4 of attempt 1 and all of attempt 3 count."""
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    write_search_steps(events, 13)
    for attempt, start, steps in ((2, 10, 5), (3, 4, 3)):
        events.attempt, events.step, events.epoch = attempt, start, start // 10 + 1
        events.write("resumed", from_step=start)
        for _ in range(steps):
            write_search_step(events, seed=attempt)
    log = read(tmp_path)
    assert steps_of(log.steps_curve(RUN, ["natural_loss"])) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(log.objectives(RUN)["step"].unique()) == [1, 2, 3, 4, 5, 6, 7]
    lines = log.alpha_lines(RUN, "robust")
    assert sorted(lines["step"].unique()) == [1, 2, 3, 4, 5, 6, 7]
    assert not lines.duplicated(["edge", "operation", "step"]).any()
    latest = log.alpha_matrix(RUN, "robust").pivot(index="edge", columns="operation", values="alpha")
    expected = alphas_at(7, "robust", seed=3)
    assert abs(latest.to_numpy().max() - expected.max()) < 1e-6


def test_a_resume_from_the_very_start(tmp_path: Path) -> None:
    """Killed before the first checkpoint: step 0 is written twice and counts once."""
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    write_search_steps(events, 6)
    events.attempt, events.step, events.epoch = 2, 0, 0
    events.write("resumed", from_step=0)
    write_search_steps(events, 2)
    log = read(tmp_path)
    assert steps_of(log.steps_curve(RUN, ["natural_loss"])) == [1, 2]
    assert list(log.genotypes(RUN)["epoch"]) == [0]
    assert log.progress(RUN)["attempt"] == 2 and log.progress(RUN)["done"] == 2


def test_of_two_events_for_one_step_the_later_counts(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    events.step, events.epoch = 5, 1
    for value in (0.25, 0.5):
        events.write("metric", split="select", statistics="running", values={"natural_accuracy": value})
    events.attempt = 2
    events.write("resumed", from_step=5)
    events.write("metric", split="select", statistics="running", values={"natural_accuracy": None, "natural_loss": 1.0})
    curve = read(tmp_path).steps_curve(RUN, ["natural_accuracy", "natural_loss"])
    assert steps_of(curve) == [5, 5]
    # NaN was written last, so NaN it is.
    assert curve.set_index("name")["value"].isna().to_dict() == {"natural_accuracy": True, "natural_loss": False}


def test_an_attack_done_again_counts_once_but_both_openings_of_the_test_split_do(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, ATTACK, "attack"))
    events.write("opened", split="test", images=360, purpose="attack")
    write_attack(events, "natural", "Natural", 360, 340)
    write_attack(events, "fgsm", "FGSM", 360, 240)
    events.attempt, events.step = 2, 1
    events.write("resumed", from_step=1)
    events.write("opened", split="test", images=360, purpose="attack")
    write_attack(events, "fgsm", "FGSM", 360, 241)
    log = read(tmp_path)
    assert list(log.attacks(ATTACK)["correct"]) == [340, 241]
    assert list(log.test_openings()["opening"]) == [1, 2]
    assert list(log.test_openings()["attempt"]) == [1, 2]


def test_a_part_and_an_attack_of_the_same_name_are_two_results(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, ATTACK, "attack"))
    write_attack(events, "apgd-ce", "APGD-CE", 360, 200)
    write_attack(events, "apgd-ce", "APGD-CE", 64, 40, part_of="autoattack")
    assert list(read(tmp_path).attacks(ATTACK)["part_of"]) == ["", "autoattack"]


@pytest.mark.parametrize("seed", range(6))
def test_metrics_read_piece_by_piece_equal_those_read_at_once(tmp_path: Path, seed: int) -> None:
    """The log keeps the metrics of a run and reads only new ones, whatever happens to the run and to its file meanwhile."""
    rng = np.random.default_rng(seed)
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    beginning = events.path.read_bytes()
    log = RunLog.open(tmp_path, in_memory=True)

    def steps() -> None:
        for _ in range(rng.integers(1, 4)):
            events.step, events.epoch = events.step + 1, events.step // 3 + 1
            loss = None if rng.random() < 0.2 else rng.random()
            also = {} if rng.random() < 0.2 else {"natural_loss": rng.random()}  # two series that have some steps in common
            events.write("metric", split="weights", values={"train_loss": loss} | also)

    def another_series() -> None:
        name = str(rng.choice(["natural_loss", "natural_accuracy"]))
        events.write("metric", split="select", statistics="running", values={name: rng.random()})

    def resume() -> None:
        events.attempt, events.step = events.attempt + 1, int(rng.integers(0, events.step + 1))
        events.write("resumed", from_step=events.step)

    def other_file() -> None:
        events.path.write_bytes(beginning)
        events.step, events.attempt = 0, 1

    for _ in range(40):
        rng.choice([steps, another_series, resume, other_file], p=[0.6, 0.2, 0.15, 0.05])()
        log.ingest()
        fresh = read(tmp_path)
        pd.testing.assert_frame_equal(log.curves(RUN), fresh.curves(RUN))
        pd.testing.assert_frame_equal(*(one.steps_curve(RUN, ["train_loss", "natural_loss"], 4) for one in (log, fresh)))
        fresh.close()
    log.close()


def test_the_alphas_that_count_are_those_of_the_view(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    for attempt in range(1, 6):
        events.attempt = attempt
        for _ in range(5):
            write_search_step(events, seed=attempt)
        events.step -= 1
        write_search_step(events, seed=attempt)  # a step that one attempt writes twice
        events.attempt, events.step = attempt + 1, int(rng.integers(0, events.step + 1))
        events.write("resumed", from_step=events.step)
    log = read(tmp_path)
    view = log._rows("select step, seq, epoch from alpha where number = $n and cell = 'robust' order by step", RUN)
    assert [tuple(row) for row in np.stack(log._current(RUN, "robust"), axis=1).tolist()] == view
    assert len(view) < len(log._rows("select seq from alpha_raw where number = $n and cell = 'robust'", RUN))


def test_alphas_of_other_operations_than_at_the_last_step_are_left_out(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    for step, names in ((5, ["skip"]), (6, ["skip"]), (0, ["skip", "none"])):  # written last, though it is the first step
        events.step, events.epoch = step, 1
        events.write("alpha", cell="normal", primitives=names, alpha=[[0.5] * len(names)] * 14)
    log = read(tmp_path)
    histories = [log.alpha_history(RUN, "normal", by_epoch=by_epoch) for by_epoch in (False, True)]
    assert [(one.primitives, one.steps.tolist()) for one in histories if one] == [(("skip",), [5, 6]), (("skip",), [6])]
    assert {tuple(one.steps) for one in log.alpha_courses(RUN, "normal")} == {(5, 6)}
    assert list(log.alpha_matrix(RUN, "normal")["operation"].unique()) == ["skip"]


def test_metrics_that_would_take_too_much_memory_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_queries, "MOST_BYTES", 500)
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    log = RunLog.open(tmp_path, in_memory=True)
    for _ in range(3):
        write_search_steps(events, 10)
        log.ingest()
        assert steps_of(log.steps_curve(RUN, ["natural_loss"])) == list(range(1, events.step + 1))
        assert not log._read
    log.close()


def test_series_of_the_same_steps_share_them(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    log = RunLog.open(tmp_path, in_memory=True)
    for steps in (5, 3, 40):
        write_search_steps(events, steps)
        log.ingest()
        log.curves(RUN)
        columns = log._read[RUN].columns
        assert len(columns) > 4
        assert len({id(steps.buffer) for _, steps, _ in columns.values()}) <= len({split for split, _, _ in columns})
    log.close()
