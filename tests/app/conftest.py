"""Runs folders for the page tests."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import sample_runs
from tests.app.pages import pretend_supervisor


@dataclass(frozen=True)
class Samples:
    """A runs folder with runs in every state, and the id of each by its role."""

    root: Path
    ids: dict[str, str]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty runs folder, set as the dashboard's."""
    yield from _folder(tmp_path / "runs", monkeypatch)


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Samples]:
    """Runs in every state: finished, running, failed, stopped, resumed, and one whose run.json is corrupt."""
    for root in _folder(tmp_path / "runs", monkeypatch):
        ids = sample_runs.write_sample_runs(root)
        ids["corrupt"] = "20261118-0930-arnas-digits-dead"
        (root / ids["corrupt"]).mkdir()
        (root / ids["corrupt"] / "run.json").write_text("{not json", encoding="utf-8")
        yield Samples(root, ids)


def _folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root.mkdir()
    pretend_supervisor(root)
    monkeypatch.setenv("RAMPART_RUNS", str(root))
    yield root
    # The hub's thread ends with its folder; it must not be inside DuckDB when the interpreter exits.
    shutil.rmtree(root, ignore_errors=True)
    for thread in threading.enumerate():
        if thread.name == "rampart-ingest":
            thread.join(timeout=10)
