"""Damage every file of an interrupted run in every way, resume the run, and compare it with an uninterrupted one.

Also its folders are deleted, and the clock of the worker is set an hour ahead and two hours back while it computes. A resumed run
must finish and equal the uninterrupted one bit for bit, or a sentence must say what is wrong. `python -m benchmarks.faults` is
the command.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import requests
from engine.errors import RampartError, RunError
from engine.run import bell
from engine.run.folder import RunFolder
from tests.engine.run.processes import events_of
from tests.engine.run.test_resume import same
from tests.faults.comparison import results_once
from tests.faults.failing_writes import Whole
from tests.faults.forked import compute_until_over
from tests.faults.power_cut import submit
from tests.faults.record import Record

KILLED_AT_STEP = 7
CRASH = "Traceback (most recent call last)"


def flipped(data: bytes) -> bytes:
    """Return the data with one wrong bit in the middle."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 8]) + data[at + 1:] if data else data


def without(path: Path) -> None:
    """Delete a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def as_folder(path: Path) -> None:
    """Put a folder in place of a file."""
    without(path)
    path.mkdir()


def change(edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return the function that changes the content of a file."""
    return lambda path: path.write_bytes(edit(path.read_bytes())) and None


WAYS: dict[str, Callable[[Path], None]] = {
    "deleted": without, "a folder": as_folder, "empty": change(lambda data: b""),
    "half": change(lambda data: data[:len(data) // 2]), "one byte short": change(lambda data: data[:-1]),
    "one bit": change(flipped), "first bytes": change(lambda data: b"\0" * 16 + data[16:]),
    "last bytes": change(lambda data: data[:-64] + b"\0" * min(64, len(data))),
    "more bytes": change(lambda data: data + b"\xff" * 99),
    "zeros": change(lambda data: bytes(len(data))), "doubled": change(lambda data: data + data)}
# Every line of events.jsonl is valid once more, and nothing says that it was not written twice.
NOT_PROMISED = {("events.jsonl", "doubled")}


def interrupted(whole: Whole, kind: str) -> RunFolder:
    """Return a new run whose worker was killed in its last steps."""
    run_id = submit(whole.runs, kind, dict(whole.ids))
    folder = RunFolder(whole.runs, run_id)

    def kill() -> None:
        if (folder.checkpoint / "previous.pt").exists() or events_of(whole.runs, run_id, "finished"):
            pid = requests.status(whole.runs, run_id).pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)

    compute_until_over(whole.runs, run_id, meanwhile=kill)
    return folder


def places_of(folder: RunFolder) -> list[str]:
    """Return the paths of all files and folders of a run, relative to its folder, except the lock."""
    return sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*")
                  if not path.name.startswith(".") and path != folder.lock)


def damage(whole: Whole, folder: RunFolder, place: str, way: str) -> str:
    """Damage one file of a copy of an interrupted run, resume it, and check it. Return how it ended."""
    kept = folder.path.with_name(f".kept-{folder.id}")
    shutil.copytree(folder.path, kept)
    kind = str(folder.read_run()["kind"])
    try:
        WAYS[way](folder.path / place)
        try:
            requests.resume(whole.runs, folder.id)
        except RunError as refusal:
            assert str(refusal).endswith("."), refusal
            return "refused"
        bell.ring(whole.runs, folder.id)
        state = compute_until_over(whole.runs, folder.id)
        log = "\n".join(folder.last_lines(400))
        assert CRASH not in log, log[-1500:]
        if state.status == "failed":
            assert state.cause.endswith((".", "?")), state.cause
            return "failed with a sentence"
        assert state.status == "finished", state
        try:
            found = results_once(whole.runs, folder.id)
        except RampartError as problem:  # a file that is written once, at the beginning
            assert place in str(problem) and str(problem).endswith("."), problem
            return "told by its readers"
        same(whole.results[kind], found)
        return "equal"
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)
        kept.rename(folder.path)


def step_clock(whole: Whole, kind: str) -> str:
    """Set the clock of a worker and of its supervisor an hour ahead and then two hours back, and compare the run."""
    true, began = time.time, time.monotonic()
    run_id = submit(whole.runs, kind, dict(whole.ids))
    seen: set[str] = set()

    def now() -> float:  # the worker inherits it
        passed = time.monotonic() - began
        return true() + (0.0 if passed < 0.7 else 3600.0 if passed < 1.2 else -3600.0)

    time.time = now
    try:
        state = compute_until_over(whole.runs, run_id,
                                   meanwhile=lambda: seen.add(requests.status(whole.runs, run_id).status))
    finally:
        time.time = true
    assert state.status == "finished" and state.attempt == 1 and seen <= {"queued", "running", "finished"}, (state, seen)
    same(whole.results[kind], results_once(whole.runs, run_id))
    return "equal"


def prove(whole: Whole, kinds: Sequence[str], cases: int | None, seed: int, record: Record) -> None:
    """Damage files of runs and set the clock, and record how the runs ended.

    A case is wrong if the run differs from the uninterrupted one, or an error of the program reached its log.

    Args:
        whole: uninterrupted runs.
        kinds: kinds of runs to try, in this order.
        cases: number of damaged files; None for every file in every way.
        seed: seed of the choice.
        record: outcomes.
    """
    chance = random.Random(seed)
    for number, kind in enumerate(kinds):
        share = None if cases is None else len(range(number, cases, len(kinds)))
        if share == 0:
            continue
        record.attempt("clock", kind, lambda: Counter([step_clock(whole, kind)]))  # noqa: B023 - called here
        folder = interrupted(whole, kind)
        places = [(place, way) for place in places_of(folder) for way in WAYS
                  if (way == "deleted" or (folder.path / place).is_file()) and (place, way) not in NOT_PROMISED]
        for place, way in places if share is None else chance.sample(places, min(share, len(places))):
            record.attempt("damage", f"{kind}, {place}, {way}",
                           lambda: Counter([damage(whole, folder, place, way)]))  # noqa: B023 - called here
