"""The launcher `ray` on a real cluster of a head and two nodes, beyond what `test_contract` asks of every launcher."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine import queueing, requests
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.launchers import ray_jobs
from engine.study import actions
from engine.study.parsing import from_text
from tests.engine.run.launchers.ray_cluster import RayCluster
from tests.engine.run.launchers.test_contract import node, supervisors, workers
from tests.engine.run.processes import processes_of, until, until_status
from tests.engine.study.test_survival import finished, outcomes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ONE = "search: {threads: 1}, retrain: {threads: 1}, attack: {threads: 1}"
STUDY = f"""
question: Does the method matter?
dataset: digits
preset: smoke
search_seeds: 1
arms:
  - {{name: A, method: arnas, {ONE}}}
  - {{name: B, method: darts, {ONE}}}
"""


@pytest.fixture
def runs(tmp_path: Path, ray: RayCluster) -> Iterator[Path]:
    folder = tmp_path / "runs"
    with processes_of(folder):
        queueing.choose_launcher(folder, "ray", {"address": ray.address, "gpus": 0, "threads": 1, "memory_gb": 1})
        yield folder
        for process in (*supervisors(folder), *node(folder)):
            with contextlib.suppress(psutil.Error):
                process.kill()


def test_a_study_that_loses_a_node_equals_the_same_study_on_this_machine(runs: Path, ray: RayCluster, tmp_path: Path) -> None:
    with processes_of(tmp_path / "local") as local:
        expected = outcomes(finished(local, actions.launch(local, from_text(STUDY)), patience_s=900))
    study_id = actions.launch(runs, from_text(STUDY))
    first = until(lambda: workers(runs) and next((one for one in run_ids(runs) if RunFolder(runs, one).heartbeat.exists()), None),
                  "a worker computes")
    worker = until(lambda: next((one for one in workers(runs) if first in one.cmdline()), None), "its process")
    ray.kill_node(ray.node_of(worker))
    assert outcomes(finished(runs, study_id, patience_s=900)) == expected
    attempts = [(read_json(RunFolder(runs, one).process_json) or {})["attempt"] for one in run_ids(runs)]
    assert sorted(attempts)[-1] == 2 and all((read_json(RunFolder(runs, one).process_json) or {})["launcher"] == "ray"
                                            for one in run_ids(runs))
    assert len(ray.nodes) == 1


def test_a_job_for_which_no_node_has_room_waits_and_is_withdrawn_by_stop(runs: Path, ray: RayCluster) -> None:
    (run_id,) = requests.submit(runs, "search", {"threads": 64}, method="arnas", preset="smoke")
    waits = "Its job waits for a node of the Ray cluster with 64 CPUs and 1 GB of memory free."
    until(lambda: requests.status(runs, run_id).cause == waits, "it waits")
    assert requests.status(runs, run_id).status == "queued"
    requests.request_stop(runs, run_id)
    assert until_status(runs, run_id, "stopped").cause == "Stopped before it started."
    assert not workers(runs)


def test_a_wrong_token_is_refused_in_a_sentence(runs: Path, ray: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_jobs.unreachable(ray.address) == ""
    monkeypatch.setattr(ray_jobs, "PROBE_AGAIN_S", 0.0)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert ray_jobs.unreachable(ray.address) == ray_jobs.WRONG_TOKEN
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert ray_jobs.unreachable(ray.address) == ray_jobs.NEEDS_TOKEN
    assert json.loads((runs / "control" / "launcher.json").read_text())["settings"]["address"] == ray.address
