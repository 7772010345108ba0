"""Runs folders for the page tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import session
from tests import sample_runs
from tests.app.pages import pretend_supervisor
from tests.sample_studies import write_sample_studies


@dataclass(frozen=True)
class Samples:
    """A runs folder with runs in every state, and the id of each by its role."""

    root: Path
    ids: dict[str, str]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty runs folder, which the dashboard uses."""
    yield from runs_folder(tmp_path / "runs", monkeypatch)


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Samples]:
    """Runs in every state: finished, running, failed, stopped, resumed, and one whose run.json is corrupt."""
    for root in runs_folder(tmp_path / "runs", monkeypatch):
        ids = sample_runs.write_sample_runs(root)
        ids["corrupt"] = "20261118-0930-arnas-digits-dead"
        (root / ids["corrupt"]).mkdir()
        (root / ids["corrupt"] / "run.json").write_text("{not json", encoding="utf-8")
        yield Samples(root, ids)


@pytest.fixture(scope="session")
def written_studies(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """A runs folder with studies in every state, from which tests get copies."""
    root = tmp_path_factory.mktemp("studies") / "runs"
    root.mkdir()
    pretend_supervisor(root)
    return Samples(root, write_sample_studies(root))


@pytest.fixture
def sample_studies(written_studies: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Samples]:
    """Studies in every state: finished, demonstration, running, failed, stopped and waiting."""
    for root in runs_folder(tmp_path / "runs", monkeypatch):
        shutil.copytree(written_studies.root, root, dirs_exist_ok=True)
        yield Samples(root, written_studies.ids)


def runs_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield an empty runs folder that the dashboard uses; on leaving, end the dashboard's thread and log and delete it."""
    root.mkdir()
    pretend_supervisor(root)
    monkeypatch.setenv("RAMPART_RUNS", str(root))
    monkeypatch.setattr(session, "PATIENCE_S", 60.0)  # pages are drawn once, so they are drawn with all runs
    yield root
    # The thread must not be inside DuckDB when the interpreter ends.
    session.close()
    shutil.rmtree(root, ignore_errors=True)
