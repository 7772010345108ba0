"""A function that launches an exact repetition of a run. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from engine import requests
from engine.acts import act, returned
from engine.configuring import recorded
from engine.errors import RunError
from engine.run.folder import RunFolder


@act("run again", returned)
def rerun(runs: Path | str, run_id: str) -> str:
    """Launch a run with exactly the settings, the seeds and the parent of another run, and return its id.

    Unlike other launches, this takes no settings over from the parent. No followers are launched. The new run uses the currently
    installed code.

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
