"""The user's decisions about the queue of a runs folder: order, pause, and how many runs share a device. Imports no torch.

The decisions are in control/queue.json. Pages and the command line change the file, under a lock. The supervisor reads it every
time it looks for runs to start, so that a decision takes effect at once and outlives the supervisor. Without the file, runs start
in the order of their launches. The file queue.json next to the runs is the supervisor's answer: the order, and why each run
waits.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.files import atomic_write_json
from engine.run.folder import ID_PATTERN, read_json

MOST_CPU_SLOTS, MOST_PER_GPU = 256, 16
PAUSED, PAUSING = "The queue is paused.", "The queue pauses after the chains that have begun."


@dataclass(frozen=True)
class Queue:
    """The user's decisions about the queue.

    Attributes:
        paused_at: time at which the queue was paused, in unix seconds; None if it is not paused.
        exempt: ids of runs that start although the queue is paused: followers of runs that were running when it was paused.
        order: ids of runs in the order in which they start. Other runs come after them.
        ordered_at: time at which the user chose the order, in unix seconds. Runs that were launched or resumed later come last.
        cpu_slots: number of runs that may use the CPU at the same time; None for the default.
        runs_per_gpu: number of runs that may use a GPU at the same time; None for the default, which is 1 or, if runs share GPUs,
            `engine.run.device.RUNS_PER_SHARED_GPU`.
        share_gpus: True if a run may use a GPU together with others only if the measured memory of all of them fits.
    """

    paused_at: float | None = None
    exempt: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    ordered_at: float = 0.0
    cpu_slots: int | None = None
    runs_per_gpu: int | None = None
    share_gpus: bool = False

    @property
    def is_paused(self) -> bool:
        """True if the user has paused the queue. While it is paused, no run starts except those in `exempt`."""
        return self.paused_at is not None

    def hold(self, run_id: str) -> str:
        """Return a sentence that says that the queue is paused, if the pause keeps this run from starting; otherwise ""."""
        if self.paused_at is None or run_id in self.exempt:
            return ""
        return PAUSING if self.exempt else PAUSED


def path_of(runs: Path) -> Path:
    """Return the path of the file with the user's decisions about the queue."""
    return runs / "control" / "queue.json"


def read_queue(runs: Path) -> Queue:
    """Return the user's decisions about the queue of a runs folder. The answer is cached until the file changes.

    Raises:
        RunError: the file cannot be read, or a value has the wrong type.
    """
    try:
        stamp = os.stat(path_of(runs))
        return _read(runs, stamp.st_mtime_ns, stamp.st_ino)
    except FileNotFoundError:
        return Queue()
    except OSError as problem:
        raise RunError(f"{path_of(runs)} must be readable and is not ({problem.strerror}); change its permissions.") from None


@lru_cache(maxsize=64)
def _read(runs: Path, mtime_ns: int, inode: int) -> Queue:
    record = read_json(path_of(runs)) or {}
    checks = {
        "paused_at": (record.get("paused_at"), _is_number(record.get("paused_at"), optional=True), "unix seconds"),
        "exempt": (record.get("exempt", []), _is_ids(record.get("exempt", [])), "a list of run ids"),
        "order": (record.get("order", []), _is_ids(record.get("order", [])), "a list of run ids"),
        "ordered_at": (record.get("ordered_at", 0.0), _is_number(record.get("ordered_at", 0.0)), "unix seconds"),
        "cpu_slots": (record.get("cpu_slots"), _is_slots(record.get("cpu_slots"), MOST_CPU_SLOTS),
                      f"a whole number from 1 to {MOST_CPU_SLOTS}"),
        "runs_per_gpu": (record.get("runs_per_gpu"), _is_slots(record.get("runs_per_gpu"), MOST_PER_GPU),
                         f"a whole number from 1 to {MOST_PER_GPU}"),
        "share_gpus": (record.get("share_gpus", False), isinstance(record.get("share_gpus", False), bool), "true or false")}
    for name, (value, good, expected) in checks.items():
        if not good:
            raise RunError(f"{name} in control/queue.json must be {expected}, got {value!r:.60}; delete the file to start "
                           "without decisions.")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, (value, _, _) in checks.items()}
    return Queue(**values)


