"""The runs of a study: which are launched, in which order, which are taken from elsewhere, and what becomes of a cell."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine import requests
from engine.architecture.capacity import apart
from engine.cli import main
from engine.configuring import recorded
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.lineage import retraining_of, trained_network
from engine.run.queue import Queue
from engine.run.state import WORKER_GONE, is_waiting
from engine.run.waiting import as_waiting, in_order
from engine.study import actions
from engine.study.folder import StudyFolder, study_ids
from engine.study.identity import Runs
from engine.study.overview import read_overview, status_of
from engine.study.parsing import from_text
from engine.study.planning import CellState, plan_of
from tests.engine.run.processes import without_supervisor
from tests.sample_studies import fail_one, finish_run, finish_study

TWO_ARMS = """
question: Does lambda matter?
dataset: digits
preset: smoke
search_seeds: 2
retrainings: 2
arms:
  - {name: A, method: arnas}
  - {name: B, method: arnas, search: {adversarial_lambda: 1}}
"""
MATCHED = TWO_ARMS + """  - {name: C, retrain: {genotype: ARNAS, layers: 5}}
match: macs
reference: A
"""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    yield without_supervisor(tmp_path / "runs")


def cells(runs: Path, study_id: str) -> list[CellState]:
    return plan_of(runs, StudyFolder(runs, study_id).read()).cells


def kinds(runs: Path, study_id: str) -> list[str]:
    return [one.kind for one in Runs(runs).of_study(study_id)]


def test_cells_of_one_search_seed_share_the_search(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    assert finish_study(runs, study_id) == 2 * 2 * (1 + 2 + 2)
    assert sorted(kinds(runs, study_id)) == ["attack"] * 8 + ["retrain"] * 8 + ["search"] * 4


def test_every_run_has_the_declared_settings_and_its_membership(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, study_id)
    for known in Runs(runs).of_study(study_id):
        run = RunFolder(runs, known.id).read_run()
        config, membership = recorded(run).model_dump(), run["study"]
        if run["kind"] == "search":
            assert config["adversarial_lambda"] == (0.1 if membership["arm"] == "A" else 1.0)
            assert config["seed"] == membership["search_seed"]
        if run["kind"] == "retrain":
            assert config["seed"] == membership["search_seed"] + 1000 * membership["index"]


def test_a_finished_study_is_complete_and_launches_nothing_more(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, study_id)
    assert StudyFolder(runs, study_id).is_complete
    assert all(cell.status == "finished" for cell in cells(runs, study_id))
    for known in Runs(runs).of_study(study_id)[:3]:
        (RunFolder(runs, known.id).run_json).unlink()
    assert actions.advance(runs, study_id) == 0


def test_a_second_study_takes_the_finished_runs_of_the_first(runs: Path) -> None:
    first = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, first)
    second = actions.launch(runs, from_text(TWO_ARMS.replace("adversarial_lambda: 1", "adversarial_lambda: 0.3")))
    assert finish_study(runs, second) == 2 * (1 + 2 + 2), "only arm B of the second study needs runs"
    reused = {cell.cell.arm: all(step.reused for step in cell.steps) for cell in cells(runs, second)}
    assert reused == {"A": True, "B": False}


def test_a_chain_launched_by_hand_with_the_same_settings_is_taken(runs: Path) -> None:
    changes = {"seed": 1, "threads": 1}
    chain = requests.submit(runs, "search", changes, method="arnas", preset="smoke", then=("retrain", "attack"))
    for run_id in chain:
        finish_run(runs, run_id)
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    cell = next(one for one in cells(runs, study_id) if one.cell.arm == "A" and one.cell.search_seed == 1)
    assert [step.run for step in cell.steps] == chain
    assert all(step.reused for step in cell.steps)


@pytest.mark.parametrize("change", [{"code": {"numerics": "another"}}, {"config": {"batch_size": 6}}])
def test_a_run_of_other_code_or_settings_is_not_taken(runs: Path, change: dict[str, dict[str, object]]) -> None:
    (run_id,) = requests.submit(runs, "search", {"seed": 0, "threads": 1}, method="arnas", preset="smoke")
    finish_run(runs, run_id)
    path = RunFolder(runs, run_id).run_json
    run = json.loads(path.read_text())
    for name, values in change.items():
        run[name] |= values
    atomic_write_json(path, run)
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    assert run_id not in {step.run for cell in cells(runs, study_id) for step in cell.steps}


def test_a_failed_run_of_another_study_is_not_taken(runs: Path) -> None:
    first = actions.launch(runs, from_text(TWO_ARMS))
    actions.advance(runs, first)
    actions.stop(runs, first)
    second = actions.launch(runs, from_text(TWO_ARMS))
    assert all(not step.run for cell in cells(runs, second) for step in cell.steps)


def test_sizes_follow_the_reference_once_both_architectures_are_known(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(MATCHED))
    actions.advance(runs, study_id)
    before = Runs(runs).of_study(study_id)
    assert {RunFolder(runs, one.id).read_run()["study"]["arm"] for one in before if one.kind == "retrain"} == {"A"}
    finish_study(runs, study_id)
    channels = {RunFolder(runs, one.id).read_run()["study"]["arm"]: RunFolder(runs, one.id).read_run()["config"]["channels"]
                for one in Runs(runs).of_study(study_id) if one.kind == "retrain"}
    assert channels["A"] == 4, "the reference keeps its size"
    assert all(cell.status == "finished" for cell in cells(runs, study_id))


def next_in_queue(runs: Path) -> str:
    """Return the id of the run that would start next."""
    folders = [RunFolder(runs, run_id) for run_id in run_ids(runs)]
    waiting = [as_waiting(folder) for folder in folders if is_waiting(folder, read_json(folder.process_json))]
    held = {run.folder.id for run in waiting}
    return next(run.folder.id for run in in_order(waiting, Queue()) if run.parent not in held)


def test_matched_arms_keep_pace_with_the_reference(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(MATCHED))
    for _ in range(2 * (3 + 3 + 2)):  # the runs of the first retraining of both seeds
        while actions.advance(runs, study_id):
            pass
        finish_run(runs, next_in_queue(runs))
        done = Counter(one.cell.arm for one in cells(runs, study_id) if one.status == "finished")
        assert done["A"] - 1 <= min(done["B"], done["C"]) <= done["A"]
    assert done == {"A": 2, "B": 2, "C": 2}


HAND_MADE = MATCHED.replace("retrainings: 2", "retrainings: 1") + "contrasts: [[A, D]]\n"


@pytest.mark.parametrize("schema", [1, 2])
def test_a_hand_made_network_is_matched_by_its_width_except_in_older_studies(runs: Path, schema: int) -> None:
    """A study of schema 1 must find the runs that it launched, in which hand-made networks have their published width."""
    text = HAND_MADE.replace("match: macs", "  - {name: D, retrain: {network: wide-resnet-10-1}}\nmatch: macs")
    study = replace(from_text(text.replace("search_seeds: 2", "search_seeds: 1")), schema=schema)
    study_id = actions.launch(runs, study)
    finish_study(runs, study_id)
    sizes = {}
    for one in cells(runs, study_id):
        assert one.status == "finished"
        config, parent = retraining_of(runs, one.attack.run)
        sizes[one.cell.arm] = trained_network(runs, config, parent).cost().macs
    assert config.network == ("wide-resnet-10-1" if schema == 1 else "wide-resnet-10-1@3.5")
    assert schema == 1 or apart(sizes["A"], sizes["D"]) < 0.1, "one channel of four is a coarse step"
    notes = " ".join(read_overview(runs, study_id).answer.notes)
    assert ("The size of D is fixed and was not matched." in notes) == (schema == 1)


def test_a_width_that_matching_would_replace_is_refused() -> None:
    text = HAND_MADE.replace("match: macs", "  - {name: D, retrain: {network: wide-resnet-10-1@12.6}}\nmatch: macs")
    with pytest.raises(ConfigError, match="base channels of arm D must be left out.*got 12.6"):
        from_text(text)


def test_a_resumed_study_goes_on_where_it_stopped(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    while actions.advance(runs, study_id):
        pass
    first = next_in_queue(runs)
    actions.stop(runs, study_id)
    actions.resume(runs, study_id)
    assert next_in_queue(runs) == first


def test_an_extension_comes_after_runs_that_waited_before_it(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, study_id)
    (single,) = requests.submit(runs, "search", {}, method="darts", preset="smoke")
    actions.extend(runs, study_id, 1)
    actions.advance(runs, study_id)
    assert next_in_queue(runs) == single


def test_further_attacks_follow_the_same_retraining(runs: Path) -> None:
    text = TWO_ARMS + """  - {name: Source, retrain: {genotype: ARNAS}, seeds: 1}
