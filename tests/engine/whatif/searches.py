"""A search with real weights, made in this process in about a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine import requests
from engine.files import atomic_write_json
from engine.run.folder import RunFolder
from tests.engine.run.test_loops import attempt


def real_search(runs: Path, **changes: Any) -> str:
    """Run a small search on digits to its end, and return its id. This process must be the supervisor of the folder."""
    (run,) = requests.submit(runs, "search", {"threads": 1, **changes}, method="arnas", preset="smoke")
    attempt(runs, run)
    atomic_write_json(RunFolder(runs, run).process_json, {"attempt": 1, "pid": 0})
    atomic_write_json(RunFolder(runs, run).exit_json, {"attempt": 1, "status": "finished", "cause": ""})
    return run
