"""A study whose worker, background process and dashboard are killed in the middle ends with the results of an undisturbed one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from engine import requests
from engine.run.folder import RunFolder, read_json
from engine.study import actions
from engine.study.identity import Runs
from engine.study.overview import Overview, cells_of, read_overview
from engine.study.parsing import from_text
from tests.browser.conftest import start_dashboard
from tests.engine.run.processes import PATIENCE_S, processes_of, until

STUDY = """
question: Does lambda matter?
dataset: digits
preset: smoke
search_seeds: 1
arms:
  - {name: A, method: arnas}
  - {name: B, method: arnas, search: {adversarial_lambda: 1}}
"""


def finished(runs: Path, study_id: str, patience_s: float = PATIENCE_S) -> Overview:
    until(lambda: all(cell.status == "finished" for cell in cells_of(runs, study_id)), "every cell has its result", patience_s)
    return read_overview(runs, study_id)


def outcomes(overview: Overview) -> dict[str, list[list[float]]]:
    return {name: arm.units + [[one.accuracy for one in unit] for unit in arm.measured("natural")]
            for name, arm in overview.results.arms.items()}


@pytest.mark.slow
def test_killed_in_the_middle_equals_undisturbed_and_a_second_study_runs_nothing(tmp_path: Path) -> None:
    with processes_of(tmp_path / "undisturbed") as runs:
        expected = outcomes(finished(runs, actions.launch(runs, from_text(STUDY))))
    with processes_of(tmp_path / "disturbed") as runs:
        dashboard = start_dashboard(runs)
        study_id = actions.launch(runs, from_text(STUDY))
        search = until(lambda: next((one.id for one in Runs(runs).of_study(study_id)
                                     if RunFolder(runs, one.id).heartbeat.exists()), None), "a worker works")
        os.kill(int((read_json(RunFolder(runs, search).process_json) or {})["pid"]), signal.SIGKILL)
        supervisor = until(lambda: requests.supervisor_pid(runs), "a supervisor is alive")
        os.kill(supervisor, signal.SIGKILL)
        dashboard.kill()
        until(lambda: requests.supervisor_pid(runs) is None, "the supervisor is gone")
        requests.ensure_supervisor(runs)
        assert outcomes(finished(runs, study_id)) == expected
        workers = len(list(runs.glob("*/process.json")))
        again = actions.launch(runs, from_text(STUDY))
        assert outcomes(finished(runs, again)) == expected
        assert len(list(runs.glob("*/process.json"))) == workers, "every run of the second study is reused"