attacks:
  L2: {norm: L2, attacks: [fgsm]}
  transfer: {attacks: [fgsm], transfer_from: ["arm:Source"]}
"""
    study_id = actions.launch(runs, from_text(text.replace("retrainings: 2", "retrainings: 1")))
    finish_study(runs, study_id)
    states = cells(runs, study_id)
    assert all(cell.status == "finished" for cell in states)
    names = {cell.cell.arm: [step.name for step in cell.steps] for cell in states}
    assert names["A"] == ["search", "retrain", "attack", "attack L2", "attack transfer"]
    assert names["Source"] == ["retrain", "attack", "attack L2"], "no network is attacked with images made on itself"
    source = next(cell for cell in states if cell.cell.arm == "Source").steps[0].run
    for cell in states:
        for step in cell.steps:
            config = RunFolder(runs, step.run).read_run()["config"]
            if step.name == "attack transfer":
                assert config["transfer_from"] == [source]
            if step.kind == "attack":
                assert step.parent == next(one.run for one in cell.steps if one.name == "retrain")


def test_an_arm_with_fewer_seeds_has_fewer_cells(runs: Path) -> None:
    study = from_text(TWO_ARMS + "  - {name: Source, retrain: {genotype: ARNAS}, seeds: 1}\n")
    assert [cell.arm for cell in study.cells()].count("Source") == 2
    assert study.twin(study.cells()[0], "Source").search_seed == 0


def test_launches_are_interleaved_over_arms(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    while actions.advance(runs, study_id):
        pass
    arms = [RunFolder(runs, one.id).read_run()["study"]["arm"] for one in Runs(runs).of_study(study_id) if one.kind == "search"]
    assert arms == ["A", "B", "A", "B"]


def test_stop_and_run_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    actions.advance(runs, study_id)
    assert main(["study", "stop", study_id, "--runs", str(runs)]) == 0
    assert main(["study", "stop", study_id, "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == f"{study_id}  stopped\n{study_id}  was stopped already; nothing changed\n"
    assert actions.advance(runs, study_id) == 0
    assert {cell.status for cell in cells(runs, study_id)} == {"stopped"}
    assert actions.resume(runs, study_id) == len(Runs(runs).of_study(study_id))
    finish_study(runs, study_id)
    assert all(cell.status == "finished" for cell in cells(runs, study_id))


def test_an_extension_adds_seeds_and_records_that_results_were_known(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    assert actions.extend(runs, study_id, 1) == (2,)
    finish_study(runs, study_id)
    assert actions.extend(runs, study_id, [9]) == (9,)
    assert [(one.seeds, one.looked) for one in StudyFolder(runs, study_id).extensions()] == [((2,), False), ((9,), True)]
    assert finish_study(runs, study_id) == 2 * (1 + 2 + 2)
    assert StudyFolder(runs, study_id).read().search_seeds == (0, 1, 2, 9)


def test_an_extension_by_a_seed_that_is_there_is_refused(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    with pytest.raises(RunError, match="needs new search seeds"):
        actions.extend(runs, study_id, [1])


def test_an_extension_has_the_limits_of_a_study(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    for seeds, words in ((100_000, "at most 98 can be added"), ([1000], "search_seeds")):
        with pytest.raises(RunError, match=words):
            actions.extend(runs, study_id, seeds)
    assert StudyFolder(runs, study_id).read().search_seeds == (0, 1)


def test_a_complete_study_that_has_lost_a_run_waits_for_the_user(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, study_id)
    shutil.rmtree(RunFolder(runs, cells(runs, study_id)[0].attack.run).path)
    assert status_of(StudyFolder(runs, study_id), cells(runs, study_id)) == "stopped"
    actions.resume(runs, study_id)
    assert finish_study(runs, study_id) == 1


def test_a_study_that_cannot_be_launched_leaves_nothing(runs: Path) -> None:
    with pytest.raises(Exception, match="batch_size"):
        actions.launch(runs, from_text(TWO_ARMS.replace("{adversarial_lambda: 1}", "{batch_size: 4000}")))
    assert study_ids(runs) == []


def test_the_study_file_and_the_runs_are_all_that_is_needed(runs: Path, tmp_path: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, study_id)
    elsewhere = tmp_path / "elsewhere"
    runs.rename(elsewhere)
    assert all(cell.status == "finished" for cell in cells(elsewhere, study_id))


@pytest.mark.parametrize(("cause", "attempt", "again"), [
    (WORKER_GONE, 1, True), ("Killed by signal 9 (SIGKILL).", 1, True), (WORKER_GONE, actions.MOST_ATTEMPTS, False),
    ("Out of memory.", 1, False)])
def test_a_run_that_was_killed_is_resumed_and_one_with_an_error_is_not(runs: Path, cause: str, attempt: int, again: bool) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    folder = RunFolder(runs, fail_one(runs, study_id, cause))
    for file in (folder.process_json, folder.exit_json):
        atomic_write_json(file, json.loads(file.read_text()) | {"attempt": attempt})
    actions.advance(runs, study_id)
    assert (requests.status(runs, folder.id).status == "queued") is again


def test_a_finished_study_cannot_be_stopped(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, study_id)
    with pytest.raises(RunError, match="is finished; nothing to do"):
        actions.stop(runs, study_id)
    assert not StudyFolder(runs, study_id).is_stopped


def test_an_extension_of_a_stopped_study_says_that_it_stays_stopped(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    actions.stop(runs, study_id)
    assert main(["study", "extend", study_id, "--seeds", "1", "--runs", str(runs)]) == 0
    assert f"extended by 1 search seed, stopped as before; `rampart study run {study_id}` continues it" in capsys.readouterr().out
    assert StudyFolder(runs, study_id).is_stopped
