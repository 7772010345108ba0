"""Let every write of a worker fail once, or from then on, and compare the resumed run with an uninterrupted one.

A write is a system call that opens, writes, flushes, renames, creates or removes a file of the run. It fails as on a full disk
(ENOSPC), a disk that has become read-only (EROFS) or a broken one (EIO), or the worker is killed just before it. The run must
then end with a sentence, or go on. When the disk is well again and the run is resumed, it must finish and equal the uninterrupted
run bit for bit.
`python -m benchmarks.faults` is the command.
"""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import requests
from engine.run.folder import RunFolder
from engine.run.state import RunState
from tests.engine.run.processes import processes_of, without_supervisor
from tests.engine.run.test_resume import same
from tests.faults.comparison import results_once
from tests.faults.forked import FailingCalls, calls_of, compute_until_over
from tests.faults.power_cut import KINDS, submit
from tests.faults.record import Record

KILL = 0
ERRORS = {KILL: "a kill", **{number: errno.errorcode[number] for number in (errno.ENOSPC, errno.EROFS, errno.EIO)}}
WAYS = [(error, lasting) for error in ERRORS for lasting in ((False, True) if error else (False,))]
MOST_RESUMES = 3


@dataclass(frozen=True)
class Whole:
    """Uninterrupted runs to compare with: a search, a retraining and an attack.

    Attributes:
        runs: folder of all runs.
        ids: {kind: run id}.
        results: {kind: what must not depend on interruptions}.
        writes: {kind: the system calls that write}.
    """

    runs: Path
    ids: Mapping[str, str]
    results: Mapping[str, dict[str, Any]]
    writes: Mapping[str, list[str]]


@contextmanager
def whole_runs() -> Iterator[Whole]:
    """Yield a folder with uninterrupted runs. End its processes afterwards."""
    with tempfile.TemporaryDirectory() as folder, processes_of(without_supervisor(Path(folder) / "runs")) as runs:
        ids: dict[str, str] = {}
        writes: dict[str, list[str]] = {}
        for kind in KINDS:
            ids[kind] = submit(runs, kind, ids)
            count = runs / f"{kind}.calls"
            compute_until_over(runs, ids[kind], FailingCalls(runs / ids[kind], count, at=None).plant)
            writes[kind] = list(calls_of(count))
        yield Whole(runs, ids, {kind: results_once(runs, ids[kind]) for kind in KINDS}, writes)


def resumed(runs: Path, run_id: str) -> RunState:
    """Resume a run until it has finished, and return its state."""
    state = requests.status(runs, run_id)
    for _ in range(MOST_RESUMES):
        if state.can_resume:
            requests.resume(runs, run_id)
            state = compute_until_over(runs, run_id)
    return state


def check_told(folder: RunFolder, state: RunState) -> None:
    """Assert that a run that has ended says why in a sentence, which is not an error of the program."""
    assert state.status in ("finished", "failed"), state
    if state.status == "failed":
        assert state.cause.endswith("."), state.cause
    assert "AssertionError" not in "\n".join(folder.last_lines(200))


def fail(whole: Whole, kind: str, at: int, error: int, *, lasting: bool) -> str:
    """Let one write of a new run fail, resume the run, and compare it. Return the status that the failure led to."""
    run_id = submit(whole.runs, kind, dict(whole.ids))
    folder = RunFolder(whole.runs, run_id)
    calls = FailingCalls(folder.path, whole.runs / f"{run_id}.calls", at=at, error=error, lasting=lasting)
    state = compute_until_over(whole.runs, run_id, calls.plant)
    check_told(folder, state)
    after = resumed(whole.runs, run_id)
    assert after.status == "finished", after
    same(whole.results[kind], results_once(whole.runs, run_id))
    shutil.rmtree(folder.path)  # many runs would slow the supervisor down
    return state.status


def cases_of(whole: Whole, kinds: Sequence[str]) -> list[tuple[str, int, int, bool]]:
    """Return (kind, number of the write, error, whether it lasts) of all cases: every write once, then with the next error."""
    writes = [(kind, at) for kind in kinds for at in range(len(whole.writes[kind]))]
    return [(kind, at, *WAYS[(number + turn) % len(WAYS)])
            for turn in range(len(WAYS)) for number, (kind, at) in enumerate(writes)]


def prove(whole: Whole, kinds: Sequence[str], writes: int | None, seed: int, record: Record) -> None:
    """Let writes fail, one in each run, and record how many runs went on ("finished") or ended ("failed") at first.

    A case is wrong if the run could not be resumed, differs from the uninterrupted one, or did not say why it ended.

    Args:
        whole: uninterrupted runs.
        kinds: kinds of runs to try, in this order.
        writes: number of failing writes; None for every write of every kind of run with every error, once and lasting.
        seed: seed of the choice.
        record: outcomes.
    """
    cases = cases_of(whole, kinds)
    for kind, at, error, lasting in cases if writes is None else random.Random(seed).sample(cases, writes):
        case = f"{kind}, {ERRORS[error]} in write {at}{' and later' if lasting else ''}"
        record.attempt("writes", case, lambda: Counter([fail(whole, kind, at, error, lasting=lasting)]))  # noqa: B023 - called here
