"""Candidates in the run log: order, intervals, superseding by a later attempt, and refusals."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from engine.attack.statistics import wilson
from engine.errors import RunLogError
from engine.log import RunLog
from engine.run.event_kinds import MeasuredCandidate, read
from engine.search.candidates import Candidate, ranked
from tests import sample_runs

RUN = "20261118-0914-random-search-digits-0a05"
GENOTYPE = sample_runs.genotype_at(10)


def event(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"candidate": number, "genotype": GENOTYPE.to_dict(), "hash": GENOTYPE.hash, "images": 8, "natural_correct": 5,
            "adversarial_correct": 3, "parameters": 7, "macs": 9, "ranking": "adversarial"} | fields


@pytest.mark.parametrize("ranking", ["adversarial", "natural", "none"])
def test_rank_is_that_of_the_engine(tmp_path: Path, ranking: Any) -> None:
    dice = random.Random(1)
    candidates = [Candidate(number, GENOTYPE, 8, dice.randint(0, 8), dice.randint(0, 8)) for number in range(1, 41)]
    events = sample_runs.EventsFile(sample_runs.write_run_json(tmp_path, RUN, "search", method="random_search"))
    for one in candidates:
        events.write("candidate", **event(one.number, natural_correct=one.natural_correct,
                                          adversarial_correct=one.adversarial_correct, ranking=ranking))
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    found = log.candidates(RUN)
    order = ranked(candidates, ranking)
    assert found["candidate"].tolist() == [one.number for one in order] and found["rank"].tolist() == list(range(1, 41))
    assert found["adversarial"].tolist() == [one.adversarial_accuracy for one in order]
    for row in found.to_dict("records"):
        for name in ("natural", "adversarial"):
            assert (row[f"{name}_low"], row[f"{name}_high"]) == wilson(round(8 * row[name]), 8)
    row = log.run(RUN)
    assert (row["natural_accuracy"], row["adversarial_accuracy"]) == (order[0].natural_accuracy, order[0].adversarial_accuracy)
    log.close()


def test_a_later_attempt_measures_again_what_came_behind_its_checkpoint(tmp_path: Path) -> None:
    events = sample_runs.EventsFile(sample_runs.write_run_json(tmp_path, RUN, "search", method="random_search"))
    for number, step in ((1, 4), (2, 8)):
        events.step = step
        events.write("candidate", **event(number))
    events.attempt, events.step = 2, 6
    events.write("resumed", from_step=6)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    assert log.candidates(RUN)["candidate"].tolist() == [1]
    events.step = 8
    events.write("candidate", **event(2, adversarial_correct=8, natural_correct=8))
    log.ingest()
    assert log.candidates(RUN)[["candidate", "adversarial"]].to_numpy().tolist() == [[2, 1.0], [1, 0.375]]
    log.close()


def test_inherited_accuracies_and_their_intervals_are_empty_unless_measured(tmp_path: Path) -> None:
    events = sample_runs.EventsFile(sample_runs.write_run_json(tmp_path, RUN, "search", method="random_search"))
    events.write("candidate", **event(1, inherited_natural_correct=3, inherited_adversarial_correct=0))
    events.write("candidate", **event(2))
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    table = log.candidates(RUN).set_index("candidate")
    log.close()
    for name, correct in (("inherited_natural", 3), ("inherited_adversarial", 0)):
        columns = [name, f"{name}_low", f"{name}_high"]
        assert table.loc[1, columns].tolist() == [correct / 8, *wilson(correct, 8)]
        assert table.loc[2, columns].isna().all()


def test_a_log_without_candidates_has_none(tmp_path: Path) -> None:
    ids = sample_runs.write_finished_chain(tmp_path)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    assert log.candidates(ids[0]).empty and not log.pareto_epochs().empty
    log.close()


@pytest.mark.parametrize("wrong", [{"natural_correct": 9}, {"adversarial_correct": -1}, {"images": 0}, {"candidate": 0},
                                   {"ranking": "luck"}, {"genotype": {}}, {"macs": None},
                                   {"inherited_natural_correct": 9}, {"inherited_adversarial_correct": -1}])
def test_an_event_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    common = {"event": "candidate", "attempt": 1, "step": 1, "epoch": 1, "t": 1.0}
    entry = read(common | event())
    assert entry is not None and isinstance(entry[1], MeasuredCandidate)
    with pytest.raises(RunLogError):
        read(common | event() | wrong)
