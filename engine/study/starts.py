"""When waiting runs are expected to start, from the progress of running runs and the durations of finished ones.

The slots of the devices are filled in the order of the queue, as the supervisor does it. Imports no torch.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.config import RunConfig
from engine.configuring import recorded
from engine.errors import ConfigError, RunError
from engine.run import device
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
        device: "cpu" or "cuda:N".
        threads: number of CPU threads; None if unknown.
        started: time at which its process started, in unix seconds; None if unknown.
    """

    folder: RunFolder
    device: str
    threads: int | None
    started: float | None

    @classmethod
    def of(cls, folder: RunFolder) -> Running:
        """Return the running run in a folder."""
        process: dict[str, Any] = read_json(folder.process_json) or {}
        return cls(folder, str(process.get("device", "")), process.get("threads"), process.get("started"))


@dataclass(frozen=True)
class Outlook:
    """Expected times, in seconds from now. A run whose time is unknown is missing.

    Attributes:
        starts: {id of a waiting run: seconds until it starts}.
        left: {id of a running run: seconds until it ends}.
    """

    starts: dict[str, float]
    left: dict[str, float]


def expected(runs: Path, waiting: Sequence[Waiting], running: Sequence[Running], queue: Queue, cpu_slots: int) -> Outlook:
    """Return when waiting runs start and running runs end.

    Args:
        runs: folder of all runs.
        waiting: waiting runs in the order of the queue, without those whose parent failed, was stopped or is missing.
        running: runs that use a device now.
        queue: the user's decisions.
        cpu_slots: number of CPU slots if the user has chosen none.
    """
    durations = Durations(runs)
    left = {one.folder.id: _left(one, durations) for one in running}
    lengths = {run.folder.id: _length(run.folder, durations) for run in waiting}
    starts = _fill([run for run in waiting if not queue.hold(run.folder.id)], {run.folder.id for run in waiting}, running, left,
                   lengths, queue, cpu_slots)
    return Outlook(starts, {name: seconds for name, seconds in left.items() if math.isfinite(seconds)})


def _fill(pending: list[Waiting], unfinished: set[str], running: Sequence[Running], left: dict[str, float],
          lengths: dict[str, float], queue: Queue, cpu_slots: int) -> dict[str, float]:
    """Let runs start and end one after another, and return {id: seconds until the start}. An unknown end stops a device."""
    ends = [(left[one.folder.id], one.folder.id) for one in running]
    heapq.heapify(ends)
    used = {one.folder.id: (one.device, one.threads) for one in running}
    unfinished = unfinished | used.keys()
    starts: dict[str, float] = {}
    now = 0.0
    while pending and math.isfinite(now):
        full: set[tuple[str, bool]] = set()  # kinds of requests for which no device is free
        for run in pending:
            single = run.in_study and run.threads == 1
            if run.parent in unfinished or (run.device, single) in full:
                continue
            slots = cpu_slots_for(single, [threads for name, threads in used.values() if name == "cpu"], queue.cpu_slots,
                                  cpu_slots)
            free = device.free_device(run.device, [name for name, _ in used.values()], slots,
                                      queue.runs_per_gpu or device.RUNS_PER_GPU)
            if free is None:
                full.add((run.device, single))
                continue
            starts[run.folder.id] = now
            used[run.folder.id] = (free, run.threads)
            heapq.heappush(ends, (now + lengths[run.folder.id], run.folder.id))
        pending = [run for run in pending if run.folder.id not in starts]
        if not ends:
            break
        now, over = heapq.heappop(ends)
        del used[over]
        unfinished.discard(over)
    return starts


def _left(run: Running, durations: Durations) -> float:
    """Return the seconds until a running run ends; infinity if unknown."""
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
    """Return (kind, search method, preset, configuration) of a run; None if it cannot be read. run.json never changes."""
    try:
        run = RunFolder(runs, run_id).read_run()
        return run["kind"], run.get("method") if run["kind"] == "search" else None, str(run.get("preset")), recorded(run)
    except (ConfigError, RunError, KeyError):
        return None
