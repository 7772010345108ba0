"""Each step appears once after crashes, resumes, several attempts and duplicates."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from engine.log import RunLog
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
