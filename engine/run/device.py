"""Devices, on which runs compute, and their assignment to runs. By default, a device has at most one run at a time.

Imports no torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import ConfigError

CPU_SLOTS = RUNS_PER_GPU = 1
MOST_PROCESSES = 64  # of one run
RUNS_PER_SHARED_GPU = 2  # at most, where small runs share GPUs and the user has chosen no number
# What a run that shares a GPU may take beyond its measured tensors: fragments of the allocator, and the CUDA context of its
# process. Assumed, since it has not been measured on a GPU yet.
SHARE_FACTOR, PROCESS_BYTES = 1.25, 1_000_000_000
# The GPUs of the machine as JSON, [[title, bytes of memory], ...], instead of those that torch finds. Only tests set it.
VARIABLE = "RAMPART_GPUS"
QUESTION = ("import json, torch; count = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
            "found = [torch.cuda.get_device_properties(index) for index in range(count)]; "
            "print(json.dumps([[one.name, one.total_memory] for one in found]))")


@dataclass(frozen=True)
class Device:
    """A device on which runs can compute.

    Attributes:
        name: "cpu" or "cuda:N".
        title: name of the hardware, for example "NVIDIA H100 80GB HBM3"; "" if unknown.
        memory_bytes: its memory in bytes; 0 if unknown, and for a CPU.
        slots: number of runs that it takes at the same time; None if the user decides, as for the devices of one machine.
    """

    name: str
    title: str = ""
    memory_bytes: int = 0
    slots: int | None = None

    @property
    def kind(self) -> str:
        """The kind of device, "cpu" or "cuda". A run keeps its kind of device for life, because its results depend on it."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Resources:
    """The devices that a launcher offers.

    Attributes:
        devices: the CPU and the GPUs. A device of a cluster stands for all devices of its kind.
        threads: number of CPU threads of a run that shares them with no other run.
        is_one_machine: True if all runs share the CPU cores of one machine. False if each run has cores of its own.
    """

    devices: tuple[Device, ...]
    threads: int
    is_one_machine: bool = True

    @property
    def gpus(self) -> tuple[str, ...]:
        """Names of the GPUs, such as "cuda:0"."""
        return tuple(one.name for one in self.devices if one.kind == "cuda")

    def uses_cpu(self, wanted: str) -> bool:
        """Return True if a run with this setting `device` uses the CPU."""
        return wanted == "cpu" or (wanted == "auto" and not self.gpus)

    def candidates(self, wanted: str, model: str = "") -> tuple[Device, ...]:
        """Return the devices that a run with the setting `device` may use; at least one.

        Args:
            wanted: "auto", "cpu", "cuda" or "cuda:N". "auto" means any GPU, or the CPU if there are no GPUs. A device that does
                not exist is returned nevertheless, so that the run fails with a message instead of waiting forever.
            model: title of the GPU on which the run has computed before; "" if on none. If there are such GPUs, the run uses one
                of them, because its results are equal only there.
        """
        if self.uses_cpu(wanted):
            return tuple(one for one in self.devices if one.kind == "cpu") or (Device("cpu"),)
        name = wanted if wanted.startswith("cuda:") else ""
        found = tuple(one for one in self.devices if one.kind == "cuda" and name in ("", one.name))
        found = tuple(one for one in found if one.title == model) or found
        return found or (Device(name or "cuda:0"),)

    def free_device(self, wanted: str, busy: Sequence[str], cpu_slots: int = CPU_SLOTS, runs_per_gpu: int = RUNS_PER_GPU,
                    model: str = "") -> str | None:
        """Return the device that a run may use now, or None if it has to wait. It is the device with the fewest runs.

        Args:
            wanted: the run's setting `device`, as in `candidates`.
            busy: names of the devices of the living workers, one entry per worker.
            cpu_slots: number of runs that may use the CPU at the same time, if the user decides.
            runs_per_gpu: number of runs that may use one GPU at the same time, if the user decides.
            model: title of the GPU on which the run has computed before, as in `candidates`.
        """
        device = min(self.candidates(wanted, model), key=lambda one: busy.count(one.name))
        slots = device.slots or (cpu_slots if device.kind == "cpu" else runs_per_gpu)
        return device.name if busy.count(device.name) < slots else None

    def free_devices(self, wanted: str, busy: Sequence[str], processes: int, cpu_slots: int = CPU_SLOTS,
                     runs_per_gpu: int = RUNS_PER_GPU, model: str = "") -> tuple[str, ...]:
        """Return the devices that a run with several processes may use now; empty if it has to wait.

        On a CPU, and on a cluster, this is one device. On the GPUs of one machine, it is one for each process, all of one model.

        Args:
            wanted, busy, cpu_slots, runs_per_gpu, model: as in `free_device`.
            processes: number of processes of the run.
        """
        if processes == 1 or self.uses_cpu(wanted) or not self.is_one_machine:
            free = self.free_device(wanted, busy, cpu_slots, runs_per_gpu, model)
            return () if free is None else (free,)
        alike: dict[str, list[str]] = {}
        for one in sorted(self.candidates(wanted, model), key=lambda one: busy.count(one.name)):
            if busy.count(one.name) < (one.slots or runs_per_gpu):
                alike.setdefault(one.title, []).append(one.name)
        return next((tuple(names[:processes]) for names in alike.values() if len(names) >= processes), ())

    def most_alike(self, wanted: str) -> int:
        """Return the largest number of processes that a run with the setting `device` may have."""
        if self.uses_cpu(wanted) or not self.is_one_machine:
            return MOST_PROCESSES
        titles = [one.title for one in self.candidates(wanted)]
        return max(map(titles.count, titles))

    def gpu_to_share(self, wanted: str, busy: Sequence[tuple[str, int]], needs: int, most: int, model: str = "") -> str | None:
        """Return the GPU on which the memory of a run fits beside that of the runs there; None if there is none.

        It is the GPU whose runs need the least memory. No run shares a GPU with a run whose memory is unknown.

        Args:
            wanted: the run's setting `device`, as in `candidates`.
            busy: (name of the device, measured bytes on the device or 0 if unknown) of each living worker.
            needs: measured bytes of the run on the device; 0 if unknown.
            most: number of runs that may share one GPU.
            model: title of the GPU on which the run has computed before, as in `candidates`.
        """
        if not needs or self.uses_cpu(wanted):
            return None
        fitting = []
        for device in self.candidates(wanted, model):
            there = [memory for name, memory in busy if name == device.name]
            total = sum(map(_reserved, (*there, needs)))
            if all(there) and len(there) < most and total <= device.memory_bytes:
                fitting.append((total, device.name))
        return min(fitting)[1] if fitting else None