def _is_number(value: Any, *, optional: bool = False) -> bool:
    return (optional and value is None) or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and ID_PATTERN.fullmatch(one) for one in value)


def _is_slots(value: Any, most: int) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most)


def change_queue(runs: Path, change: Callable[[Queue], Queue]) -> Queue:
    """Replace the user's decisions about the queue by the result of `change`, and return the new decisions.

    A lock prevents other changes during the call.

    Raises:
        RunError: the file cannot be read or written, or `change` refuses the request.
    """
    control = runs / "control"
    try:
        control.mkdir(parents=True, exist_ok=True)
        with (control / "queue.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            after = change(read_queue(runs))
            atomic_write_json(path_of(runs), asdict(after))
    except OSError as problem:
        raise RunError(f"The queue could not be changed in {control} ({problem.strerror}); free some space or make the folder "
                       "writable, and try again.") from None
    return after


def paused(queue: Queue, now: float, exempt: Sequence[str] = ()) -> Queue:
    """Return the queue in its paused state, in which only the runs in `exempt` start. An existing pause keeps its time."""
    return replace(queue, paused_at=queue.paused_at or now, exempt=tuple(exempt))


def continued(queue: Queue) -> Queue:
    """Return the queue without a pause."""
    return replace(queue, paused_at=None, exempt=())


def moved(order: Sequence[str], parents: Mapping[str, str | None], run_id: str, before: str | None) -> list[str]:
    """Return the order after moving a run directly before another run, or to the end.

    A run cannot start before its parent. Therefore, a run that moves ahead takes along the waiting runs that it needs, and a run
    that moves back takes along the waiting runs that need it.

    Args:
        order: ids of the waiting runs.
        parents: {id: id of its parent} of the waiting runs.
        run_id: the run to move.
        before: run before which it will stand; None for the end.

    Raises:
        RunError: `before` is a run that must finish first.
    """
    here, there = order.index(run_id), len(order) if before is None else order.index(before)
    if there == here:
        return list(order)
    if there < here:
        kin = ancestors(parents, run_id)
        if before in kin:
            raise RunError(f"{run_id} needs {before}, which must finish first; choose an earlier place in the queue.")
        block = [one for one in order[there:] if one in kin or one == run_id]
    else:
        block = [one for one in order[:there] if one == run_id or run_id in ancestors(parents, one)]
    rest = [one for one in order if one not in block]
    at = len(rest) if before is None else rest.index(before)
    return [*rest[:at], *block, *rest[at:]]


def first(order: Sequence[str], parents: Mapping[str, str | None], run_id: str) -> list[str]:
    """Return the order with a run moved to the front, together with the waiting runs that it needs, which start before it."""
    block = [one for one in order if one == run_id or one in ancestors(parents, run_id)]
    return [*block, *(one for one in order if one not in block)]


def up(order: Sequence[str], parents: Mapping[str, str | None], run_id: str) -> list[str]:
    """Return the order with a run one place further ahead. A run stays in place if it is first or needs all runs before it."""
    kin, here = ancestors(parents, run_id), order.index(run_id)
    ahead = [one for one in order[:here] if one not in kin]
    return moved(order, parents, run_id, ahead[-1]) if ahead else list(order)


def down(order: Sequence[str], parents: Mapping[str, str | None], run_id: str) -> list[str]:
    """Return the order with a run one place further back. A run stays in place if it is last or all runs after it need it."""
    here = order.index(run_id)
    later = [place for place in range(here + 1, len(order)) if run_id not in ancestors(parents, order[place])]
    if not later:
        return list(order)
    after = later[0] + 1
    return moved(order, parents, run_id, order[after] if after < len(order) else None)


def ancestors(parents: Mapping[str, str | None], run_id: str) -> set[str]:
    """Return the ids of the waiting runs that must finish before a run can start: its parent, the parent's parent and so on.

    `parents` is {id: id of its parent} of the waiting runs.
    """
    found: set[str] = set()
    above = parents.get(run_id)
    while above in parents and above not in found:
        assert above is not None
        found.add(above)
        above = parents[above]
    return found
