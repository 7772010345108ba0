"""A small share of `python -m benchmarks.faults`, in a process of its own, because forked workers need one without threads."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.record import WRONG, Record


def broken(place: Path, *options: str) -> Record:
    """Return the outcomes of the command, which must succeed."""
    record = place / "record.jsonl"
    done = subprocess.run([sys.executable, "-m", "benchmarks.faults", *options, "--record", str(record)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = Record(record)
    assert found.table() in done.stdout
    return found


def test_runs_survive_failing_writes_and_damaged_files(tmp_path: Path) -> None:
    found = broken(tmp_path, "--writes", "2", "--damage", "1", "--seed", "5")
    assert {part: found.counts(part).total() for part in found.outcomes} == {"writes": 2, "clock": 1, "damage": 1}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_survive_kills_and_more_failing_writes_and_damaged_files(tmp_path: Path) -> None:
    found = broken(tmp_path, "--kills", "20", "--writes", "20", "--damage", "30", "--seed", "6")
    assert [found.counts(part).total() for part in ("writes", "damage", "clock")] == [20, 30, 3]
    assert found.counts("kills").total() >= 20 and set(found.counts("kills")) <= {"worker", "supervisor", "dashboard"}


def test_an_interrupted_command_goes_on_and_tries_what_was_wrong_again(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    record.attempt("writes", "first", lambda: Counter(["finished"]))
    record.attempt("writes", "second", lambda: Counter({"one": 1 // 0}))
    assert record.wrong() == ["writes: second"] and record.counts("writes") == {"finished": 1, WRONG: 1}
    tried: list[str] = []
    later = Record(tmp_path / "record.jsonl")
    assert later.outcomes == record.outcomes
    for case in ("first", "second", "third"):
        later.attempt("writes", case, lambda: tried.append(case) or Counter(["failed"]))  # noqa: B023 - called here
    assert tried == ["second", "third"] and not later.wrong()
    assert Record(tmp_path / "record.jsonl").table().endswith("| writes | 3 | 2 failed, 1 finished |")
