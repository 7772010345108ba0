"""Several GPUs of one machine, from a table of GPUs that do not exist: real processes, which compute nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine import queueing, requests
from engine.configuring import recorded
from engine.errors import ConfigError
from engine.files import atomic_write_json
from engine.preflight.forecast import device_memory
from engine.preflight.measurement import Measurement
from engine.preflight.measuring import place_of
from engine.preflight.shape import shapes_of
from engine.run import device
from engine.run.device import Device, Resources
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalLauncher, visible
from engine.run.supervisor import Supervisor
from engine.run.waiting import as_waiting
from tests.engine.run.processes import processes_of, until, until_status, without_supervisor

GB = 1_000_000_000
TABLE = [["Test GPU", 16 * GB], ["Test GPU", 16 * GB], ["Other GPU", 40 * GB]]


class Sleepers(LocalLauncher):
    """The launcher `local` with workers that only sleep."""

    def program(self, folder: RunFolder, start: Start) -> list[str]:
        return [sys.executable, "-S", "-c", "import time; time.sleep(600)", *super().program(folder, start)]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three GPUs, of which two are alike."""
    monkeypatch.setenv(device.VARIABLE, json.dumps(TABLE))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    device.gpu_table.cache_clear()
    yield
    device.gpu_table.cache_clear()


@pytest.fixture
def runs(tmp_path: Path, gpus: None) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def submit(runs: Path, count: int = 1, **changes: object) -> list[str]:
    return [requests.submit(runs, "search", {"threads": 1, **changes}, method="arnas", preset="smoke")[0] for _ in range(count)]


def device_of(runs: Path, run_id: str) -> str:
    return requests.status(runs, run_id).device


def end(supervisor: Supervisor, run_id: str) -> None:
    """Kill a run's worker, and wait until the supervisor has seen it."""
    os.kill(int(supervisor.workers[run_id].process["pid"]), 9)
    until(lambda: supervisor.tick() and run_id not in supervisor.workers, f"the end of {run_id}", 30)


def measure(runs: Path, run_id: str, memory: int) -> None:
    """Keep a measurement of a run's memory on a GPU, as the Launch page does."""
    record = RunFolder(runs, run_id).read_run()
    (shape,) = shapes_of(runs, [(record["kind"], recorded(record))], record["method"])
    place = place_of(runs, shape)
    place.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(place, vars(Measurement(batch=8, device_memory=memory)))


def test_each_run_gets_a_gpu_of_its_own_and_sees_no_other(runs: Path) -> None:
    ids = [*submit(runs, 4), *submit(runs, device="cpu")]
    supervisor = Supervisor(runs, launcher=Sleepers())
    supervisor.tick()
    assert [device_of(runs, one) for one in ids] == ["cuda:0", "cuda:1", "cuda:2", "", "cpu"]
    for index, run_id in enumerate(ids[:3]):
        process = psutil.Process(requests.status(runs, run_id).pid)
        assert process.environ()["CUDA_VISIBLE_DEVICES"] == str(index)
        assert process.cmdline()[process.cmdline().index("--device") + 1] == "cuda:0"
    assert "CUDA_VISIBLE_DEVICES" not in psutil.Process(requests.status(runs, ids[4]).pid).environ()
    assert (read_json(runs / "queue.json") or {})["why"] == {ids[3]: "All GPUs are taken."}
    (local, *_) = queueing.launchers(runs)
    assert [(one.name, one.title, one.used, one.slots) for one in local.devices] == [
        ("cpu", "", 1, 1), ("cuda:0", "Test GPU", 1, 1), ("cuda:1", "Test GPU", 1, 1), ("cuda:2", "Other GPU", 1, 1)]
    end(supervisor, ids[1])
    supervisor.tick()
    assert device_of(runs, ids[3]) == "cuda:1"


