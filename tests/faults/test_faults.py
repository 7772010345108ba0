"""A small share of `python -m benchmarks.faults`, in a process of its own, because forked workers need one without threads."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


def broken(*options: str) -> dict[str, Any]:
    """Return what the command found, as {part: {outcome: number of cases}}."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.faults", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_runs_survive_failing_writes_and_damaged_files() -> None:
    found = broken("--writes", "2", "--damage", "1", "--seed", "5")
    assert sum(found["writes"].values()) == 2 and sum(found["damage"].values()) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_survive_kills_and_more_failing_writes_and_damaged_files() -> None:
    found = broken("--kills", "20", "--writes", "20", "--damage", "30", "--seed", "6")
    assert {part: sum(found[part].values()) for part in ("writes", "damage")} == {"writes": 20, "damage": 30}
    assert sum(found["kills"].values()) >= 20
