"""Measurements of a run's processes, of its machine and of its GPUs. Imports no torch. psutil and NVML are imported when used.

A measurement takes less than a millisecond (`python -m benchmarks.telemetry`).
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.files import free_bytes
from engine.run.event import Event
from engine.run.event_kinds import GpuTelemetry, Telemetry

# The first measurement begins this long after the start of the worker, and ends with the first event `EVERY_S` later.
AFTER_S = 2.0
EVERY_S = 10.0


class Telemeter:
    """A meter that is read about every ten seconds, and returns means over the time since the last reading."""

    def __init__(self, folder: Path, device: str, *, done: float, passes: int, name: str = "",
                 others: Sequence[int] = ()) -> None:
        """Begin to measure.

        Args:
            folder: folder of the run, whose disk is watched.
            device: device of the run's worker, "cpu" or "cuda:N".
            done: units of work completed so far.
            passes: forward passes made so far.
            name: names of the run's GPUs in the events, separated by ", "; "" for `device`. The first belongs to `device`, the
                second to "cuda:1", and so on.
            others: ids of the further processes of the run, whose load counts as well.
        """
        import psutil

        self._psutil, self._folder = psutil, folder
        self._processes = [psutil.Process(pid) for pid in (os.getpid(), *others)]
        names = (name or device).split(", ")
        places = [device, *(f"cuda:{number}" for number in range(1, len(names)))]
        self._gpus = [gpu for place, one in zip(places, names, strict=True) if (gpu := Gpu.of(place, name=one)) is not None]
        self._before = time.monotonic(), self._cpu_s(), done, passes
        self._machine = self._machine_times()

    def measure(self, *, done: float, passes: int, unit: str) -> list[Event]:
        """Return events with the means since the last call, or an empty list if the machine cannot be measured.

        Args:
            done: units of work completed so far.
            passes: forward passes made so far.
            unit: the unit of `done`.
        """
        try:
            now = time.monotonic(), self._cpu_s(), done, passes
            seconds, cpu, units, made = (after - before for after, before in zip(now, self._before, strict=True))
            self._before = now
            memory, free = self._psutil.virtual_memory(), free_bytes(self._folder)
            load, resident = self._machine_load(), sum(one.memory_info().rss for one in self._processes)
        except (OSError, self._psutil.Error):  # a measurement never ends a run
            return []
        events: list[Event] = [Telemetry(
            process_cores=round(cpu / seconds, 3), machine_cpu=round(load, 3), memory_bytes=int(resident),
            machine_free_bytes=int(memory.available), machine_bytes=int(memory.total), disk_free_bytes=free, unit=unit,
            units_per_s=round(max(units, 0.0) / seconds, 4), passes_per_s=round(max(made, 0) / seconds, 3))]
        return events + [measured for gpu in self._gpus if (measured := gpu.measure()) is not None]

    def _cpu_s(self) -> float:
        """Return the CPU seconds that the processes have used so far."""
        return time.process_time() + sum(sum(one.cpu_times()[:2]) for one in self._processes[1:])

    def _machine_times(self) -> tuple[float, float]:
        """Return (idle seconds, all seconds) since the machine's boot, summed over its cores."""
        times = self._psutil.cpu_times()
        # A guest's time is also in the user's time.
        every = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return times.idle + getattr(times, "iowait", 0.0), every

    def _machine_load(self) -> float:
        """Return the load of all cores since the last call, 0..1.

        `psutil.cpu_percent` cannot be used, because it compares with the last call from the same thread, and several threads
        measure.
        """
        before, self._machine = self._machine, self._machine_times()
        idle, every = (after - earlier for after, earlier in zip(self._machine, before, strict=True))
        return min(1.0, max(0.0, 1 - idle / every)) if every > 0 else 0.0


class Gpu:
    """The NVIDIA GPU of a run, as seen by NVML."""

    def __init__(self, device: str, nvml: Any, handle: Any) -> None:
        """Wrap a device of NVML. Use `of` instead."""
        self.device, self._nvml, self._handle = device, nvml, handle

    @classmethod
    def of(cls, device: str, uuid: str | None = None, name: str = "") -> Gpu | None:
        """Return the GPU; None for a CPU, if the package nvidia-ml-py is missing, or if NVML does not know the GPU.

        Args:
            device: device of the run, "cpu" or "cuda:N".
            uuid: UUID of the GPU, without the prefix "GPU-"; None to get it from torch. The N in `device` cannot replace it,
                because torch and NVML may number the GPUs differently.
            name: name by which its measurements are recorded; "" for `device`.
        """
        torch = sys.modules.get("torch")
        if not device.startswith("cuda") or (uuid is None and torch is None):
            return None
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
            if uuid is None and torch is not None:
                uuid = str(torch.cuda.get_device_properties(device).uuid)
            return cls(name or device, nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        except (nvml.NVMLError, AssertionError, RuntimeError):  # the last two from torch, if the worker sees no such GPU
            return None

    def measure(self) -> GpuTelemetry | None:
        """Return utilisation, memory and temperature of the GPU, or None if it no longer answers."""
        nvml, handle = self._nvml, self._handle
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            return GpuTelemetry(
                device=self.device, name=str(nvml.nvmlDeviceGetName(handle)),
                utilisation=nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100, memory_bytes=int(memory.used),
                memory_total_bytes=int(memory.total),
                temperature_c=float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))
        except nvml.NVMLError:
            return None
