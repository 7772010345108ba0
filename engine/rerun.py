"""Runs made from other runs: an exact repetition, and the settings in which two runs differ. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import requests
from engine.configuring import recorded
from engine.errors import RunError
from engine.run.folder import RunFolder


@dataclass(frozen=True)
class Changed:
    """A setting in which two runs differ.

    Attributes:
        name: name of the setting.
        value: its value in the first run.
        other: its value in the second run.
    """

    name: str
    value: Any
    other: Any


def rerun(runs: Path | str, run_id: str) -> str:
    """Launch a run with exactly the settings, the seeds and the parent of another run, and return its id.

    Nothing is inherited anew from the parent, and no followers are launched. The new run uses the code that is installed now.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: there is no such run, it was imported, or it cannot be launched again.
    """
    record = RunFolder(runs, run_id).read_run()
    if record.get("imported"):
        raise RunError(f"Only runs that were launched here can be run again, {run_id} was imported; launch a retraining or an "
                       "attack that follows it instead.")
    kind = record["kind"]
    return requests.submit(runs, kind, recorded(record), method=record.get("method") if kind == "search" else None,
                           preset=record.get("preset") or "quick", parent=record.get("parent"), exact=True)[0]


def changed_settings(runs: Path | str, run_id: str, other_id: str) -> list[Changed]:
    """Return the settings in which a run differs from another one, for example from the run that it was cloned from.

    Settings are in the order of the forms. Those that only one of the two kinds of run has are left out.

    Raises:
        ConfigError, RunError: one of the runs does not exist, or its settings cannot be read.
    """
    mine, theirs = (recorded(RunFolder(runs, one).read_run()).model_dump(mode="json") for one in (run_id, other_id))
    return [Changed(name, value, theirs[name]) for name, value in mine.items() if name in theirs and theirs[name] != value]
