"""Runs folders with real processes: wait for conditions, and end every process afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from engine import requests
from engine.files import atomic_write_json
from engine.run.events import read_events
from engine.run.folder import RunFolder, read_json
from engine.run.state import RunState, identity

# Generous, because the machine may be busy; nothing waits that long when all is well.
PATIENCE_S = 180.0


@contextmanager
def processes_of(runs: Path) -> Iterator[Path]:
    """Yield `runs`; on exit, kill its supervisor and every worker recorded in it, by pid."""
    try:
        yield runs
    finally:
        records = [runs / "control" / "supervisor.json", *runs.glob("*/process.json")]
        for path in records:
            record = read_json(path) or {}
            try:
                process = psutil.Process(int(record["pid"]))
                if abs(process.create_time() - record["create_time"]) < 3 and process.pid != os.getpid():
                    process.kill()
                    process.wait(5)
            except (psutil.Error, KeyError):
                continue


def without_supervisor(runs: Path) -> Path:
    """Record this process as the supervisor, so that requests are written but not carried out; return `runs`."""
    (runs / "control").mkdir(parents=True, exist_ok=True)
    atomic_write_json(runs / "control" / "supervisor.json", identity(os.getpid()))
    return runs


def until(happened: Callable[[], Any], what: str, patience_s: float = PATIENCE_S, every_s: float = 0.02) -> Any:
    """Return the first true value of `happened()`; raise AssertionError with `what` at the timeout."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        value = happened()
        if value:
            return value
        time.sleep(every_s)
    raise AssertionError(f"did not happen in {patience_s:.0f} s: {what}")


def until_status(runs: Path, run_id: str, *wanted: str) -> RunState:
    """Wait until the run has one of the statuses; report an unexpected failure with the run's log."""
    def reached() -> RunState | None:
        state = requests.status(runs, run_id)
        if state.status == "failed" and "failed" not in wanted:
            raise AssertionError(f"{run_id} failed: {state.cause}\n" + "\n".join(RunFolder(runs, run_id).last_lines()))
        return state if state.status in wanted else None

    return until(reached, f"{run_id} {wanted}")


def until_step(runs: Path, run_id: str, step: int) -> None:
    """Wait until the events show that `step` steps are done."""
    events = RunFolder(runs, run_id).events
    until(lambda: any(event.get("step", 0) >= step for event in read_events(events)[0]), f"{run_id} at step {step}")


def events_of(runs: Path, run_id: str, name: str | None = None) -> list[dict[str, Any]]:
    """Return the run's events, of one name or all, without those that a later attempt superseded."""
    kept: list[dict[str, Any]] = []
    for event in read_events(RunFolder(runs, run_id).events)[0]:
        if event["event"] == "resumed":
            kept = [one for one in kept if one.get("step", 0) <= event["from_step"]]
        kept.append(event)
    return [event for event in kept if name is None or event["event"] == name]
