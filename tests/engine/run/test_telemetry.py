"""Telemetry of a worker: what is measured, when it is written, and how a GPU is read through NVML."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from engine.log import snapshot
from engine.run import session as session_module
from engine.run import telemetry
from engine.run.event_kinds import GpuTelemetry, Telemetry
from engine.run.folder import RunFolder
from engine.run.session import Session
from engine.run.telemetry import Gpu, Telemeter
from tests.sample_runs import EventsFile, write_run_json

RUN = "20261118-1000-arnas-digits-1a01"


def test_a_measurement_is_that_of_this_process(tmp_path: Path) -> None:
    meter = Telemeter(tmp_path, "cpu", done=2.0, passes=10)
    busy_until = time.process_time() + 0.2
    while time.process_time() < busy_until:
        pass
    found, = meter.measure(done=4.0, passes=30, unit="steps")
    assert isinstance(found, Telemetry) and 0.02 < found.process_cores <= 1.2 and 0 <= found.machine_cpu <= 1
    assert found.memory_bytes == pytest.approx(psutil.Process(os.getpid()).memory_info().rss, rel=0.2)
    assert found.machine_bytes == psutil.virtual_memory().total > found.machine_free_bytes > 0 and found.disk_free_bytes > 0
    assert found.passes_per_s == pytest.approx(10 * found.units_per_s, rel=1e-2) and found.units_per_s > 0
    later, = meter.measure(done=4.0, passes=30, unit="steps")
    assert isinstance(later, Telemetry) and later.units_per_s == 0 == later.passes_per_s


def test_the_load_of_the_machine_does_not_depend_on_the_thread_that_asks(tmp_path: Path) -> None:
    meter, found = Telemeter(tmp_path, "cpu", done=0.0, passes=0), []
    busy_until = time.process_time() + 0.3
    while time.process_time() < busy_until:
        pass
    thread = threading.Thread(target=lambda: found.extend(meter.measure(done=1.0, passes=1, unit="steps")))
    thread.start()
    thread.join()
    assert found[0].machine_cpu > 0


def test_a_folder_that_is_gone_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Telemeter(tmp_path, "cpu", done=0.0, passes=0)

    def gone(path: Path) -> int:
        raise FileNotFoundError(path)

    monkeypatch.setattr(telemetry, "free_bytes", gone)
    assert meter.measure(done=1.0, passes=1, unit="steps") == []


class Answers:
    """NVML as the package answers for one GPU; `broken` makes it fail as after a reset."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.broken = False

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        self.nvmlInit()
        return SimpleNamespace(used=2**33, total=2**36)

    def nvmlDeviceGetName(self, handle: str) -> str:
        return {"GPU-ab12": "NVIDIA H100", "GPU-cd34": "NVIDIA L4"}[handle]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=87)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 61


def test_a_gpu_is_read_until_it_no_longer_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Answers()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gpu = Gpu.of("cuda:1", "ab12")
    assert gpu is not None and gpu.measure() == GpuTelemetry(
        device="cuda:1", name="NVIDIA H100", utilisation=0.87, memory_bytes=2**33, memory_total_bytes=2**36, temperature_c=61.0)
    nvml.broken = True
    assert gpu.measure() is None and Gpu.of("cuda:1", "ab12") is None and Gpu.of("cpu") is None


def test_every_gpu_of_a_run_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sees its GPUs as cuda:0 and cuda:1, whatever the launcher calls them."""
    monkeypatch.setitem(sys.modules, "pynvml", Answers())
    uuids = {"cuda:0": "ab12", "cuda:1": "cd34"}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuids[device]))
    meter = Telemeter(tmp_path, "cuda:0", done=0, passes=0, name="cuda:2, cuda:5")
    found = [event for event in meter.measure(done=1, passes=1, unit="steps") if isinstance(event, GpuTelemetry)]
    assert [(one.device, one.name) for one in found] == [("cuda:2", "NVIDIA H100"), ("cuda:5", "NVIDIA L4")]
    monkeypatch.setattr(torch.cuda, "get_device_properties", broken)
    assert Gpu.of("cuda:1") is None


def broken(device: str) -> None:
    raise AssertionError("Invalid device id")


def test_a_session_writes_the_load_every_ten_seconds_and_the_log_reads_it(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now[0])
    write_run_json(tmp_path, RUN, "search")
    session = Session(RunFolder(tmp_path, RUN), {"kind": "search"}, attempt=1, device="cpu", threads=1)
    session.open_events()
    session.total = 1000
    for _ in range(350):
        now[0] += 0.1
        session.begin_step(1)
        session.end_step(epoch=1, passes=7)
        session.progress()
    session.close()
    with snapshot(tmp_path) as log:
        table = log.telemetry(RUN)
        assert len(table) == 3 and (table["unit"] == "steps").all() and log.gpu_telemetry(RUN).empty
        assert table["units_per_s"].tolist() == pytest.approx([10.0] * 3, rel=0.1)
        assert log.throughput(RUN)["passes_per_s"] == pytest.approx(70.0, rel=0.1)


def test_a_long_run_is_thinned_and_keeps_extremes(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    for number in range(45):
        events.step += 1
        events.write("telemetry", process_cores=1.0 + number % 2, machine_cpu=0.5, memory_bytes=1000 + (number == 17),
                     machine_free_bytes=500 - (number == 30), machine_bytes=2000, disk_free_bytes=900, unit="steps",
                     units_per_s=2.0, passes_per_s=20.0)
        for device in ("cuda:0", "cuda:1"):
            events.write("gpu", device=device, name="NVIDIA H100", utilisation=0.5, memory_bytes=100 + (number == 3),
                         memory_total_bytes=200, temperature_c=60.0)
    events.write("metric", split="weights", statistics="batch", values={"images_per_s": 64.0})
    events.write("progress", phase="search", done=0.0, total=10.0, unit="steps")
    events.t += 10
    events.write("progress", phase="search", done=5.0, total=10.0, unit="steps")
    with snapshot(tmp_path) as log:
        table = log.telemetry(RUN, most=10)
        assert len(table) == 9 and table["memory_bytes"].max() == 1001 and table["machine_free_bytes"].min() == 499
        assert table["step"].iloc[-1] == 45 and len(log.telemetry(RUN)) == 45
        gpus = log.gpu_telemetry(RUN, most=10)
        assert gpus.groupby("device").size().tolist() == [9, 9] and gpus["memory_bytes"].max() == 101
        assert log.throughput(RUN) == {"unit": "steps", "units_per_s": pytest.approx(0.5, rel=0.02), "images_per_s": 64.0,
                                       "passes_per_s": 20.0}
        assert log.throughput("20260101-0000-arnas-digits-0000") == {
            "unit": "", "units_per_s": None, "images_per_s": None, "passes_per_s": None}
