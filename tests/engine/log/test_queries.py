"""Results of the queries on the sample runs; their columns and types never change."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from engine.architecture.genotype import EDGES, Genotype
from engine.attack.statistics import wilson
from engine.log import RunLog
from engine.report.robustness import robustness_tables
from engine.run.folder import RunFolder
from engine.run.state import SILENT_S
from tests import sample_runs
from tests.sample_runs import START, EventsFile, genotype_at, write_finished_attack, write_run_json

FRAMES: dict[str, Callable[[RunLog, str], pd.DataFrame]] = {
    "runs": lambda log, run: log.runs(), "chain": lambda log, run: log.chain(run), "alerts": lambda log, run: log.alerts(run),
    "test_openings": lambda log, run: log.test_openings(), "curves": lambda log, run: log.curves(run),
    "steps_curve": lambda log, run: log.steps_curve(run, ["natural_loss"]), "objectives": lambda log, run: log.objectives(run),
    "share_at_vertex": lambda log, run: log.share_at_vertex(run), "genotypes": lambda log, run: log.genotypes(run),
    "alpha_matrix": lambda log, run: log.alpha_matrix(run, "robust"),
    "alpha_lines": lambda log, run: log.alpha_lines(run, "robust"), "attacks": lambda log, run: log.attacks(),
    "evaluations": lambda log, run: log.evaluations(), "checks": lambda log, run: log.checks(),
    "sweeps": lambda log, run: log.sweeps(), "search_times": lambda log, run: log.search_times(),
    "pareto_epochs": lambda log, run: log.pareto_epochs(),
}


@pytest.mark.parametrize("name", FRAMES)
def test_columns_and_types_are_the_same_without_rows(log: RunLog, ids: dict[str, str], tmp_path: Path, name: str) -> None:
    empty = RunLog.open(tmp_path / "empty")
    assert empty.ingest().runs == 0
    filled = FRAMES[name](log, ids["search"])
    nothing = FRAMES[name](empty, ids["search"])
    assert nothing.empty
    pd.testing.assert_series_equal(nothing.dtypes, filled.dtypes)
    empty.close()


def test_runs_says_what_each_number_is(log: RunLog, ids: dict[str, str]) -> None:
    os.utime(RunFolder(log.root, ids["running"]).events)  # the log is shared, and a silent run has no time left
    runs = log.runs().set_index("id")
    assert list(runs.index[:2]) == [ids["resumed"], ids["stopped"]]  # newest first
    status = {role: runs.loc[run, "status"] for role, run in ids.items()}
    assert status == {"search": "finished", "retrain": "finished", "attack": "finished", "running": "running",
                      "failed": "failed", "stopped": "stopped", "resumed": "finished"}
    search, retrain, attack = (runs.loc[ids[role]] for role in ("search", "retrain", "attack"))
    assert search["accuracy_of"] == "alphas split, batch statistics" and search["adversarial_attack"] == "PGD-7"
    curves = log.curves(ids["search"]).set_index(["split", "name", "epoch"])["value"]
    assert search["natural_accuracy"] == pytest.approx(curves["alphas", "natural_accuracy", 4])
    assert retrain["accuracy_of"] == "select, PGD-20"
    assert (retrain["natural_accuracy"], retrain["adversarial_accuracy"]) == pytest.approx((0.96, 0.6))
    assert attack["accuracy_of"] == "test, Worst case"
    assert (attack["natural_accuracy"], attack["adversarial_accuracy"]) == pytest.approx((347 / 360, 31 / 64))
    for row in (search, retrain):
        assert row["chain_attack_run"] == ids["attack"] and row["chain_adversarial_attack"] == "Worst case"
        assert row["chain_adversarial_accuracy"] == pytest.approx(31 / 64)
    assert runs.loc[ids["running"], "seconds_left"] == pytest.approx(27 * 9.4 / 12.9, rel=0.1)
    assert runs.loc[ids["running"], "progress"] == pytest.approx(13 / 40)
    assert runs.loc[ids["stopped"], "seconds_left"] != runs.loc[ids["stopped"], "seconds_left"]  # NaN
    assert runs.loc[ids["failed"], "title"] == "ARNAS, images clipped"
    assert (retrain["parameters"], retrain["macs"]) == (sample_runs.PARAMETERS, sample_runs.MACS)


def test_a_retraining_shows_the_epoch_that_is_kept(tmp_path: Path) -> None:
    """Best adversarial accuracy, ties by natural accuracy, then the earlier epoch, as in `Selection.rank`."""
    run = "20261118-1000-retrain-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "retrain"))
    for epoch, natural, adversarial in ((1, 0.9, 0.4), (2, 0.8, 0.5), (3, 0.85, 0.5), (4, 0.95, 0.3)):
        events.step = events.epoch = epoch
        events.write("metric", split="select", statistics="running",
                     values={"natural_accuracy": natural, "adversarial_accuracy": adversarial})
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    row = log.runs().iloc[0]
    assert (row["natural_accuracy"], row["adversarial_accuracy"]) == (0.85, 0.5)


def test_run_has_its_configuration_and_what_differs(log: RunLog, ids: dict[str, str]) -> None:
    run = log.run(ids["failed"])
    assert run["config"]["clip_images"] is True and run["command"].startswith("rampart search")
    assert {"clip_images", "epochs"} <= {difference.field for difference in run["differences"]}
    assert run["cause"].startswith("Out of memory:") and run["can_resume"] is True and run["parameters"] is None
    assert json.dumps({key: value for key, value in run.items() if key != "differences"})  # plain Python values


def test_status_is_computed_at_each_call(log: RunLog, ids: dict[str, str], root: Path) -> None:
    revision = log.events_revision()
    of_run = log.events_revision(ids["running"])
    (root / ids["running"] / "process.json").write_text(json.dumps(
        {"attempt": 1, "pid": 2**22 + 1, "create_time": 1.0, "boot_id": sample_runs.boot_id(), "started": 1.0}))
    assert log.runs().set_index("id").loc[ids["running"], "status"] == "failed"
    assert log.events_revision() != revision and log.events_revision(ids["running"]) != of_run
    (root / ids["stopped"] / "control").mkdir()
    (root / ids["stopped"] / "control" / "resume").write_text('{"after_attempt": 1}')
    assert log.runs().set_index("id").loc[ids["stopped"], "status"] == "queued"


def test_chain_from_any_member(log: RunLog, ids: dict[str, str]) -> None:
    family = [ids["search"], ids["retrain"], ids["attack"]]
    for member in family:
        chain = log.chain(member)
        assert list(chain["id"]) == family
        assert list(chain["depth"]) == [0, 1, 2] and set(chain["status"]) == {"finished"}
    assert list(log.chain(ids["running"])["id"]) == [ids["running"]]


def test_revision_changes_with_the_run_and_only_then(log: RunLog, ids: dict[str, str], root: Path) -> None:
    before = {run: log.events_revision(run) for run in ids.values()}
    log.ingest()
    assert {run: log.events_revision(run) for run in ids.values()} == before
    everything = log.events_revision()
    events = EventsFile(root / ids["running"])
    events.write("alert", level="info", text="hello")
    assert log.events_revision(ids["running"]) == before[ids["running"]]  # not ingested yet
    log.ingest(ids["running"])
    assert log.events_revision() != everything
    assert [run for run in ids.values() if log.events_revision(run) != before[run]] == [ids["running"]]


def test_revision_of_tables_grows_with_their_rows_and_with_no_others(log: RunLog, ids: dict[str, str], root: Path) -> None:
    asked = [(("alert",), ids["running"]), (("alert",), ""), (("metric", "alpha"), ids["running"]), (("alert",), ids["failed"])]
    before = [log.revision(*one) for one in asked]
    EventsFile(root / ids["running"]).write("alert", level="info", text="hello")
    log.ingest([ids["running"], ids["failed"]])
    assert [log.revision(*one) > old for one, old in zip(asked, before, strict=True)] == [True, True, False, False]
    shutil.rmtree(root / ids["failed"])
    log.ingest([ids["failed"]])
    assert log.revision(("folder",), ids["failed"]) > 0 and ids["failed"] not in log.statuses()


def test_the_family_of_a_run_follows_new_runs(log: RunLog, ids: dict[str, str], root: Path) -> None:
    assert log.family(ids["attack"]) == [ids["search"], ids["retrain"], ids["attack"]]
    child = "20261119-0900-retrain-digits-0c01"
    sample_runs.write_run_json(root, child, "retrain", parent=ids["search"], created=sample_runs.START + 9e5)
    log.ingest([child])
    assert log.family(ids["attack"]) == list(log.chain(ids["attack"])["id"]) and child in log.family(ids["search"])


def test_a_long_series_keeps_the_extremes_and_the_last_value_of_each_bucket(log: RunLog, ids: dict[str, str]) -> None:
    whole = log.steps_curve(ids["search"], ["natural_loss"], 1000)
    short = log.steps_curve(ids["search"], ["natural_loss"], 8)
    assert len(whole) == 40 and 5 < len(short) <= 15  # buckets of eight steps
    for first in range(1, 41, 8):
        bucket, kept = ((one[one["step"].between(first, first + 7)])["value"] for one in (whole, short))
        assert {bucket.min(), bucket.max(), bucket.iloc[-1]} == set(kept)


def test_a_peak_at_a_single_step_of_a_long_search_is_kept(tmp_path: Path) -> None:
    run = "20261118-1000-arnas-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "search"))
    for step in range(1, 3001):
        events.step = step
        events.write("metric", split="alphas", values={"natural_loss": 90.0 if step == 1777 else 1 + step % 7})
        cosine = -1.0 if step == 2222 else 0.5
        events.write("objectives", names=["natural", "adversarial"], losses=[1.0, 1.0], weights=[0.5, 0.5],
                     norms=[300.0 if step == 1234 else 1.0, 1.0], cosines=[[1.0, cosine], [cosine, 1.0]])
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    curve, objectives = log.steps_curve(run, ["natural_loss"]), log.objectives(run)
    assert len(curve) <= 2000 and list(curve.loc[curve["value"] == 90, "step"]) == [1777]
    assert set(objectives.groupby("step").size()) == {2}, "weights of a step stay together"
    assert {1234, 2222} <= set(objectives["step"]) and objectives["step"].nunique() <= 2000


def test_alphas_are_softmaxed_and_in_the_order_of_edges_and_operations(log: RunLog, ids: dict[str, str]) -> None:
    assert log.alpha_cells(ids["search"]) == ["robust", "reduce", "accurate"]
    assert log.alpha_epochs(ids["search"], "robust") == [1, 2, 3, 4] and log.alpha_epoch(ids["search"]) == 4
    assert log.alpha_epoch(ids["attack"]) is None
    matrix = log.alpha_matrix(ids["search"], "robust", 2)
    raw = sample_runs.alphas_at(20, "robust")
    np.testing.assert_allclose(matrix["alpha"].to_numpy().reshape(14, 7), raw, atol=1e-6)
    expected = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(matrix["weight"].to_numpy().reshape(14, 7), expected, atol=1e-6)
    assert list(matrix["operation"][:7]) == sample_runs.PRIMITIVES
    assert list(matrix["edge"].unique()) == list(range(len(EDGES)))
    lines = log.alpha_lines(ids["search"], "robust")
    last = lines[lines["step"] == 40].reset_index(drop=True)
    pd.testing.assert_series_equal(last["weight"], log.alpha_matrix(ids["search"], "robust")["weight"])


def test_mgda_shares_and_objectives(log: RunLog, ids: dict[str, str]) -> None:
    shares = log.share_at_vertex(ids["search"], 10).set_index("objective")
    assert list(shares.index) == ["natural", "adversarial"]
    assert shares.loc["natural", "share_ignored"] == 1 and shares.loc["adversarial", "share_alone"] == 1
    assert set(shares["steps"]) == {10}
    objectives = log.objectives(ids["search"])
    assert objectives.groupby("step")["weight"].sum().to_numpy() == pytest.approx(np.ones(40))


def test_genotypes_count_how_long_they_stayed(tmp_path: Path) -> None:
    run = "20261118-1000-arnas-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "search"))
    for epoch, step in enumerate((0, 40, 40, 40, 0)):
        found = genotype_at(step)
        events.epoch, events.step = epoch, epoch * 10
        events.write("genotype", genotype=found.to_dict(), hash=found.hash)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    genotypes = log.genotypes(run)
    assert list(genotypes["unchanged_epochs"]) == [0, 0, 1, 2, 0]
    assert Genotype.from_json(genotypes["genotype"][1]) == genotype_at(40)
    assert Genotype.from_dict(log.genotype(run)) == genotype_at(0)


def test_an_evaluation_names_its_protocol_its_network_and_its_seeds(log: RunLog, ids: dict[str, str]) -> None:
    row = log.evaluations().set_index("run").loc[ids["attack"]]
    assert row["protocol_title"] == "L∞ 0.15, 360 images: FGSM, PGD-20, AutoAttack" and len(row["protocol"]) == 12
    assert (row["network"], row["checkpoint"]) == (f"weights of {ids['attack']}", "best")
    assert (row["norm"], row["epsilon"]) == ("Linf", 0.15)
    assert (row["search_seed"], row["retrain_seed"]) == (2, 2)
    assert Genotype.from_dict(row["genotype"]).hash == row["genotype_hash"]
    assert row["complete"] and row["current"] and row["repeats"] == 0


def test_a_network_attacked_twice_has_one_current_evaluation(ids: dict[str, str], root: Path) -> None:
    """The newest complete evaluation of a network under a protocol counts; one that still runs does not replace it."""
    network = f"weights of {ids['attack']}"
    write_finished_attack(root, "20261118-0930-attack-digits-7f42", parent=ids["retrain"], created=START + 900, network=network)
    sample_runs.write_unfinished_attack(root, "20261118-0931-attack-digits-7f43", parent=ids["retrain"], created=START + 901,
                                        network=network)
    log = RunLog.open(root, in_memory=True)
    log.ingest()
    rows = log.evaluations().set_index("run")
    assert len(rows) == 3 and len(set(rows["protocol"])) == 1 and set(rows["repeats"]) == {2}
    assert list(rows.index[rows["current"]]) == ["20261118-0930-attack-digits-7f42"]


def test_outcomes_are_those_of_each_image(log: RunLog, ids: dict[str, str]) -> None:
    outcomes = log.outcomes(ids["attack"])
    assert {"image", "label", "attack", "correct", "prediction", "margin", "linf", "l2", "iterations",
            "confidence"} == set(outcomes.columns)
    # Of the 64 images that all attacks saw 31 withstand AutoAttack, and all of these the others too.
    worst = log.correct_images(ids["attack"], "worst-case")
    assert (len(worst), sum(worst.values())) == (64, 31)
    assert sum(log.correct_images(ids["attack"], "pgd-20").values()) == 212


def test_the_worst_case_of_a_run_is_the_recorded_row_or_until_then_the_lowest_accuracy(tmp_path: Path) -> None:
    run = "20261118-1000-attack-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "attack"))
    log = RunLog.open(tmp_path, in_memory=True)
    for attack, title, correct in (("natural", "Natural", 90), ("fgsm", "FGSM", 60), ("pgd-20", "PGD-20", 50)):
        sample_runs.write_attack(events, attack, title, 100, correct)
    log.ingest()
    row = log.runs().iloc[0]
    assert (row["adversarial_accuracy"], row["adversarial_attack"], row["adversarial_images"]) == (0.5, "PGD-20", 100)
    assert not log.evaluations().iloc[0]["complete"]
    sample_runs.write_attack(events, "worst-case", "Worst case", 100, 48)
    log.ingest()
    row = log.runs().iloc[0]
    assert (row["adversarial_accuracy"], row["adversarial_attack"]) == (0.48, "Worst case")
    assert (row["adversarial_low"], row["adversarial_high"]) == pytest.approx(wilson(48, 100))
    assert log.evaluations().iloc[0]["complete"]


def test_the_badge_of_a_listed_run_is_that_of_its_robustness_table(tmp_path: Path) -> None:
    """Each attack run is listed with the badge of its findings; runs without an accuracy under attack have none."""
    runs = {"passed": "green", "warning": "amber", "failed": "red"}
    for number, finding in enumerate(runs):
        run = write_finished_attack(tmp_path, f"20261118-1000-attack-digits-{number:04x}", parent=None, created=START + number)
        events = EventsFile(tmp_path / run)
        events.step = 99
        sample_runs.write_checks(events, gradients=finding, skipped_one="skipped")
    sample_runs.write_unfinished_attack(tmp_path, "20261118-1000-attack-digits-0009", ended="failed", created=START + 9)
    sample_runs.write_failed_search(tmp_path)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    listed = {row["id"]: (row["badge"], row["badge_reasons"]) for row in log.runs().to_dict("records") if row["badge"]}
    (table,) = robustness_tables(log)
    assert {row.run: (row.badge.colour, "\n".join(row.badge.reasons)) for row in table.rows if row.complete} == listed
    assert sorted(colour for colour, _ in listed.values()) == sorted(runs.values())
    assert all(log.run(run)["badge"] == colour for run, (colour, _) in listed.items())
    log.close()


def test_an_attack_without_checks_is_amber(tmp_path: Path) -> None:
    """The absence of checks is a reason of its own."""
    run = "20261118-1000-attack-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "attack"))
    sample_runs.write_attack(events, "natural", "Natural", 100, 90)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    assert log.run(run)["badge"] == ""
    sample_runs.write_attack(events, "fgsm", "FGSM", 100, 60)
    log.ingest()
    assert (log.run(run)["badge"], log.run(run)["badge_reasons"]) == ("amber", "No check was made.")
    log.close()


def is_front_by_definition(points: pd.DataFrame) -> list[bool]:
    """A point is on the front if no other is at least as good on both axes and better on one."""
    values = points[["natural", "adversarial"]].to_numpy()
    return [not any((other >= one).all() and (other > one).any() for other in values) for one in values]


def test_search_epochs_have_a_front_of_their_own(log: RunLog, ids: dict[str, str]) -> None:
    epochs = log.pareto_epochs()
    assert not set(epochs["run"]) & {ids["retrain"], ids["attack"], ids["resumed"]}
    assert list(epochs["is_front"]) == is_front_by_definition(epochs)
    assert epochs[epochs["is_last"]].groupby("run").size().eq(1).all()
    one = log.pareto_epochs([ids["stopped"]])
    assert set(one["run"]) == {ids["stopped"]} and one["epoch"].is_monotonic_increasing


def test_a_search_without_pgd_says_that_its_attack_has_one_step(tmp_path: Path) -> None:
    run = "20261118-1000-e2rnas2021-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "search", method="e2rnas2021", changes={"attack_epsilon": 0.1}))
    events.epoch = events.step = 1
    events.write("metric", split="alphas", statistics="batch", values={"natural_accuracy": 0.5, "adversarial_accuracy": 0.25})
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    assert log.run(run)["adversarial_attack"] == "one step"
    (epoch,) = log.pareto_epochs().to_dict("records")
    assert epoch["epsilon"] == 0.1 and "one step, epsilon 0.1" in epoch["group"]
    log.close()


def test_incomplete_attacks_are_listed_but_never_ranked(tmp_path: Path) -> None:
    run = "20261118-1000-attack-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "attack"))
    record: dict[str, Any] = {"attack": "fgsm", "title": "FGSM", "epsilon": 0.15, "images": 10, "correct": 1, "accuracy": 0.1,
                              "low": 0.0, "high": 0.4, "fingerprint": "x", "fields": {}, "duration_s": 1.0, "complete": False}
    events.write("attack", **record)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    assert list(log.attacks(run)["complete"]) == [False]
    assert not log.evaluations()["complete"].any()
    assert np.isnan(log.runs().iloc[0]["adversarial_accuracy"])


def test_progress_of_the_running_search(log: RunLog, ids: dict[str, str]) -> None:
    progress = log.progress(ids["running"])
    assert (progress["phase"], progress["done"], progress["total"], progress["unit"]) == ("search", 13, 40, "steps")
    assert progress["fraction"] == pytest.approx(13 / 40) and progress["passes"] == 42 * 13


@pytest.mark.parametrize(("points", "left"), [
    # The first step takes 30 s, because it compiles; each further step takes 2 s.
    ([(0.0, 0.0), (15.0, 0.5)], None),
    ([(0.0, 0.0), (15.0, 0.5), (30.0, 1.0)], None),
    ([(0.0, 0.0), (15.0, 0.5), (30.0, 1.0), (36.0, 4.0), (42.0, 7.0)], 2 * 33.0),
    # Steps of 200 s: the trail of two minutes holds no complete step, and counts as it is.
    ([(5.0 * i, 5.0 * i / 200) for i in range(30)], 200 * (40 - 145 / 200)),
])
def test_the_first_step_of_an_attempt_does_not_count_for_the_time_left(tmp_path: Path, points: list[tuple[float, float]],
                                                                       left: float | None) -> None:
    run = sample_runs.write_running_search(tmp_path)
    folder = RunFolder(tmp_path, run)
    kept = [line for line in folder.events.read_text().splitlines() if json.loads(line)["event"] != "progress"]
    first = json.loads(kept[-1])
    common = {name: first[name] for name in ("attempt", "step", "epoch")} | {
        "event": "progress", "phase": "search", "total": 40.0, "unit": "steps", "passes": 1}
    lines = [json.dumps({"t": first["t"] + 10 + t, **common, "done": done}) for t, done in points]
    folder.events.write_text("\n".join([*kept, *lines]) + "\n")
    with contextlib.closing(RunLog.open(tmp_path)) as log:
        log.ingest()
        shown = log.runs().set_index("id").loc[run, "seconds_left"]
    assert pd.isna(shown) if left is None else shown == pytest.approx(left)


def test_a_silent_run_has_no_time_left(tmp_path: Path) -> None:
    run = sample_runs.write_running_search(tmp_path)
    events = RunFolder(tmp_path, run).events
    with contextlib.closing(RunLog.open(tmp_path)) as log:
        log.ingest()
        assert log.runs().set_index("id").loc[run, "seconds_left"] > 0
        old = time.time() - 2 * SILENT_S
        os.utime(events, (old, old))
        assert pd.isna(log.runs().set_index("id").loc[run, "seconds_left"])
