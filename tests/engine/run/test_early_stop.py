"""Early-stop rules: what ends a run, that the end is a result, and that a resumed run ends where an uninterrupted one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import requests
from engine.architecture.catalogue import find_genotype
from engine.config.early_stop import EARLY_STOPS
from engine.configuring import build, deviations, differences_from_paper
from engine.errors import ConfigError, StopRequested
from engine.run.early_stop import EarlyStop
from engine.run.folder import RunFolder, read_json
from engine.run.supervisor import Supervisor
from engine.study import identity
from tests.engine.run.processes import events_of, processes_of, until, without_supervisor
from tests.engine.run.test_loops import attempt, last
from tests.engine.run.test_resume import same

STILL = {"epochs": 4, "steps_per_epoch": 1, "alpha_learning_rate": 1e-9, "stop_unchanged": 2, "threads": 1}
NO_GAIN = {"epochs": 8, "steps_per_epoch": 1, "learning_rate": 1e-9, "stop_without_gain": 1, "threads": 1}
UNCHANGED = "Finished early: genotype unchanged for 2 epochs, after epoch 3 of 4."


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def rules(kind: str = "search", state: dict[str, Any] | None = None, **changes: Any) -> EarlyStop:
    return EarlyStop(build(kind, "arnas", "digits", "smoke", changes), state)


def test_a_chain_whose_rules_apply_finishes_early_and_its_followers_go_on(runs: Path) -> None:
    search, retrain = requests.submit(runs, "search", STILL, method="arnas", preset="smoke", then=("retrain",),
                                      then_changes={"retrain": NO_GAIN})
    supervisor = Supervisor(runs)
    until(lambda: supervisor.tick() and requests.status(runs, retrain).is_over, "the chain has ended")
    of_search, of_retraining = requests.status(runs, search), requests.status(runs, retrain)
    assert (of_search.status, of_search.cause) == ("finished", UNCHANGED)
    assert [event["early"] for event in events_of(runs, search, "finished")] == [UNCHANGED]
    *_, newest = events_of(runs, search, "genotype")
    assert newest["epoch"] == 3 and newest["genotype"] == read_json(RunFolder(runs, search).results / "genotype.json")
    assert of_retraining.status == "finished"
    assert of_retraining.cause.startswith("Finished early: no better checkpoint for 1 epoch, after epoch ")
    assert (RunFolder(runs, retrain).checkpoint / "best.pt").exists()


def test_a_stopped_and_resumed_search_ends_where_an_uninterrupted_one_does(runs: Path) -> None:
    whole, cut = (requests.submit(runs, "search", STILL, method="arnas", preset="smoke")[0] for _ in range(2))
    passes = attempt(runs, whole).passes
    with pytest.raises(StopRequested):
        attempt(runs, cut, 1, passes - 5)
    assert attempt(runs, cut, 2).finished_early == UNCHANGED
    for one in (first := last(runs, whole), second := last(runs, cut)):
        del one["early_stop"]["seconds"]
    same(first, second)


@pytest.mark.parametrize(("kind", "changes"), [
    ("search", {"epochs": 3, "steps_per_epoch": 2}), ("retrain", {"epochs": 3, "steps_per_epoch": 2, "genotype": "ARNAS"})])
def test_a_run_whose_time_is_used_up_ends_with_a_result_within_the_epoch(runs: Path, kind: str, changes: dict[str, Any]) -> None:
    method = "arnas" if kind == "search" else None
    (run_id,) = requests.submit(runs, kind, changes | {"stop_minutes": 1e-6}, method=method, preset="smoke")
    session = attempt(runs, run_id)
    assert session.step == 1
    assert session.finished_early == "Finished early: the time of 1e-06 min is used up, after epoch 1 of 3."
    folder = RunFolder(runs, run_id)
    if kind == "search":
        *_, newest = events_of(runs, run_id, "genotype")
        assert newest["step"] == 1 and newest["genotype"] == read_json(folder.results / "genotype.json")
    else:
        assert last(runs, run_id)["measured_epoch"] == 1 and (folder.checkpoint / "best.pt").exists()


def test_the_time_of_earlier_attempts_counts() -> None:
    earlier = {"early_stop": {"reason": "", "genotype": "", "streak": 0, "seconds": 61.0}}
    fresh, resumed = rules(stop_minutes=1), rules(stop_minutes=1, state=earlier)
    for one in (fresh, resumed):
        one.after_step()
    assert (fresh.reason, resumed.reason) == ("", "the time of 1 min is used up")


def test_a_genotype_that_changes_begins_a_new_count() -> None:
    rule = rules(stop_unchanged=2)
    for name, reason in (*(2 * [("ARNAS", "")]), *(2 * [("ADVRUSH", "")]), ("ADVRUSH", "genotype unchanged for 2 epochs")):
        rule = rules(stop_unchanged=2, state=rule.state())  # as if killed and resumed after every epoch
        rule.after_epoch_of_search(find_genotype(name))
        assert rule.reason == reason


def test_a_collapse_is_a_share_of_operations_without_parameters() -> None:
    genotype = find_genotype("E2RNAS_V2_CIFAR10")
    assert genotype.parameter_free == (13, 16)
    below, above = rules(stop_parameter_free=0.82), rules(stop_parameter_free=0.81)
    for one in (below, above):
        one.after_epoch_of_search(genotype)
    assert (below.reason, above.reason) == ("", "13 of 16 operations are free of parameters")


@pytest.mark.parametrize(("kind", "method"), [("search", "arnas"), ("search", "random_search"), ("retrain", None)])
def test_rules_that_are_off_change_neither_name_nor_identity_nor_checkpoint(kind: str, method: str | None) -> None:
    config = build(kind, method, "cifar10", "paper")
    assert deviations(kind, method, "paper", config) == [] and differences_from_paper(config) == []
    assert EarlyStop(config, None).state() == {}
    older = config.model_copy()
    for name in EARLY_STOPS & set(type(config).model_fields):
        del older.__dict__[name]  # as a version without the rules had it
    assert identity.experiment_of(kind, method, config) == identity.experiment_of(kind, method, older)
    limited = build(kind, method, "cifar10", "paper", {"stop_minutes": 30})
    assert deviations(kind, method, "paper", limited) == ["at most 30 min"]
    assert identity.experiment_of(kind, method, config) != identity.experiment_of(kind, method, limited)


def test_a_rule_that_a_method_cannot_follow_is_no_setting_of_it() -> None:
    with pytest.raises(ConfigError, match="stop_unchanged"):
        build("search", "random_search", "digits", "smoke", {"stop_unchanged": 3})
