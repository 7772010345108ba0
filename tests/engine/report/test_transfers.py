"""Transfer maps gather the results of runs with different protocols and never mix conditions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.log import RunLog
from engine.report.formats import export
from engine.report.robustness import robustness_tables
from engine.report.transfers import TransferMap, transfer_maps
from tests import sample_runs

A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"
START = sample_runs.START


def run_id(number: int) -> str:
    return f"20261118-0906-attack-digits-{number:04x}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two networks attacked with each other's images, in protocols of their own, and one of them with images of a third."""
    sample_runs.write_transfers(tmp_path, run_id(1), A, {A: 10, B: 40}, created=START)
    sample_runs.write_transfers(tmp_path, run_id(2), B, {B: 12, A: 42, C: 50}, created=START + 1)
    return tmp_path


@pytest.fixture
def log(root: Path) -> Iterator[RunLog]:
    log = RunLog.open(root, in_memory=True)
    yield log
    log.close()


def maps_of(log: RunLog) -> list[TransferMap]:
    log.ingest()
    return transfer_maps(log)


def test_a_map_has_all_pairs_of_all_protocols_and_the_white_box_results(log: RunLog) -> None:
    """Every recorded pair is there with its number of images, and those of the third network are missing."""
    (one,) = maps_of(log)
    assert {pair: cell.result.correct for pair, cell in one.cells.items()} == {
        (A, A): 10, (B, A): 40, (B, B): 12, (A, B): 42, (C, B): 50}
    assert [network.network for network in one.networks] == [A, B, C] and one.missing == 4
    assert len({network.label for network in one.networks}) == 3
    assert {cell.result.images for cell in one.cells.values()} == {64} and one.attack == "mi-fgsm"


def test_a_map_equals_the_exported_tables(log: RunLog) -> None:
    """A cell is the number in the column of its transfer attack in the table of its protocol."""
    (one,) = maps_of(log)
    tables = robustness_tables(log)
    for (source, target), cell in one.cells.items():
        table = next(table for table in tables if table.row(cell.run))
        row = table.row(cell.run)
        assert row is not None and row.network == target and row.results[cell.attack] == cell.result
        assert cell.attack == ("mi-fgsm" if source == target else f"transfer-{source}") and one.fits(table)
        assert f"{100 * cell.result.accuracy:.1f}" in export(table, "markdown", [], 0).decode()


def test_the_newest_result_counts(root: Path, log: RunLog) -> None:
    sample_runs.write_transfers(root, run_id(3), A, {A: 9, B: 41, C: 60}, created=START + 2)
    (one,) = maps_of(log)
    assert (one.cells[B, A].result.correct, one.cells[A, A].result.correct, one.cells[B, A].run) == (41, 9, run_id(3))
    assert one.missing == 3


def test_other_images_or_another_maker_are_other_maps(root: Path, log: RunLog) -> None:
    """APGD-CE draws random numbers by block in a transfer attack only, and its white-box result still is in its map."""
    sample_runs.write_transfers(root, run_id(4), A, {A: 5, B: 7}, created=START + 2, images=32)
    sample_runs.write_transfers(root, run_id(5), A, {A: 3, B: 33}, created=START + 3, maker="apgd-ce")
    maps = maps_of(log)
    assert [(one.attack, one.conditions["images"], len(one.cells)) for one in maps] == [
        ("mi-fgsm", 64, 5), ("apgd-ce", 64, 2), ("mi-fgsm", 32, 2)]
    tables = {table.rows[0].run: table for table in robustness_tables(log)}
    assert [one.fits(tables[run_id(4)]) for one in maps] == [False, False, True]
    assert not maps[0].fits(replace(tables[run_id(1)], fields={**tables[run_id(1)].fields, "epsilon": 0.1}))


def test_a_source_that_was_never_attacked_is_named_by_its_retraining(tmp_path: Path) -> None:
    """With one source, the run names the retraining; with several, it is not clear which of them it is."""
    retrain = sample_runs.write_resumed_retrain(tmp_path)
    sample_runs.write_transfers(tmp_path, run_id(1), A, {A: 10, C: 40}, created=START)
    document = tmp_path / run_id(1) / "run.json"
    document.write_text(document.read_text(encoding="utf-8").replace(f'"{C}"', f'"{retrain}"'), encoding="utf-8")
    log = RunLog.open(tmp_path, in_memory=True)
    (one,) = maps_of(log)
    named = {network.network: (network.label, network.parent) for network in one.networks}
    assert named[C] == ("ARNAS · cccccc", retrain)
    log.close()


def test_runs_without_transfer_have_no_map(tmp_path: Path) -> None:
    sample_runs.write_finished_chain(tmp_path)
    log = RunLog.open(tmp_path, in_memory=True)
    assert maps_of(log) == []
    log.close()
