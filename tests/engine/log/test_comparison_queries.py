"""Queries about several runs at once: curves that keep their peaks, settings, outcomes in bulk, and search times."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.log import RunLog
from tests.sample_runs import EventsFile, write_finished_chain, write_run_json


def test_a_thinned_curve_keeps_its_extremes(tmp_path: Path) -> None:
    run = "20261118-1000-arnas-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "search"))
    for step in range(1, 501):
        events.step, events.epoch = step, (step - 1) // 100 + 1
        value = {137: 9.0, 311: -4.0}.get(step, 1 + step / 1000)
        events.write("metric", split="alphas", statistics="batch", values={"natural_loss": value})
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    thin = log.overlay([run, "nothing"], "natural_loss", "alphas", "batch", 40)
    assert len(thin) <= 40 and thin["value"].max() == 9.0 and thin["value"].min() == -4.0
    assert thin["step"].is_monotonic_increasing and set(thin["run"]) == {run}
    assert len(log.overlay([run], "natural_loss", "alphas", "batch", 2000)) == 500
    epochs = log.overlay([run], "natural_loss", "alphas", "batch", by_epoch=True)
    assert list(epochs["epoch"]) == [1, 2, 3, 4, 5] and epochs["value"].iloc[4] == pytest.approx(1.4505)


def test_the_metric_of_most_runs_comes_first(log: RunLog, ids: dict[str, str]) -> None:
    found = log.metrics_of([ids["search"], ids["stopped"], ids["retrain"]])
    assert found.iloc[0]["runs"] == 3 and set(found[found["split"] == "select"]["runs"]) == {1}
    assert log.metrics_of(["nothing"]).empty


def test_settings_of_several_runs(log: RunLog, ids: dict[str, str]) -> None:
    found = log.configs([ids["search"], ids["attack"], "nothing"])
    assert set(found) == {ids["search"], ids["attack"]} and found[ids["attack"]]["epsilon"] == pytest.approx(0.15)


def test_outcomes_in_bulk_are_those_of_each_run(tmp_path: Path) -> None:
    attacks = [write_finished_chain(tmp_path, name=name)[2] for name in ("a", "b", "c")]
    (tmp_path / attacks[1] / "results" / "outcomes.parquet").write_bytes(b"broken")
    shutil.rmtree(tmp_path / attacks[2] / "results")
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    for column in ("natural", "pgd-20", "worst-case"):
        (row,) = log.outcome_bits(attacks, column).itertuples()  # runs without readable outcomes are left out
        assert row.run == attacks[0]
        assert [one == "1" for one in row.bits] == list(log.correct_images(attacks[0], column).values())
    assert log.outcome_bits([attacks[2]], "natural").empty


def test_the_search_time_is_that_of_the_network_of_an_attack(log: RunLog, ids: dict[str, str]) -> None:
    times = dict(log.search_times().itertuples(index=False))
    assert set(times) == {ids["attack"]} and 20 < times[ids["attack"]] < 40
