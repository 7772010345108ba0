"""Expected start times of waiting runs, from the progress of running runs and the durations of finished ones.

The queue is simulated: as in the supervisor, waiting runs take free slots in the order of the queue. Imports no torch.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.config import RunConfig
from engine.configuring import recorded
from engine.errors import ConfigError, RunError
from engine.run import device
from engine.run.device import Resources, devices_of
from engine.run.folder import RunFolder, read_json
from engine.run.queue import Queue
from engine.run.waiting import Waiting, cpu_slots_for
from engine.study.estimate import Durations, progress_of

LEAST_PROGRESS = 0.02  # below, the time so far says little about the time left


@dataclass(frozen=True)
class Running:
    """A run that uses a device.

    Attributes:
        folder: folder of the run.
        device: "cpu" or "cuda:N"; several GPUs are separated by commas.
        threads: number of CPU threads; None if unknown.
        started: time at which its process started, in unix seconds; None if unknown.
        launcher: name of the launcher that started it.
        waits: what its job waits for in the queue of a cluster, as a sentence; "" if it computes.
    """

    folder: RunFolder
    device: str
    threads: int | None
    started: float | None
    launcher: str = "local"
    waits: str = ""

    @classmethod
    def of(cls, folder: RunFolder) -> Running:
        """Return the facts about the run in `folder`, which must be running."""
        process: dict[str, Any] = read_json(folder.process_json) or {}
        return cls(folder, ", ".join(devices_of(process)), process.get("threads"), process.get("started"),
                   str(process.get("launcher") or "local"), str(process.get("waits") or ""))


@dataclass(frozen=True)
class Outlook:
    """The expected times, in seconds from now. Runs whose time is unknown are missing.

    Attributes:
        starts: {id of a waiting run: seconds until it starts}.
        left: {id of a running run: seconds until it ends}.
    """

    starts: dict[str, float]
    left: dict[str, float]


def expected(runs: Path, waiting: Sequence[Waiting], running: Sequence[Running], queue: Queue, cpu_slots: int,
             resources: Resources) -> Outlook:
    """Return the expected times at which waiting runs start and running runs end.

    Args:
        runs: folder of all runs.
        waiting: waiting runs in the order of the queue, except runs whose parent failed, was stopped or is missing.
        running: runs that use a device now.
        queue: order, pause and slots that the user has chosen.
        cpu_slots: number of CPU slots if the user has chosen none.
        resources: the devices on which runs can start.
    """
    durations = Durations(runs)
    left = {one.folder.id: _left(one, durations) for one in running}
    devices = Devices(running, left, queue, cpu_slots, resources)
    pending = [run for run in waiting if not queue.hold(run.folder.id)]
    unfinished = {run.folder.id for run in waiting} | left.keys()
    starts: dict[str, float] = {}
    while pending and math.isfinite(devices.now):
        for run in devices.start([run for run in pending if run.parent not in unfinished], durations):
            starts[run.folder.id] = devices.now
        pending = [run for run in pending if run.folder.id not in starts]
        unfinished.discard(devices.next_end())
    return Outlook(starts, {name: seconds for name, seconds in left.items() if math.isfinite(seconds)})


class Devices:
    """A simulation of the devices on which runs start and end.

    Attributes:
        now: the simulated time, in seconds from the real present; infinity once no further end is known.
    """

    def __init__(self, running: Sequence[Running], left: Mapping[str, float], queue: Queue, cpu_slots: int,
                 resources: Resources) -> None:
        """Begin the simulation with the runs that are running now.

        Args:
            running: runs that use a device now.
            left: {id of a running run: expected seconds until it ends}.
            queue: the user's decisions, of which only the numbers of slots are used.
            cpu_slots: number of CPU slots if the user has chosen none.
            resources: the devices on which runs can start.
        """
        self.now = 0.0
        self._queue, self._cpu_slots, self._resources = queue, cpu_slots, resources
        self._used = {one.folder.id: (one.device, one.threads) for one in running}
        self._ends = [(left[one.folder.id], one.folder.id) for one in running]
        heapq.heapify(self._ends)

    def start(self, ready: Sequence[Waiting], durations: Durations) -> list[Waiting]:
        """Start those of the `ready` runs for which a device is free, in the given order, and return the started runs."""
        started: list[Waiting] = []
        full: set[tuple[str, bool, int]] = set()  # kinds of requests for which no device is free
        for run in ready:
            request = run.device, run.in_study and run.threads == 1, run.processes
            free = () if request in full else self._free(*request)
            if not free:
                full.add(request)
                continue
            self._used[run.folder.id] = (", ".join(free), run.threads)
            heapq.heappush(self._ends, (self.now + _length(run.folder, durations), run.folder.id))
            started.append(run)
        return started

    def _free(self, wanted: str, single: bool, processes: int) -> tuple[str, ...]:
        """Return the devices on which a run may start now; empty if it has to wait.

        Args:
            wanted: the device in the run's settings.
            single: True for a single-threaded run of a study.
            processes: number of processes of the run.
        """
        on_cpu = [threads for name, threads in self._used.values() if name == "cpu"]
        slots = cpu_slots_for(single, on_cpu, self._queue.cpu_slots, self._cpu_slots)
        busy = [name for names, _ in self._used.values() for name in names.split(", ")]
        return self._resources.free_devices(wanted, busy, processes, slots, self._queue.runs_per_gpu or device.RUNS_PER_GPU)

    def next_end(self) -> str:
        """Advance the simulated time until a run ends, and return the id of this run; "" if no run is left."""
        self.now, run_id = heapq.heappop(self._ends) if self._ends else (math.inf, "")
        self._used.pop(run_id, None)
        return run_id


def _left(run: Running, durations: Durations) -> float:
    """Return the expected seconds until a running run ends; infinity if they are unknown."""
    done = progress_of(run.folder)
    if done >= LEAST_PROGRESS and run.started is not None:
        return max(0.0, time.time() - run.started) * (1 - done) / done
    return _length(run.folder, durations) * (1 - done)


def _length(folder: RunFolder, durations: Durations) -> float:
    """Return the expected duration of a run in seconds; infinity if unknown."""
    described = _described(folder.runs, folder.id)
    seconds = None if described is None else durations.of(*described)[0]
    return math.inf if seconds is None else seconds


@lru_cache(maxsize=5_000)
def _described(runs: Path, run_id: str) -> tuple[str, str | None, str, RunConfig] | None:
    """Return (kind, search method, preset, configuration) of a run; None if it cannot be read. The result is cached."""
    try:
        run = RunFolder(runs, run_id).read_run()
        return run["kind"], run.get("method") if run["kind"] == "search" else None, str(run.get("preset")), recorded(run)
    except (ConfigError, RunError, KeyError):
        return None
