"""Robustness tables: grouped by protocol, one row per network, seeds of one method together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.log import RunLog
from engine.report.robustness import RobustnessTable, distinctions, evaluations_of, letters_of, robustness_tables
from tests import sample_runs
from tests.sample_runs import START, write_finished_attack, write_finished_chain

OLDER = Path(__file__).parents[2] / "data" / "older_runs"
RUN = "20261118-0920-attack-digits-7f4"
Tables = Callable[[], tuple[RunLog, list[RobustnessTable]]]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Tables]:
    """A function that reads the runs in `tmp_path` and returns the log and its tables."""
    logs = []

    def tables() -> tuple[RunLog, list[RobustnessTable]]:
        logs.append(RunLog.open(tmp_path, in_memory=True))
        logs[-1].ingest()
        return logs[-1], robustness_tables(logs[-1])

    yield tables
    for log in logs:
        log.close()


def test_two_chains_of_different_seeds_share_a_table_and_a_group(tmp_path: Path, read: Tables) -> None:
    first, second = (write_finished_chain(tmp_path, name=name, seed=seed, autoattack=count, created=START + seed)[2]
                     for name, seed, count in (("one", 2, 31), ("two", 3, 14)))
    log, (table,) = read()
    assert [column.name for column in table.columns] == ["natural", "fgsm", "pgd-20", "autoattack", "worst-case"]
    (group,) = table.groups
    assert [row.run for row in group.rows] == [first, second] and group.complete == 2
    assert [row.label for row in group.rows] == ["ARNAS, seed 2", "ARNAS, seed 3"]
    assert group.means["worst-case"] == pytest.approx((31 + 14) / 128)
    assert group.spreads["worst-case"] == pytest.approx((31 - 14) / 64 / 2 ** 0.5)
    assert not distinctions(log, table, "natural").comparisons[0].distinct()
    assert distinctions(log, table).letters == letters_of(log, table, [first, second]) == {first: "a", second: "b"}
    assert letters_of(log, table, [second]) == {second: "a"}


def test_a_network_attacked_twice_is_one_row(tmp_path: Path, read: Tables) -> None:
    runs = [write_finished_attack(tmp_path, f"{RUN}{name}", parent=None, network="same", created=START + number)
            for number, name in enumerate("ab")]
    log, (table,) = read()
    assert [(row.run, row.repeats) for row in table.rows] == [(runs[1], 1)]
    assert [row.run for row in evaluations_of(log, "same", table.protocol)] == [runs[1], runs[0]]


def test_a_newer_evaluation_counts_once_it_is_complete(tmp_path: Path, read: Tables) -> None:
    old = write_finished_attack(tmp_path, f"{RUN}a", parent=None, network="same")
    sample_runs.write_unfinished_attack(tmp_path, f"{RUN}b", network="same", ended="failed", created=START + 9)
    _, (table,) = read()
    assert [row.run for row in table.rows] == [old]


def test_another_protocol_is_another_table(tmp_path: Path, read: Tables) -> None:
    for name, epsilon in (("a", 0.15), ("b", 8 / 255)):
        write_finished_attack(tmp_path, f"{RUN}{name}", parent=None, network="same", epsilon=epsilon)
    _, tables = read()
    assert {table.title.split(",")[0] for table in tables} == {"L∞ 0.15", "L∞ 8/255"}
    assert [len(table.rows) for table in tables] == [1, 1]


def test_means_leave_out_evaluations_that_are_not_complete(tmp_path: Path, read: Tables) -> None:
    write_finished_attack(tmp_path, f"{RUN}a", parent=None)
    sample_runs.write_unfinished_attack(tmp_path, f"{RUN}b", ended="failed")
    _, (table,) = read()
    (group,) = table.groups
    assert len(group.rows) == 2 and group.complete == 1 and not group.spreads
    assert group.means["worst-case"] == pytest.approx(31 / 64)


def test_the_badge_follows_from_the_checks(tmp_path: Path, read: Tables) -> None:
    run = write_finished_attack(tmp_path, f"{RUN}a", parent=None)
    sample_runs.write_checks(sample_runs.EventsFile(tmp_path / run), gradients="warning")
    _, (table,) = read()
    assert table.rows[0].badge.colour == "amber" and table.rows[0].badge.reasons[0].startswith("Gradients: ")


def test_runs_of_an_older_version_are_grouped_by_their_fingerprints(tmp_path: Path, read: Tables) -> None:
    shutil.copytree(OLDER, tmp_path, dirs_exist_ok=True)
    _, tables = read()
    rows = {row.run: row for table in tables for row in table.rows}
    assert set(rows) == {"20261126-0058-attack-digits-1581", "20261126-0058-attack-digits-25ca"}
    assert all(row.complete and row.results["worst-case"].images for row in rows.values())
    assert all(table.fields == {} and table.title for table in tables)


def test_no_attack_run_gives_no_table(tmp_path: Path, read: Tables) -> None:
    sample_runs.write_failed_search(tmp_path)
    assert read()[1] == []


def test_networks_of_other_settings_are_another_group(tmp_path: Path) -> None:
    """Equal titles share a group only if their searches and retrainings differ in nothing but seeds and machine."""
    log = RunLog.open(tmp_path, in_memory=True)
    for number, (seed, epochs) in enumerate(((1, 14), (2, 14), (3, 1))):
        retrain, attack = f"20261118-090{number}-retrain-digits-000{number}", f"20261118-091{number}-attack-digits-000{number}"
        sample_runs.write_run_json(tmp_path, retrain, "retrain", changes={"seed": seed, "epochs": epochs}, title="ARNAS")
        events = sample_runs.EventsFile(sample_runs.write_run_json(tmp_path, attack, "attack", parent=retrain, title="ARNAS"))
        for name, correct in (("natural", 90), ("worst-case", 50 + number)):
            sample_runs.write_attack(events, name, name, 100, correct)
    log.ingest()
    (table,) = robustness_tables(log)
    assert sorted(len(group.rows) for group in table.groups) == [1, 2]
    assert all(group.title.startswith("ARNAS, recipe ") for group in table.groups)
    log.close()
