"""The deletion of studies that share runs: nothing that another study uses goes, and in the end no shared run is left over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import RunError
from engine.run.folder import run_ids
from engine.study import actions
from engine.study.deletion import delete, own_runs
from engine.study.folder import study_ids
from engine.study.identity import Runs
from engine.study.overview import cells_of
from engine.study.parsing import from_text
from tests.engine.run.processes import without_supervisor
from tests.engine.study.test_planning import TWO_ARMS
from tests.sample_runs import write_finished_attack
from tests.sample_studies import finish_study

OTHER_ARM = TWO_ARMS.replace("adversarial_lambda: 1", "adversarial_lambda: 0.3")
SHARED = 10  # runs of arm A: 2 searches, and 4 retrainings and attacks


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    yield without_supervisor(tmp_path / "runs")


@pytest.fixture
def pair(runs: Path) -> tuple[str, str]:
    """Return the ids of two finished studies. The runs of arm A were launched for the first, and the second uses them, too."""
    ids = []
    for text in (TWO_ARMS, OTHER_ARM):
        ids.append(actions.launch(runs, from_text(text)))
        finish_study(runs, ids[-1])
    return ids[0], ids[1]


def test_only_a_study_whose_runs_have_ended_can_be_deleted(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    actions.advance(runs, study_id)
    with pytest.raises(RunError, match="stop the study first"):
        delete(runs, study_id, with_runs=True)


def test_shared_runs_go_with_the_last_study_that_uses_them(runs: Path, pair: tuple[str, str],
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    first, second = pair
    everything = len(Runs(runs).of_study(first))
    assert main(["study", "delete", first, "--with-runs", "--runs", str(runs)]) == 0
    words = f"deleted, with {everything - SHARED} runs; {SHARED} shared runs stay for {second}, which uses them"
    assert capsys.readouterr().out == f"{first}  {words}\n"
    assert study_ids(runs) == [second]
    assert all(cell.status == "finished" for cell in cells_of(runs, second))
    assert delete(runs, second, with_runs=True).words == f", with {everything} runs"
    assert run_ids(runs) == []


def test_a_study_that_borrows_runs_leaves_them_to_their_own_study(runs: Path, pair: tuple[str, str]) -> None:
    first, second = pair
    deletion = delete(runs, second, with_runs=True)
    assert len(deletion.shared) == SHARED and deletion.users == (first,) and not deletion.foreign
    assert all(cell.status == "finished" for cell in cells_of(runs, first))
    assert len(own_runs(runs, first)) == delete(runs, first, with_runs=True).runs
    assert run_ids(runs) == []


def test_runs_that_the_user_kept_stay_when_a_later_study_is_deleted(runs: Path, pair: tuple[str, str]) -> None:
    first, second = pair
    everything = len(Runs(runs).of_study(first))
    assert delete(runs, first, with_runs=False).words == "; its runs are kept"
    assert f"; {SHARED} runs stay, because they were not launched for this study" in delete(runs, second, with_runs=True).words
    assert len(run_ids(runs)) == everything


def test_runs_that_a_run_launched_by_hand_needs_stay(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    finish_study(runs, study_id)
    known = Runs(runs).of_study(study_id)
    retraining = next(run for run in known if run.kind == "retrain")
    by_hand = write_finished_attack(runs, "20261118-0906-attack-digits-7f3c", parent=retraining.id)
    deletion = delete(runs, study_id, with_runs=True)
    assert set(deletion.needed) == {retraining.id, retraining.parent} and deletion.runs == len(known) - 2
    assert "2 runs stay, because other runs need them" in deletion.words
    assert set(run_ids(runs)) == {*deletion.needed, by_hand}