def test_a_run_keeps_its_kind_of_device_and_if_possible_its_model(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_run, cpu_run = submit(runs)[0], submit(runs, device="cpu")[0]
    supervisor = Supervisor(runs, launcher=Sleepers())
    supervisor.tick()
    for run_id, name, title in ((gpu_run, "cuda:0", "Test GPU"), (cpu_run, "cpu", "x86_64")):
        atomic_write_json(RunFolder(runs, run_id).environment_json, {"device": name, "device_name": title, "threads": 1})
    end(supervisor, gpu_run)
    (other,) = submit(runs)  # takes cuda:0
    supervisor.tick()
    requests.resume(runs, gpu_run)
    supervisor.tick()
    assert (device_of(runs, other), device_of(runs, gpu_run)) == ("cuda:0", "cuda:1")
    end(supervisor, gpu_run)
    requests.resume(runs, gpu_run)
    (third,) = submit(runs)
    requests.request_stop(runs, third)
    waiting = as_waiting(RunFolder(runs, gpu_run))
    table = device.of_this_machine()
    assert table.free_device(waiting.device, ["cuda:0", "cuda:1"], model=waiting.model) is None  # cuda:2 is another model
    without = Resources((Device("cpu"),), 1)
    assert without.free_device(waiting.device, []) == "cuda:0"  # it fails there with a sentence, and never uses the CPU
    end(supervisor, cpu_run)
    requests.resume(runs, cpu_run)
    assert table.free_device(as_waiting(RunFolder(runs, cpu_run)).device, []) == "cpu"


def test_a_retraining_of_several_processes_gets_gpus_of_one_model_or_waits(runs: Path) -> None:
    def retrain(processes: int) -> str:
        changes = {"genotype": "ARNAS", "processes": processes}
        return requests.submit(runs, "retrain", changes, preset="smoke")[0]

    first, second = retrain(2), retrain(2)
    supervisor = Supervisor(runs, launcher=Sleepers())
    supervisor.tick()
    process = psutil.Process(requests.status(runs, first).pid)
    assert process.environ()["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert process.cmdline()[-8:-4] == ["--threads", str(max(2, device.cores())), "--processes", "2"]
    assert (device_of(runs, first), device_of(runs, second)) == ("cuda:0, cuda:1", "")
    assert (read_json(runs / "queue.json") or {})["why"] == {second: "It needs 2 free GPUs of one model at the same time."}
    (single,) = submit(runs)
    successor = Supervisor(runs, launcher=Sleepers())
    successor.tick()
    assert device_of(runs, single) == "cuda:2"  # the others are in use
    (local, *_) = queueing.launchers(runs)
    assert [(one.name, one.used) for one in local.devices] == [("cpu", 0), ("cuda:0", 1), ("cuda:1", 1), ("cuda:2", 1)]
    with pytest.raises(ConfigError, match=r"processes must be at most 2, the number of GPUs of one model here, got 4"):
        retrain(4)
    end(successor, first)
    until(lambda: successor.tick() or device_of(runs, second) == "cuda:0, cuda:1", "the second run starts", 30)
    with pytest.raises(ConfigError, match=r"Only a retraining can have several processes"):
        end(successor, single)
        requests.resume(runs, single, 2)


def test_small_runs_share_a_gpu_only_if_switched_on_and_their_measured_memory_fits(runs: Path) -> None:
    ids = submit(runs, 3, device="cuda:0")
    measure(runs, ids[0], 5 * GB)
    assert device_memory(RunFolder(runs, ids[0])) == 5 * GB
    unmeasured = submit(runs, device="cuda:0", channels=8)
    supervisor = Supervisor(runs, launcher=Sleepers(), memory_of=device_memory)
    supervisor.tick()
    assert [device_of(runs, one) for one in ids] == ["cuda:0", "", ""]
    assert (read_json(runs / "queue.json") or {})["why"][ids[1]] == "cuda:0 is taken."
    end(supervisor, ids[0])
    queueing.set_slots(runs, share=True)
    supervisor.tick()
    assert [device_of(runs, one) for one in ids[1:]] == ["cuda:0", "cuda:0"]  # 2 x (1.25 x 5 + 1) GB of 16 GB
    requests.resume(runs, ids[0])
    supervisor.tick()
    why = (read_json(runs / "queue.json") or {})["why"]
    assert why[ids[0]] == "cuda:0 is taken, and the 5.0 GB that it was measured to need do not fit beside the runs there."
    assert why[unmeasured[0]] == "cuda:0 is taken, and its memory has not been measured, so it shares none."
    successor = Supervisor(runs, launcher=Sleepers(), memory_of=device_memory)
    successor.tick()
    assert sorted(successor.workers) == sorted(ids[1:])
    assert queueing.view(runs).runs_per_gpu == device.RUNS_PER_SHARED_GPU


def test_memory_is_counted_with_a_reserve_and_unknown_memory_never_shares() -> None:
    table = Resources((Device("cpu"), Device("cuda:0", "A", 16 * GB), Device("cuda:1", "B", 40 * GB)), threads=1)
    assert table.gpu_to_share("auto", [("cuda:0", 5 * GB), ("cuda:1", 5 * GB)], 6 * GB, most=2) == "cuda:0"
    assert table.gpu_to_share("auto", [("cuda:0", 5 * GB), ("cuda:1", 5 * GB)], 7 * GB, most=2) == "cuda:1"
    assert table.gpu_to_share("auto", [("cuda:0", 5 * GB), ("cuda:1", 0)], 7 * GB, most=2) is None
    assert table.gpu_to_share("cuda:1", [("cuda:1", GB), ("cuda:1", GB)], GB, most=2) is None
    assert table.gpu_to_share("auto", [], 0, most=2) is None and table.gpu_to_share("cpu", [], GB, most=2) is None


def test_numbers_count_within_the_gpus_that_the_user_allows(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible("cuda:2") == {"CUDA_VISIBLE_DEVICES": "2"} and visible("cpu") == {} == visible("cuda:7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-5f,7")
    assert visible("cuda:1") == {"CUDA_VISIBLE_DEVICES": "GPU-5f"}
    assert visible("cuda:2", "cuda:0") == {"CUDA_VISIBLE_DEVICES": "7,4"}


def test_a_table_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.VARIABLE, "[[1]]")
    device.gpu_table.cache_clear()
    with pytest.raises(ConfigError, match=r"must be a list of GPUs such as"):
        device.gpu_table()
    device.gpu_table.cache_clear()


def test_a_real_worker_of_a_supervisor_process_starts_on_the_gpu_and_says_what_is_missing(tmp_path: Path, gpus: None) -> None:
    """PyTorch sees no GPU on this machine; where there is one, the run computes on it."""
    with processes_of(tmp_path / "runs") as folder:
        (run_id,) = submit(folder)
        state = until_status(folder, run_id, "failed", "finished")
        assert state.device == "cuda:0"
        assert state.status == "finished" or "The device must exist, got cuda:0" in state.cause
