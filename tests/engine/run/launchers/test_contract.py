"""Every launcher does what `engine.run.launchers.contract` says, with a real supervisor and real workers that compute."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import queueing, requests
from engine.queueing import resources_of
from engine.run.events import read_events
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.registry import LAUNCHERS, choice_of, write_choice
from engine.run.state import is_working, modified
from tests.engine.run.launchers import cluster
from tests.engine.run.launchers.ray_cluster import RayCluster
from tests.engine.run.processes import events_of, processes_of, until, until_status, until_step

# {name of a case: (launcher, its settings on this machine)}
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "local": ("local", {}), "submitit": ("slurm", {"cluster": "local", "gpus": 0}),
    "slurm": ("slurm", {"partition": "low", "gpus": 0, "threads": 1, "memory_gb": 1}),
    "ray": ("ray", {"gpus": 0, "threads": 1, "memory_gb": 1})}
LONG = {"threads": 1, "epochs": 3, "steps_per_epoch": 20}  # long enough to be interrupted in the middle


def test_the_table_above_names_every_launcher() -> None:
    assert {name for name, _ in CASES.values()} == set(LAUNCHERS)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Slurm cluster of one node, as environment variables."""
    if reason := cluster.missing():
        pytest.skip(reason)
    with cluster.running(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


@pytest.fixture(params=["local", "submitit", pytest.param("slurm", marks=pytest.mark.slow),
                        pytest.param("ray", marks=pytest.mark.slow)])
def runs(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if request.param == "slurm":
        for name, value in request.getfixturevalue("slurm").items():
            monkeypatch.setenv(name, value)
    name, settings = CASES[request.param]
    if request.param == "ray":
        settings = settings | {"address": request.getfixturevalue("ray").address}
    choice = choice_of(name, settings)
    if missing := choice.missing():
        pytest.skip(missing)
    folder = tmp_path / "runs"
    write_choice(folder, choice)
    with processes_of(folder):
        yield folder
        for process in (*supervisors(folder), *node(folder)):
            with contextlib.suppress(psutil.Error):
                process.kill()


def belonging(runs: Path) -> list[tuple[psutil.Process, str]]:
    """Return the living processes whose command names the runs folder, each with its command."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if str(runs) in command and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process, command))
    return found


def supervisors(runs: Path) -> list[psutil.Process]:
    return [process for process, command in belonging(runs) if "engine.background" in command]


def node(runs: Path) -> list[psutil.Process]:
    """Return all processes by which the launcher computes runs."""
    return [process for process, command in belonging(runs) if "engine.background" not in command]


def workers(runs: Path) -> list[psutil.Process]:
    return [process for process, command in belonging(runs) if "-m engine.run.worker" in command and "python" in process.name()]


def launch(runs: Path, **changes: Any) -> RunFolder:
    """Launch a search with changed settings, and return its folder once it has computed some steps."""
    (run_id,) = requests.submit(runs, "search", LONG | changes, method="arnas", preset="smoke")
    until_step(runs, run_id, 2)
    return RunFolder(runs, run_id)


@pytest.fixture
def lose_node(runs: Path, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Kill all processes by which the launcher computes runs, as if their machine had lost its power."""
    def kill() -> None:
        for process in node(runs):
            with contextlib.suppress(psutil.Error):
                process.kill()

    def kill_node_of_ray() -> None:
        (worker,) = workers(runs)
        running: RayCluster = request.getfixturevalue("ray")
        running.kill_node(running.node_of(worker))

    return kill_node_of_ray if (read_json(runs / "control" / "launcher.json") or {}).get("name") == "ray" else kill


def check_finished(folder: RunFolder, attempt: int) -> None:
    """Wait until an attempt has finished the run, and check that each epoch has been computed once."""
    state = until_status(folder.runs, folder.id, "finished")
    record = until(lambda: (one := read_json(folder.exit_json)) and one["attempt"] == attempt and one, "exit.json")
    assert (state.attempt, record["status"]) == (attempt, "finished")
    assert [one["epoch"] for one in events_of(folder.runs, folder.id, "genotype")] == [0, 1, 2, 3]
    starts = [event["attempt"] for event in read_events(folder.events)[0] if event["event"] == "resumed"]
    assert starts == list(range(2, attempt + 1))
    assert [line for line in folder.log.read_text().splitlines() if " attempt " in line][-1].split(" attempt ")[1].startswith(
        f"{attempt} of {folder.id}")
    until(lambda: not is_working(folder, read_json(folder.process_json) or {}), "the worker has left")


def test_a_run_starts_on_a_device_of_the_launcher_stops_on_request_and_resumes(runs: Path) -> None:
    folder = launch(runs)
    state, process = requests.status(runs, folder.id), read_json(folder.process_json) or {}
    launcher = (read_json(runs / "control" / "launcher.json") or {})["name"]
    resources = resources_of(runs)
    assert (state.status, process["launcher"], process["threads"]) == ("running", launcher, 1)
    assert process["device"] == state.device and state.device in [one.name for one in resources.devices]
    assert resources.threads >= 1
    requests.request_stop(runs, folder.id)
    stopped = until_status(runs, folder.id, "stopped")
    assert (stopped.cause, stopped.attempt) == ("Stopped on request.", 1)
    until(lambda: not workers(runs), "the worker has ended")
    requests.resume(runs, folder.id)
    check_finished(folder, 2)


def test_force_ends_all_processes_of_a_run(runs: Path) -> None:
    folder = launch(runs)
    (worker,) = workers(runs)
    worker.suspend()  # as if it hung, so that it cannot stop by itself
    requests.force_stop(runs, folder.id)
    cause = until_status(runs, folder.id, "stopped").cause
    # Slurm continues a suspended process before it ends it, so that this worker may still stop by itself.
    assert "by force" in cause or (read_json(folder.process_json) or {}).get("cluster") == "slurm"
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker is gone")
    until(lambda: not node(runs), "nothing of the run is left")


def test_the_heartbeat_goes_on_and_the_cause_of_a_death_is_told(runs: Path) -> None:
    folder = launch(runs, epochs=1000)  # on no machine over before it is killed
    before = modified(folder.heartbeat)
    until(lambda: (modified(folder.heartbeat) or 0.0) > (before or 0.0), "the heartbeat goes on")
    workers(runs)[0].kill()
    ended = until(lambda: read_json(folder.exit_json), "the supervisor has seen the end")
    assert ended["code"] == -signal.SIGKILL and ended["last_lines"]
    state = requests.status(runs, folder.id)
    assert (state.status, state.cause, state.can_resume) == ("failed", "Killed by signal 9 (SIGKILL).", True)


def test_a_run_of_a_lost_node_is_resumed_from_its_checkpoint(runs: Path, lose_node: Callable[[], None]) -> None:
    folder = launch(runs)
    until((folder.checkpoint / "last.pt").exists, "a checkpoint")
    lose_node()
    ended = until(lambda: (one := read_json(folder.exit_json)) and one["attempt"] == 1 and one, "the end is seen")
    assert ended["status"] == "failed" and ended["cause"].endswith(".")
    if requests.status(runs, folder.id).status == "failed":  # a machine of its own has no other machine to go to
        requests.resume(runs, folder.id)
    check_finished(folder, 2)


def test_a_new_supervisor_finds_the_worker_again_and_sees_its_end(runs: Path) -> None:
    folder = launch(runs)
    (worker,), (first,) = workers(runs), supervisors(runs)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: requests.supervisor_pid(runs) is None, "the supervisor is gone")
    worker.suspend()
    requests.ensure_supervisor(runs)
    until(lambda: requests.supervisor_pid(runs), "another supervisor")
    # The queue is written when all runs have been looked at and none was started.
    until(lambda: modified(runs / "queue.json") or not workers(runs), "it has looked at all runs")
    assert workers(runs) == [worker] and requests.status(runs, folder.id).status == "running"
    worker.resume()
    check_finished(folder, 1)
    assert first.pid not in [one.pid for one in supervisors(runs)]


@pytest.mark.parametrize("runs", ["submitit", pytest.param("slurm", marks=pytest.mark.slow)], indirect=True)
def test_runs_that_start_together_each_have_a_job_and_one_is_stopped_alone(runs: Path) -> None:
    queueing.pause(runs)
    folders = [RunFolder(runs, requests.submit(runs, "search", LONG | {"seed": seed}, method="arnas", preset="smoke")[0])
               for seed in range(3)]
    queueing.go_on(runs)
    records = until(lambda: all(found := [read_json(folder.process_json) for folder in folders]) and found, "all have jobs")
    jobs = [str(record["job"]) for record in records]
    assert len(set(jobs)) == 3 == len({record["ticket"] for record in records})
    if records[0]["cluster"] != "local":
        assert sorted(jobs) == [f"{jobs[0].partition('_')[0]}_{task}" for task in range(3)]
    until_step(runs, folders[0].id, 2)
    requests.force_stop(runs, folders[1].id)
    assert until_status(runs, folders[1].id, "stopped").attempt == 1
    for folder in (folders[0], folders[2]):
        check_finished(folder, 1)
    requests.resume(runs, folders[1].id)
    check_finished(folders[1], 2)


@pytest.mark.parametrize("runs", [pytest.param("slurm", marks=pytest.mark.slow)], indirect=True)
def test_a_run_whose_job_is_pre_empted_waits_and_goes_on_in_another_job(runs: Path) -> None:
    folder = launch(runs)
    first = (read_json(folder.process_json) or {})["job"]
    until((folder.checkpoint / "last.pt").exists, "a checkpoint")
    urgent = subprocess.run(["sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"],
                            capture_output=True, text=True, check=True).stdout.strip()
    ended = until(lambda: read_json(folder.exit_json), "the end of the first job")
    assert ended["status"] == "failed" and ended["cause"].startswith(f"Slurm job {first} was lost. ")
    second = until(lambda: (one := read_json(folder.process_json) or {})["attempt"] == 2 and one, "another attempt")
    assert requests.status(runs, folder.id).cause == f"Slurm job {second['job']} waits in the queue of the cluster."
    subprocess.run(["scancel", urgent], check=True)
    check_finished(folder, 2)


@pytest.mark.parametrize("runs", [pytest.param("slurm", marks=pytest.mark.slow)], indirect=True)
def test_a_job_that_waits_in_the_cluster_is_withdrawn_by_stop_and_a_refused_one_says_why(runs: Path) -> None:
    urgent = subprocess.run(["sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"],
                            capture_output=True, text=True, check=True).stdout.strip()
    (run_id,) = requests.submit(runs, "search", LONG, method="arnas", preset="smoke")
    waiting = until(lambda: (one := requests.status(runs, run_id)).cause.startswith("Slurm job ") and one, "a submitted job")
    assert (waiting.status, waiting.attempt, waiting.can_stop) == ("queued", 1, True)
    requests.request_stop(runs, run_id)
    stopped = until_status(runs, run_id, "stopped")
    assert stopped.cause == "Stopped before it started."
    subprocess.run(["scancel", urgent], check=True)
    assert not node(runs)
    write_choice(runs, choice_of("slurm", {"partition": "nowhere", "gpus": 0, "memory_gb": 1}))
    requests.resume(runs, run_id)
    why = until(lambda: (one := read_json(runs / "queue.json") or {})["why"].get(run_id, "").startswith("Slurm") and one["why"],
                "the refusal is told")
    assert "invalid partition" in why[run_id] and not workers(runs)