def _reserved(memory: int) -> int:
    """Return the bytes that a run with `memory` bytes of tensors is taken to need on a shared GPU."""
    return round(SHARE_FACTOR * memory) + PROCESS_BYTES


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def of_this_machine() -> Resources:
    """Return the CPU and the GPUs of this machine. The first call takes seconds if there may be a GPU, see `gpu_table`.

    Raises:
        ConfigError: $RAMPART_GPUS is not valid.
    """
    return Resources((Device("cpu"), *gpu_table()), cores())


@cache
def gpu_table() -> tuple[Device, ...]:
    """Return the GPUs that the installed torch can use: "cuda:0" and so on.

    If the machine has an NVIDIA device, the first call takes seconds, because a separate process has to import torch.

    Raises:
        ConfigError: $RAMPART_GPUS is not valid.
    """
    if told := os.environ.get(VARIABLE):
        return _told(told)
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return ()
    try:
        answer = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, text=True, timeout=120, check=True)
        return _told(answer.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, IndexError, ConfigError):
        return ()


def _told(text: str) -> tuple[Device, ...]:
    try:
        return tuple(Device(f"cuda:{index}", str(title), int(memory)) for index, (title, memory) in enumerate(json.loads(text)))
    except (TypeError, ValueError):
        raise ConfigError(f'{VARIABLE} must be a list of GPUs such as [["Test GPU", 16000000000]], got {text!r:.80}.') from None


def gpus() -> tuple[str, ...]:
    """Return the names of the GPUs that the installed torch can use: ("cuda:0", ...)."""
    return tuple(one.name for one in gpu_table())


def devices_of(process: Mapping[str, Any]) -> list[str]:
    """Return the names of the devices that the attempt in process.json uses, as its launcher calls them."""
    return list(process.get("devices") or [str(process.get("device", ""))])
