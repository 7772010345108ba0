"""The background process launches the runs of studies as they become due, and survives damage, restarts and its own kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import background, requests
from engine.background import EVERY_S, Studies
from engine.run.folder import RunFolder
from engine.study import actions
from engine.study.folder import StudyFolder
from engine.study.identity import Runs
from engine.study.overview import cells_of
from engine.study.parsing import from_text
from tests.engine.run.processes import processes_of, until, without_supervisor
from tests.sample_studies import finish_run

ONE_ARM_MORE = """
question: Does lambda matter?
dataset: digits
preset: smoke
search_seeds: 2
arms:
  - {name: A, method: arnas}
  - {name: B, method: arnas, search: {adversarial_lambda: 1}}
"""


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    return without_supervisor(tmp_path / "runs")


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(tmp_path / "runs") as folder:
        yield folder


def test_the_process_starts_without_the_code_of_studies() -> None:
    """The user who has clicked on Launch waits for it."""
    code = "import json, sys, engine.background; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "duckdb", "pydantic", "engine.study", "engine.config"} & set(json.loads(done.stdout))


def test_runs_that_are_due_are_launched_in_a_tick(idle: Path) -> None:
    study_id = actions.launch(idle, from_text(ONE_ARM_MORE))
    studies = Studies(idle)
    assert studies.tick(False)
    assert len(Runs(idle).of_study(study_id)) == 12
    studies.tick(False)
    assert len(Runs(idle).of_study(study_id)) == 12


def test_a_long_look_at_many_studies_is_spread_over_ticks(idle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PER_TICK_S", 0.0)
    first, second = (actions.launch(idle, from_text(ONE_ARM_MORE.replace("seeds: 2", f"seeds: [{seeds}]"))) for seeds in (1, 2))
    studies, launched = Studies(idle), []
    while studies.tick(False):
        launched.append(tuple(len(Runs(idle).of_study(one)) for one in (first, second)))
    assert launched[:2] in ([(6, 0), (6, 6)], [(0, 6), (6, 6)])
    assert launched[-1] == (6, 6)


def test_the_end_of_a_run_makes_the_studies_look_again(idle: Path) -> None:
    study_id = actions.launch(idle, from_text(ONE_ARM_MORE + "  - {name: C, retrain: {genotype: ARNAS}}\nmatch: macs\n"
                                                             "reference: A\n"))
    studies = Studies(idle)
    while studies.tick(True):
        pass
    before = len(Runs(idle).of_study(study_id))
    for known in Runs(idle).of_study(study_id):
        if known.kind == "search":
            finish_run(idle, known.id)
    # It may be too soon after the last look, but the change is remembered. Without it, the next look would be after `EVERY_S`.
    launched = studies.tick(True) or until(lambda: studies.tick(False), "the sizes of the other networks are known", EVERY_S - 1)
    assert launched
    assert len(Runs(idle).of_study(study_id)) > before


def test_a_damaged_study_does_not_stop_the_others(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged, sound = (actions.launch(idle, from_text(ONE_ARM_MORE.replace("lambda matter", f"{name} lambda matter")))
                      for name in ("one", "other"))
    StudyFolder(idle, damaged).file.write_text("{}")
    Studies(idle).tick(True)
    assert Runs(idle).of_study(sound)
    assert damaged in capsys.readouterr().err


def test_a_stopped_study_launches_nothing(idle: Path) -> None:
    study_id = actions.launch(idle, from_text(ONE_ARM_MORE))
    StudyFolder(idle, study_id).mark("stop")
    assert not Studies(idle).tick(True)
    assert not Runs(idle).of_study(study_id)


def test_a_study_survives_the_kill_of_its_background_process(runs: Path) -> None:
    """Killed in the middle of a study and started again, the background process launches exactly the missing runs."""
    runs.mkdir()
    study_id = actions.launch(runs, from_text(ONE_ARM_MORE.replace("search_seeds: 2", "search_seeds: 1")))
    until(lambda: Runs(runs).of_study(study_id), "the first runs are launched")
    pid = until(lambda: requests.supervisor_pid(runs), "a supervisor is alive")
    os.kill(pid, signal.SIGKILL)
    until(lambda: requests.supervisor_pid(runs) is None, "the supervisor is gone")
    requests.ensure_supervisor(runs)
    until(lambda: all(cell.status == "finished" for cell in cells_of(runs, study_id)), "every cell has its result")
    known = Runs(runs).of_study(study_id)
    assert sorted(one.kind for one in known) == ["attack"] * 2 + ["retrain"] * 2 + ["search"] * 2
    assert not [one for one in known if RunFolder(runs, one.id).read_run()["parent"] == one.id]
