"""The comparison of runs: labels, differing settings of whole chains, seed groups, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from engine.errors import RunLogError
from engine.log import RunLog
from engine.report.run_comparison import compared_runs, comparison_record, seed_groups, setting_differences
from tests import sample_runs


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunLog, list[tuple[str, str, str]]]]:
    """The run log of three chains with the search seeds 1 to 3."""
    root = tmp_path_factory.mktemp("chains")
    ids = [sample_runs.write_finished_chain(root, name=f"digits{seed}", seed=seed, autoattack=28 + seed) for seed in (1, 2, 3)]
    log = RunLog.open(root, in_memory=True)
    log.ingest()
    yield log, ids
    log.close()


def test_settings_of_the_whole_chain_are_compared(chains: tuple[RunLog, list[tuple[str, str, str]]]) -> None:
    log, ids = chains
    runs = compared_runs(log, [ids[0][2], ids[1][2]])
    differences = {(one.kind, one.name): one.values for one in setting_differences(runs)}
    assert differences == {("search", "seed"): (1, 2), ("retrain", "seed"): (1, 2)}
    assert [run.label for run in runs] == ["ARNAS, seed 1", "ARNAS, seed 2"]


def test_runs_of_other_kinds_keep_their_kind_in_the_label(chains: tuple[RunLog, list[tuple[str, str, str]]]) -> None:
    log, ids = chains
    runs = compared_runs(log, [ids[0][0], ids[0][1]])
    assert [run.label for run in runs] == ["ARNAS, search", "ARNAS, retrain"]
    assert setting_differences(runs) == []  # only the second run has a retraining, and the search is the same


def test_seeds_are_one_group_with_mean_and_spread(chains: tuple[RunLog, list[tuple[str, str, str]]]) -> None:
    log, ids = chains
    (group,) = seed_groups(compared_runs(log, [chain[2] for chain in ids]))
    assert group.label == "ARNAS" and [run.seeds for run in group.runs] == [[1], [2], [3]]
    assert group.means["adversarial_accuracy"] == pytest.approx(30 / 64)
    assert group.spreads["adversarial_accuracy"] == pytest.approx(1 / 64)
    assert len(seed_groups(compared_runs(log, [ids[0][0], ids[0][1], ids[1][0]]))) == 2


def test_an_unknown_run_is_refused_by_name(chains: tuple[RunLog, list[tuple[str, str, str]]]) -> None:
    with pytest.raises(RunLogError, match="got nothing-here, which are not there"):
        compared_runs(chains[0], [chains[1][0][0], "nothing-here"])


def test_the_record_is_json(chains: tuple[RunLog, list[tuple[str, str, str]]]) -> None:
    log, ids = chains
    record = json.loads(json.dumps(comparison_record(compared_runs(log, [ids[0][0], ids[1][2]]))))
    assert record["results"][0]["natural_low"] is None and record["results"][1]["adversarial_images"] == 64
    assert record["results"][1]["accuracy_of"] == "test, Worst case"
    assert record["settings"][0] == {"kind": "search", "name": "seed", "values": {ids[0][0]: 1, ids[1][2]: 2}}
